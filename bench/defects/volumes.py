# SPDX-License-Identifier: Apache-2.0
"""Defects of making, changing and deleting volumes and snapshots."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cinder import objects

from bench.defects.bed import OPERATION_SECONDS, OTHER_PROJECT, Bed, outcome, state_of
from bench.defects.defect import Observation, defect
from bench.defects.evidence import error_of, in_background
from testbed.cluster import GIB
from testbed.polling import wait_until

HOUR_SECONDS = 3600


@defect("1", "delete succeeds although looking the volume up was refused (401, 403, 500, 503)")
def lookup_refused(bed: Bed) -> Observation:
    bed.start()
    lost = []
    for status in (401, 403, 500, 503):
        volume = bed.cinder.create_volume()
        volume.provider_id = "default"  # as recorded by releases that did not know the UUID
        volume.save()
        with bed.fault("GetVolume", status=status):
            error = error_of(bed.cinder.delete_volume, volume.id)
        if not error and bed.volume(volume.id):
            lost.append(str(status))
    if lost:
        return Observation(True, f"told deleted on {', '.join(lost)}; the volumes are all there")
    return Observation(False, "volumes told deleted are gone; the others ended in an error")


@defect("2a", "a refused DELETE of a snapshot is reported as deleted")
def snapshot_delete_refused(bed: Bed) -> Observation:
    bed.start()
    snapshot = bed.cinder.create_snapshot(bed.cinder.create_volume().id)
    with bed.fault("DeleteSnapshot", status=403):
        error = error_of(bed.cinder.delete_snapshot, snapshot.id)
    return _kept(error, "snapshot", bed.snapshot(snapshot.name))


@defect("2b", "a clone's for_clone_* snapshot stays when its DELETE failed once")
def clone_snapshot_left(bed: Bed) -> Observation:
    bed.start()
    source = bed.cinder.create_volume()
    with bed.fault("DeleteSnapshot", status=500):
        clone = bed.cinder.create_volume(source_volid=source.id)
    state = state_of(bed.snapshot(f"for_clone_{clone.id}"))
    # With clones it stays Deleting until they are gone.
    left = state not in ("gone", "Deleting")
    return Observation(left, f"the clone is made; its snapshot is {state}")


EXTENDS = 5
"""It shows unless the time for the operation is over in the midst of a try, and not between two."""


@defect("3a", "extend succeeds although the cluster refused every try")
def extend_refused(bed: Bed) -> Observation:
    bed.start()
    for _ in range(EXTENDS):
        volume = bed.cinder.create_volume(1)
        with bed.fault("UpdateVolume", status=500, count=0):
            bed.cinder.extend_volume(volume.id, 2)
        told, size_gib = bed.cinder.volume(volume.id), _size_gib(bed, volume.id)
        if told.size != size_gib:
            break
    return Observation(
        told.size != size_gib,
        f"Cinder has {told.size} GiB ({told.status}), the cluster {size_gib} GiB",
    )


@defect("3b", "an extend that is refused for good (400) is asked for until the time is over")
def extend_asked_again(bed: Bed) -> Observation:
    bed.start()
    volume = bed.cinder.create_volume(1)
    with bed.fault("UpdateVolume", status=400, count=0) as fault:
        bed.cinder.extend_volume(volume.id, 2)
        tries = fault.hits
    return Observation(tries > 1, f"asked {tries} times")


@defect("3c", "extend does not wait for the cluster")
def extend_not_awaited(bed: Bed) -> Observation:
    bed.start()
    volume = bed.cinder.create_volume(1)
    returned = threading.Event()
    with bed.fault("UpdateVolume", stay="Updating") as fault:

        def let_it_end() -> None:
            wait_until(lambda: fault.hits, "the extend to be asked for")
            returned.wait(OPERATION_SECONDS / 4)  # time for a driver that waits to look
            bed.faults.clear(fault)

        with in_background(let_it_end):
            bed.cinder.extend_volume(volume.id, 2)
            state = state_of(bed.volume(volume.id))
            returned.set()
    told = bed.cinder.volume(volume.id)
    seen = f"Cinder has {told.size} GiB ({told.status}) when the volume is {state}"
    return Observation(state == "Updating", seen)


@defect("8a", "one 503 while waiting fails a create that worked")
def create_poll_busy(bed: Bed) -> Observation:
    bed.start()
    volume = bed.cinder.new_volume(1)
    with _busy_while_creating(bed, "CreateVolume", "GetVolume"):
        error = error_of(bed.cinder.create, volume)
    return _failed(error, bed.volume(volume.id))


@defect("8b", "one 503 while waiting fails a good snapshot, and has it deleted")
def snapshot_poll_busy(bed: Bed) -> Observation:
    bed.start()
    volume = bed.cinder.create_volume()
    snapshot = bed.cinder.new_snapshot(volume)
    with _busy_while_creating(bed, "CreateSnapshot", "GetSnapshot"):
        error = error_of(bed.cinder.take, snapshot)
    state = state_of(bed.snapshot(snapshot.name))
    bad = bool(error) or state != "Available"
    return Observation(bad, f"{outcome(error)}; the snapshot is {state}")


@contextmanager
def _busy_while_creating(bed: Bed, create: str, look: str) -> Iterator[None]:
    """What is made stays Creating until a look at it was answered 503."""
    with (
        bed.fault(create, stay="Creating") as stay,
        # The second look, because the incumbent's first one comes before it creates.
        bed.fault(look, status=503, first=2) as busy,
    ):

        def let_it_end() -> None:
            wait_until(lambda: busy.hits, "the driver to look")
            bed.faults.clear(stay)

        with in_background(let_it_end):
            yield


@defect("9a", "a 5xx while waiting for a deletion counts as deleted")
def deletion_unheard(bed: Bed) -> Observation:
    bed.start()
    volume = bed.cinder.create_volume()
    with bed.fault("DeleteVolume", stay="Deleting"), bed.fault("GetVolume", status=503):
        error = error_of(bed.cinder.delete_volume, volume.id)
        found = bed.volume(volume.id)
    return _kept(error, "volume", found)


@defect("9b", "a DELETE whose reply was lost fails because repeating it answers 404")
def delete_reply_lost(bed: Bed) -> Observation:
    bed.start()
    volume = bed.cinder.create_volume()
    with bed.fault("DeleteVolume", lose_reply=True):
        error = error_of(bed.cinder.delete_volume, volume.id)
    return _failed(error, bed.volume(volume.id))


@defect("12a", "a volume without a type makes it crash")
def untyped(bed: Bed) -> Observation:
    bed.start()
    # Cinder's database wants a type since Train; volumes from before have none.
    volume = objects.Volume(
        id=str(uuid.uuid4()),
        size=1,
        volume_type_id=None,
        volume_type=None,
        provider_id=None,
        _name_id=None,
    )
    error = error_of(bed.cinder.driver.create_volume, volume)
    return Observation(bool(error), outcome(error))


@defect("13d", "a create whose reply was lost is sent again, and its own 409 taken for a failure")
def create_reply_lost(bed: Bed) -> Observation:
    bed.start()
    volume = bed.cinder.new_volume(1)
    with bed.fault("CreateVolume", lose_reply=True):
        error = error_of(bed.cinder.create, volume)
    return _failed(error, bed.volume(volume.id))


@defect("14a", "an edited type moves old volumes: they are looked for in the type's new project")
def type_edited(bed: Bed) -> Observation:
    bed.start()
    type_id = bed.cinder.make_type()
    volume = bed.cinder.create_volume(volume_type_id=type_id)
    volume.provider_id = None  # as old releases left it
    volume.save()
    bed.cinder.edit_type(type_id, {"lightos:project_name": OTHER_PROJECT})
    bed.start()
    error = error_of(bed.cinder.delete_volume, volume.id)
    return _kept(error, "volume", bed.volume(volume.id))


@defect("14b", "a clone looks for its source in the project of the clone's type")
def clone_of_other_project(bed: Bed) -> Observation:
    bed.start()
    type_id = bed.cinder.make_type()
    source = bed.cinder.create_volume(volume_type_id=type_id)
    bed.cinder.edit_type(type_id, {"lightos:project_name": OTHER_PROJECT})
    clone = bed.cinder.new_volume(1, volume_type_id=type_id, source_volid=source.id)
    asked = bed.faults.watch(operation="CreateSnapshot")
    with bed.fault("DeleteSnapshot", status=403, count=0, met=False):  # so that it can be seen
        error = error_of(bed.cinder.create, clone)
        missed = asked.seen and bed.snapshot(f"for_clone_{clone.id}") is None
    where = "the cluster did not find it" if missed else "it was not missed"
    return Observation(bool(missed), f"{where}; {outcome(error)}")


@defect("17", "revert makes no snapshot of what is there and has no revert_to_snapshot")
def revert(bed: Bed) -> Observation:
    bed.start()
    volume = bed.cinder.create_volume()
    snapshot = bed.cinder.create_snapshot(volume.id)
    rollbacks = bed.faults.watch(operation="RollbackVolume")
    error = error_of(bed.cinder.revert, snapshot.id)
    kept = [s for s in bed.snapshots() if s["sourceVolumeName"] == volume.name]
    seen = (
        f"{outcome(error)}; rollbacks on the cluster: {rollbacks.seen}; "
        f"snapshots of what was there before: {len(kept) - 1}"
    )
    return Observation(bool(error) and len(kept) == 1, seen)


@defect("20a", "time is the wall clock's: a step of the clock fails a create that works")
def wall_clock(bed: Bed) -> Observation:
    bed.start()
    volume = bed.cinder.new_volume(1)
    wall_time, returned = time.time, threading.Event()
    looks = bed.faults.watch(operation="GetVolume")
    with bed.fault("CreateVolume", stay="Creating") as stay:

        def step_the_clock() -> None:
            wait_until(lambda: stay.hits, "the create to be asked for")
            before = looks.seen
            wait_until(lambda: looks.seen > before, "the driver to wait")
            # As NTP steps it; for this process, since the machine's clock is not ours.
            time.time = lambda: wall_time() + HOUR_SECONDS
            returned.wait(OPERATION_SECONDS / 4)
            bed.faults.clear(stay)

        try:
            with in_background(step_the_clock):
                error = error_of(bed.cinder.create, volume)
                returned.set()
        finally:
            time.time = wall_time
    return _failed(error, bed.volume(volume.id))


@defect("20b", "budgets multiply: each step of one operation may take the whole time")
def budgets(bed: Bed) -> Observation:
    bed.start()
    source = bed.cinder.create_volume()
    over_time: list[int] = []
    looks = bed.faults.watch(operation="GetVolume")
    with (
        bed.fault("CreateSnapshot", stay="Creating") as snapshot_stays,
        bed.fault("CreateVolume", stay="Creating", met=False),
    ):

        def use_most_of_the_time_for_the_snapshot() -> None:
            wait_until(lambda: snapshot_stays.hits, "the snapshot to be asked for")
            time.sleep(OPERATION_SECONDS * 0.8)
            bed.faults.clear(snapshot_stays)
            time.sleep(OPERATION_SECONDS * 0.5)
            over_time.append(looks.seen)

        with in_background(use_most_of_the_time_for_the_snapshot):
            error = error_of(bed.cinder.create_volume, source_volid=source.id)
        late = looks.seen - over_time[0]
    seen = f"{outcome(error)}; it looked {late} times after its {OPERATION_SECONDS} s were over"
    return Observation(late > 1, seen)


def _failed(error: str, volume: dict[str, Any] | None) -> Observation:
    """For an operation that works: any error is the defect."""
    return Observation(bool(error), f"{outcome(error)}; the volume is {state_of(volume)}")


def _kept(error: str, kind: str, found: dict[str, Any] | None) -> Observation:
    """For a deletion: the defect is that Cinder was told of it, and the object is there."""
    told_wrongly = not error and found is not None
    return Observation(told_wrongly, f"{outcome(error)}; the {kind} is {state_of(found)}")


def _size_gib(bed: Bed, volume_id: str) -> int:
    found = bed.volume(volume_id)
    return int(found["size"]) // GIB if found else 0
