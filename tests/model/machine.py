# SPDX-License-Identifier: Apache-2.0
"""Operations x faults x crashes, at random, and what must hold after every one of them.

The model keeps nothing that Cinder keeps: what Cinder believes is read from its database, what
the cluster did from its lists, over plain HTTPS. What the model does remember is where an error
or a crash left a doubt that Cinder allows: until the next success on that object, its size, its
type or a host's access may be as before or as asked for. That of a host without attachment is in
doubt only until the driver next refreshes its statistics.
"""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from testbed.cluster import GIB, Cluster, allowed, connector, sensitive_words
from testbed.faults import Faults
from tests.model.cinder_process import CinderProcess, CinderView, SnapshotRow, VolumeRow
from tests.model.disturbances import Disturbance, maybe_disturbed

HOSTS = tuple(connector(f"compute-{number}", number=number) for number in (1, 2, 3))


@dataclass(frozen=True)
class Type:
    """A volume type, and what its volumes are to be."""

    compression: bool = False
    iops: int | None = None

    @property
    def specs(self) -> dict[str, dict[str, str]]:
        """What an administrator sets."""
        extra = {"compression": "<is> True"} if self.compression else {}
        qos = {"total_iops_sec": str(self.iops)} if self.iops else {}
        return {"extra_specs": extra, "qos_specs": qos}


TYPES = (Type(), Type(compression=True), Type(iops=512), Type(iops=2048), Type(True, 512))
MAX_VOLUMES = 6
OPERATIONS_BETWEEN_RESTARTS = 12
MAX_GIB = 8
SETTLE_SECONDS = 30.0
CRASH_DELAY_SECONDS = 5.0
"""How long, at most, the cluster waits with the request in whose middle the driver is killed."""
GOOD = ("available", "in-use")
AT_REST = ("Available", "Migrating")

Step = TypeVar("Step", bound=Callable[..., None])


class Violation(BaseException):
    """Something that must hold does not.

    No Exception, because hypothesis would try those again: what a real cluster and a real Cinder
    did is to be looked at as it happened.
    """


@dataclass
class Bench:
    """What all examples share, and what is counted."""

    lab: dict[str, Any]
    cinder: CinderProcess
    folder: Path
    cluster: Cluster = field(init=False)
    faults: Faults = field(init=False)
    steps: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)
    secrets: set[str] = field(default_factory=set)
    log_read: int = 0
    trace: list[str] = field(default_factory=list)
    """What was done since the cluster was last empty."""

    def __post_init__(self) -> None:
        self.cluster = Cluster(self.lab)
        self.faults = Faults(self.lab)
        self.note_token()

    def note_token(self) -> None:
        """Remember what may not be in a log."""
        self.secrets.update(sensitive_words(self.lab))

    def view(self) -> CinderView:
        return CinderView.read(self.folder / "cinder.sqlite")

    def secrets_logged(self) -> list[str]:
        """Lines with a part of the token, of what was logged since the last look."""
        with (self.folder / "cinder.log").open("rb") as log:
            log.seek(self.log_read)
            text = log.read()
            self.log_read = log.tell()
        if not any(word.encode() in text for word in self.secrets):
            return []
        lines = text.decode(errors="replace").splitlines()
        return [line[:60] for line in lines if any(word in line for word in self.secrets)]


which = st.integers(0, 63)
sizes = st.integers(1, 3)
types = st.integers(0, len(TYPES) - 1)
hosts = st.sampled_from(HOSTS)


def when(condition: Callable[[CinderMachine], object]) -> Callable[[Step], Step]:
    """A rule that does nothing while its condition is not met.

    Not hypothesis' `precondition`: what it draws must not depend on how long a real cluster took.
    """

    def decorate(step: Step) -> Step:
        @functools.wraps(step)
        def perform(self: CinderMachine, **drawn: Any) -> None:
            if condition(self):
                step(self, **drawn)

        return cast(Step, perform)

    return decorate


class CinderMachine(RuleBasedStateMachine):
    """One example begins and ends with an empty cluster."""

    bench: ClassVar[Bench]

    def __init__(self) -> None:
        super().__init__()
        self.bench.trace.clear()
        self.view = self.bench.view()
        self.sizes_in_doubt: set[str] = set()
        self.types_in_doubt: set[str] = set()
        self.access_in_doubt: set[tuple[str, str]] = set()
        self.broken: set[str] = set()
        """Volumes that a fault ended in Failed: the cluster lost them, whatever Cinder did."""
        self.unmanaged: dict[str, VolumeRow] = {}
        """What Cinder does not have any more though the cluster does, by UUID."""
        self.restarted_at = 0
        self.violated = False

    def check(self, holds: object, what: str) -> None:
        if not holds:
            self.violated = True
            raise Violation("\n".join(["", *self.bench.trace, what]))

    # --- one operation -------------------------------------------------------------------------

    def operate(
        self, method: str, disturbance: Disturbance | None, **arguments: object
    ) -> str | None:
        """Have Cinder do something; its error, which only a disturbance excuses."""
        bench = self.bench
        bench.steps[method] += 1
        met = 0
        bench.trace.append(
            f"{method} {_words(arguments)}{f'; {disturbance}' if disturbance else ''}"
        )
        with self.disturbed(disturbance) as hits:
            bench.cinder.send(method, **arguments)
            error = bench.cinder.receive()
            met = hits()
        if disturbance and met:
            bench.hits[disturbance.name] += met
        self.settle()
        bench.trace[-1] += f" -> {error or 'done'}{f' (faults met: {met})' if met else ''}"
        if error:
            bench.failed[method] += 1
            excused = met and disturbance and disturbance.excuses
            self.check(excused, f"{method}{arguments} failed without need: {error}")
        return error

    @contextmanager
    def disturbed(self, disturbance: Disturbance | None) -> Iterator[Callable[[], int]]:
        """Disturb what is done meanwhile; gives how often that was met so far."""
        bench = self.bench
        if disturbance is None:
            yield lambda: 0
        elif disturbance.stops_node:
            node = bench.lab["nodes"][disturbance.node]
            with bench.cluster.stopped(node["uuid"]):
                yield lambda: 1
        else:
            fault = bench.faults.add(**disturbance.rule(bench.lab["api_addresses"]))
            yield lambda: fault.hits if disturbance.node is None else 1
            bench.faults.clear(fault)
            bench.note_token()

    def settle(self) -> None:
        """Wait until the cluster has ended what it is at, and read what Cinder has now."""
        ends_at = time.monotonic() + SETTLE_SECONDS
        passing = ("Creating", "Updating", "Deleting", "Rollback")
        while True:
            self.cluster_volumes = {
                found["name"]: found for found in self.bench.cluster.everything("volumes")
            }
            self.cluster_snapshots = {
                found["name"]: found for found in self.bench.cluster.everything("snapshots")
            }
            busy = [
                found["name"]
                for found in self.cluster_volumes.values()
                if found["state"] in passing
            ] + [
                found["name"]
                for found in self.cluster_snapshots.values()
                if found["state"] == "Creating"
            ]
            if not busy:
                break
            self.check(time.monotonic() < ends_at, f"never at rest: {busy}")
            time.sleep(0.005)
        self.iops_limits: dict[str, int] = {
            policy["UUID"]: policy["QoSRateLimitPolicy"]["limitIOPS"]["readIOPSLimit"]
            for policy in self.bench.cluster.get("/policies").get("policies", [])
        }
        """Of the cluster's policies, by UUID."""
        self.view = self.bench.view()
        self.broken |= {name for name in self.cluster_volumes if self._is_failed(name)}
        alive = {f["UUID"] for f in self.cluster_volumes.values() if f["state"] != "Failed"}
        places = (v.provider_id for v in self.view.volumes if v.status in GOOD)
        managed = {place.split()[1] for place in places if place}
        left = (alive & self.unmanaged.keys()) - managed
        self.unmanaged = {uuid: row for uuid, row in self.unmanaged.items() if uuid in left}

    # --- volumes -------------------------------------------------------------------------------

    def has_room(self) -> bool:
        return len(self.view.volumes) + len(self.unmanaged) < MAX_VOLUMES

    def healthy(self) -> list[VolumeRow]:
        return [v for v in self.view.volumes if v.status in GOOD and v.name not in self.broken]

    def ready_snapshots(self) -> list[SnapshotRow]:
        return [
            s
            for s in self.view.snapshots
            if s.status == "available" and f"volume-{s.volume_id}" not in self.broken
        ]

    def create(self, disturbance: Disturbance | None, size_gib: int, **source: object) -> None:
        self.operate("create_volume", disturbance, size_gib=size_gib, multiattach=True, **source)

    @rule(size=sizes, type_number=types, disturbance=maybe_disturbed)
    @when(lambda self: self.has_room())
    def create_empty(self, size: int, type_number: int, disturbance: Disturbance | None) -> None:
        self.create(disturbance, size, volume_type_id=self.type_id(type_number))

    @rule(which=which, larger=st.integers(0, 2), type_number=types, disturbance=maybe_disturbed)
    @when(lambda self: self.has_room() and self.ready_snapshots())
    def create_from_snapshot(
        self, which: int, larger: int, type_number: int, disturbance: Disturbance | None
    ) -> None:
        snapshot = _pick(self.ready_snapshots(), which)
        self.create(
            disturbance,
            snapshot.volume_size + larger,
            snapshot_id=snapshot.id,
            volume_type_id=self.type_id(type_number),
        )

    def certain(self) -> list[VolumeRow]:
        """Healthy volumes whose size is known."""
        return [v for v in self.healthy() if v.id not in self.sizes_in_doubt]

    @rule(which=which, larger=st.integers(0, 2), type_number=types, disturbance=maybe_disturbed)
    @when(lambda self: self.has_room() and self.certain())
    def clone(
        self, which: int, larger: int, type_number: int, disturbance: Disturbance | None
    ) -> None:
        source = _pick(self.certain(), which)
        self.create(
            disturbance,
            source.size + larger,
            source_volid=source.id,
            volume_type_id=self.type_id(type_number),
        )

    def deletable(self) -> list[VolumeRow]:
        kept = {s.volume_id for s in self.view.snapshots}
        kept |= {a.volume_id for a in self.view.attachments}
        return [v for v in self.view.volumes if v.id not in kept]

    @rule(which=which, disturbance=maybe_disturbed)
    @when(lambda self: self.deletable())
    def delete(self, which: int, disturbance: Disturbance | None) -> None:
        volume = _pick(self.deletable(), which)
        if not self.operate("delete_volume", disturbance, volume_id=volume.id):
            gone = volume.name not in self.cluster_volumes or self._is_failed(volume.name)
            self.check(gone, f"Cinder deleted {volume}, the cluster did not")

    def extendable(self) -> list[VolumeRow]:
        return [
            v
            for v in self.view.volumes
            if v.status in (*GOOD, "error_extending")
            and v.size < MAX_GIB
            and v.name not in self.broken
        ]

    @rule(which=which, more=sizes, disturbance=maybe_disturbed)
    @when(lambda self: self.extendable())
    def extend(self, which: int, more: int, disturbance: Disturbance | None) -> None:
        volume = _pick(self.extendable(), which)
        # A retry after an error: nobody asks for less than what may be there already.
        size = volume.size + (3 if volume.id in self.sizes_in_doubt else more)
        self.operate("extend_volume", disturbance, volume_id=volume.id, size_gib=size)
        (now,) = (v for v in self.view.volumes if v.id == volume.id)
        if now.status == "error_extending":
            excused = disturbance and disturbance.excuses
            self.check(excused, "an extend failed and nothing disturbed it")
            self.sizes_in_doubt.add(volume.id)
        else:
            self.sizes_in_doubt.discard(volume.id)

    @rule(which=which, type_number=types, disturbance=maybe_disturbed)
    @when(lambda self: self.healthy())
    def retype(self, which: int, type_number: int, disturbance: Disturbance | None) -> None:
        volume = _pick(self.healthy(), which)
        type_id = self.type_id(type_number)
        if volume.type_id == type_id:
            return
        types = TYPES[type_number], TYPES[self.view.type_ids.index(volume.type_id)]
        if self.operate("retype", disturbance, volume_id=volume.id, volume_type_id=type_id):
            self.types_in_doubt.add(volume.id)
        elif any(each.compression for each in types) and any(each.iops for each in types):
            # What neither type names, a retype leaves as it is.
            self.types_in_doubt.discard(volume.id)

    def type_id(self, number: int) -> str:
        return self.view.type_ids[number]

    # --- volumes that Cinder gives up and takes over -------------------------------------------

    def releasable(self) -> list[VolumeRow]:
        doubtful = self.sizes_in_doubt | self.types_in_doubt
        doubtful |= {volume_id for volume_id, _nqn in self.access_in_doubt}
        free = {v.id for v in self.deletable()} - doubtful
        return [v for v in self.healthy() if v.id in free]

    @rule(which=which)
    @when(lambda self: self.releasable())
    def unmanage(self, which: int) -> None:
        volume = _pick(self.releasable(), which)
        self.operate("unmanage", None, volume_id=volume.id)
        self.check(volume.name in self.cluster_volumes, f"{volume} was unmanaged, and is gone")
        self.unmanaged[self.cluster_volumes[volume.name]["UUID"]] = volume

    @rule(which=which, disturbance=maybe_disturbed)
    @when(lambda self: self.unmanaged)
    def manage(self, which: int, disturbance: Disturbance | None) -> None:
        uuid, was = _pick(list(self.unmanaged.items()), which)
        failed = self.operate(
            "manage", disturbance, source_id=uuid, size_gib=was.size, volume_type_id=was.type_id
        )
        if not failed:
            return
        self.give_up_managing()
        self.check(uuid in self.unmanaged or self.broken, f"volume {uuid} is gone")

    def give_up_managing(self) -> None:
        """Delete the records of what was not taken over; another try has one of its own."""
        for volume in self.view.volumes:
            if volume.status in ("managing", "error_managing"):
                self.operate("delete_volume", None, volume_id=volume.id)

    # --- snapshots -----------------------------------------------------------------------------

    @rule(which=which, disturbance=maybe_disturbed)
    @when(lambda self: self.certain() and len(self.view.snapshots) < MAX_VOLUMES)
    def snapshot(self, which: int, disturbance: Disturbance | None) -> None:
        volume = _pick(self.certain(), which)
        self.operate("create_snapshot", disturbance, volume_id=volume.id)

    @rule(which=which, disturbance=maybe_disturbed)
    @when(lambda self: self.view.snapshots)
    def delete_snapshot(self, which: int, disturbance: Disturbance | None) -> None:
        snapshot = _pick(self.view.snapshots, which)
        if not self.operate("delete_snapshot", disturbance, snapshot_id=snapshot.id):
            left = self.cluster_snapshots.get(snapshot.name)
            gone = left is None or left["state"] in ("Deleting", "Failed")
            self.check(gone, f"Cinder deleted {snapshot}, the cluster did not")

    def revertible(self) -> list[SnapshotRow]:
        """The newest snapshot of each volume that is not attached, as the API wants it."""
        free = {v.id for v in self.healthy() if v.status == "available"}
        free -= {a.volume_id for a in self.view.attachments}
        # A host that a failed attach may have left there is refused until the next refresh.
        free -= {volume_id for volume_id, _nqn in self.access_in_doubt}
        newest = {s.volume_id: s for s in self.view.snapshots}
        return [s for s in newest.values() if s.volume_id in free and s.status == "available"]

    @rule(which=which, disturbance=maybe_disturbed)
    @when(lambda self: self.revertible())
    def revert(self, which: int, disturbance: Disturbance | None) -> None:
        snapshot = _pick(self.revertible(), which)
        if self.operate("revert", disturbance, snapshot_id=snapshot.id):
            self.sizes_in_doubt.add(snapshot.volume_id)
            self.operate("reset_state", None, volume_id=snapshot.volume_id)

    # --- attachments ---------------------------------------------------------------------------

    @rule(which=which, host=hosts, disturbance=maybe_disturbed)
    @when(lambda self: self.healthy())
    def attach(self, which: int, host: dict[str, Any], disturbance: Disturbance | None) -> None:
        volume = _pick(self.healthy(), which)
        if self.operate("attach", disturbance, volume_id=volume.id, connector=host):
            self.access_in_doubt.add((volume.id, host["nqn"]))
        else:
            self.access_in_doubt.discard((volume.id, host["nqn"]))

    @rule(which=which, disturbance=maybe_disturbed)
    @when(lambda self: self.view.attachments)
    def detach(self, which: int, disturbance: Disturbance | None) -> None:
        attachment = _pick(self.view.attachments, which)
        if self.operate("detach", disturbance, attachment_id=attachment.id):
            self.access_in_doubt.add((attachment.volume_id, attachment.host))
        elif attachment.host not in self.hosts_attached(attachment.volume_id):
            self.access_in_doubt.discard((attachment.volume_id, attachment.host))

    @rule(which=which, disturbance=maybe_disturbed)
    @when(lambda self: self.healthy())
    def force_detach(self, which: int, disturbance: Disturbance | None) -> None:
        volume = _pick(self.healthy(), which)
        if self.operate("force_detach", disturbance, volume_id=volume.id):
            self.doubt_access(volume.id)
        else:
            self.access_in_doubt -= {(volume.id, host["nqn"]) for host in HOSTS}

    def hosts_attached(self, volume_id: str) -> set[str]:
        return {a.host for a in self.view.attachments if a.volume_id == volume_id and a.host}

    def doubt_access(self, volume_id: str) -> None:
        self.access_in_doubt |= {(volume_id, host["nqn"]) for host in HOSTS}

    # --- the back end --------------------------------------------------------------------------

    @rule(disturbance=maybe_disturbed)
    def refresh(self, disturbance: Disturbance | None) -> None:
        """What Cinder has the driver do every minute, when it also looks for what was left."""
        failed = self.operate("stats", disturbance)
        if not failed and (disturbance is None or not disturbance.excuses):
            self.access_in_doubt = {
                (volume_id, nqn)
                for volume_id, nqn in self.access_in_doubt
                if nqn in self.hosts_attached(volume_id)
            }

    # --- restarts ------------------------------------------------------------------------------

    def may_restart(self) -> bool:
        return len(self.bench.trace) - self.restarted_at >= OPERATIONS_BETWEEN_RESTARTS

    @rule()
    @when(lambda self: self.may_restart())
    def restart(self) -> None:
        self.start_again()

    def start_again(self) -> None:
        self.bench.steps["restart"] += 1
        self.bench.trace.append("restart")
        self.bench.cinder.kill()
        self.bench.cinder.start()
        self.after_restart()

    @rule(kind=which, which=which, host=hosts, call=st.integers(1, 6))
    @when(lambda self: self.may_restart() and self.certain())
    def crash(self, kind: int, which: int, host: dict[str, Any], call: int) -> None:
        """The driver is killed while a request of an operation is on its way."""
        operations = self.to_be_killed(which, host)
        method = _pick(sorted(operations), kind)
        volume_id, arguments = operations[method]
        bench = self.bench
        fault = bench.faults.add(operation="*", first=call, delay_seconds=CRASH_DELAY_SECONDS)
        bench.cinder.send(method, **arguments)
        while not fault.hits and not bench.cinder.is_done(0.002):
            pass
        crashed = not bench.cinder.is_done()
        bench.steps["crash" if crashed else method] += 1
        end = f"killed in call {call}" if crashed else "done; then a restart"
        bench.trace.append(f"{method} {_words(arguments)} -> {end}")
        bench.cinder.kill()
        bench.faults.clear(fault)  # the request goes on now
        if crashed and method in ("extend_volume", "revert"):
            self.sizes_in_doubt.add(volume_id)
        if crashed and method == "retype":
            self.types_in_doubt.add(volume_id)
        if method in ("attach", "detach", "force_detach"):
            self.doubt_access(volume_id)
        bench.cinder.start()
        self.after_restart()

    def to_be_killed(
        self, which: int, host: dict[str, Any]
    ) -> dict[str, tuple[str, dict[str, object]]]:
        """Method -> (volume, arguments) of operations that can be done now."""
        volume = _pick(self.certain(), which)
        of_volume: dict[str, object] = {"volume_id": volume.id}
        operations = {
            "extend_volume": (volume.id, {**of_volume, "size_gib": volume.size + 1}),
            "create_snapshot": (volume.id, of_volume),
            "attach": (volume.id, {**of_volume, "connector": host}),
            "force_detach": (volume.id, of_volume),
            "retype": (
                volume.id,
                {**of_volume, "volume_type_id": self.type_id(which % len(TYPES))},
            ),
        }
        if self.has_room():
            clone = {"size_gib": volume.size, "source_volid": volume.id, "multiattach": True}
            operations["create_volume"] = (volume.id, {**clone, "volume_type_id": volume.type_id})
        if self.unmanaged:
            uuid, was = _pick(list(self.unmanaged.items()), which)
            source = {"source_id": uuid, "size_gib": was.size, "volume_type_id": was.type_id}
            operations["manage"] = (was.id, source)
        if self.deletable():
            volume = _pick(self.deletable(), which)
            operations["delete_volume"] = (volume.id, {"volume_id": volume.id})
        if self.view.snapshots:
            snapshot = _pick(self.view.snapshots, which)
            operations["delete_snapshot"] = (snapshot.volume_id, {"snapshot_id": snapshot.id})
        if self.revertible():
            snapshot = _pick(self.revertible(), which)
            operations["revert"] = (snapshot.volume_id, {"snapshot_id": snapshot.id})
        if self.view.attachments:
            attachment = _pick(self.view.attachments, which)
            operations["detach"] = (attachment.volume_id, {"attachment_id": attachment.id})
        return operations

    def after_restart(self) -> None:
        """Cinder's own clean-up has run; what it leaves to the administrator is done here."""
        self.settle()
        for volume in self.view.volumes:
            if volume.status in ("extending", "reverting", "retyping"):
                self.operate("reset_state", None, volume_id=volume.id)
        for snapshot in self.view.snapshots:
            if snapshot.status in ("creating", "deleting", "restoring"):
                self.operate("reset_snapshot_state", None, snapshot_id=snapshot.id)
        self.give_up_managing()
        for attachment in self.view.attachments:
            if not attachment.host:  # Nova gives up what it got no answer for
                self.operate("detach", None, attachment_id=attachment.id)
                self.doubt_access(attachment.volume_id)
        # The driver took those for being under way when it started.
        self.refresh(None)
        self.restarted_at = len(self.bench.trace)

    # --- what must hold ------------------------------------------------------------------------

    @initialize(type_number=types)
    def one_volume(self, type_number: int) -> None:
        self.settle()
        left = self.what_is_left()
        self.check(not left, f"the cluster is not empty: {left}")
        self.create(None, 1, volume_type_id=self.type_id(type_number))

    @invariant()
    def success_means_that_the_cluster_did_it(self) -> None:
        for volume in self.healthy():
            found = self.cluster_volumes.get(volume.name)
            self.check(found, f"Cinder has {volume}, the cluster does not")
            self.check(found["state"] in AT_REST, f"{volume}: {found['state']}")
            if volume.id not in self.sizes_in_doubt:
                size = int(found["size"])
                self.check(size == volume.size * GIB, f"{volume}: {size} bytes")
            if volume.id not in self.types_in_doubt:
                compression = str(found["compression"]).lower() == "true"
                has = Type(compression, self.iops_limits.get(found.get("qosPolicyUUID", "")))
                needs = TYPES[self.view.type_ids.index(volume.type_id)]
                self.check(has == needs, f"{volume}: {has} instead of {needs}")
        for snapshot in self.ready_snapshots():
            found = self.cluster_snapshots.get(snapshot.name)
            self.check(found, f"Cinder has {snapshot}, the cluster does not")
            self.check(found["state"] == "Available", f"{snapshot}: {found['state']}")

    @invariant()
    def nothing_on_the_cluster_is_unknown_to_cinder(self) -> None:
        known = {volume.name for volume in self.view.volumes}
        unknown = {
            name
            for name, found in self.cluster_volumes.items()
            if not self._is_failed(name) and found["UUID"] not in self.unmanaged
        } - known
        self.check(not unknown, f"Cinder has no record of {unknown}")

    @invariant()
    def a_host_has_access_exactly_while_an_attachment_needs_it(self) -> None:
        for volume in self.healthy():
            found = self.cluster_volumes[volume.name]
            doubtful = {nqn for volume_id, nqn in self.access_in_doubt if volume_id == volume.id}
            has = allowed(found["acl"]) - doubtful
            needs = self.hosts_attached(volume.id) - doubtful
            self.check(has == needs, f"{volume}: {has} have access, {needs} need it")

    def what_is_left(self) -> list[str]:
        """All but what the cluster itself drops later: Failed objects, and what they hold."""
        failed = {name for name in self.cluster_volumes if self._is_failed(name)}
        passing = ("Failed", "Deleting") if failed else ("Failed",)
        held = {n for n, found in self.cluster_snapshots.items() if found["state"] in passing}
        held |= {self.cluster_volumes[name].get("qosPolicyUUID") for name in failed}
        left = {*self.cluster_volumes, *self.cluster_snapshots, *self.iops_limits}
        return sorted(left - failed - held)

    def _is_failed(self, name: str) -> bool:
        return self.cluster_volumes[name]["state"] == "Failed"

    def teardown(self) -> None:
        """Errors leave nothing that a restart and a delete cannot clear."""
        if self.violated or not self.bench.trace:
            return
        self.start_again()
        self.a_host_has_access_exactly_while_an_attachment_needs_it()
        for attachment in self.view.attachments:
            self.operate("detach", None, attachment_id=attachment.id)
        for snapshot in self.view.snapshots:
            self.operate("delete_snapshot", None, snapshot_id=snapshot.id)
        for volume in self.view.volumes:
            self.operate("delete_volume", None, volume_id=volume.id)
        while self.unmanaged:
            self.manage(which=0, disturbance=None)
        for volume in self.view.volumes:
            self.operate("delete_volume", None, volume_id=volume.id)
        if self.what_is_left():
            self.start_again()
        left = self.what_is_left()
        self.check(not left, f"everything was deleted, and the cluster still has {left}")
        leaked = self.bench.secrets_logged()
        self.check(not leaked, f"a token is in the log: {leaked}")


def _words(arguments: Mapping[str, object]) -> str:
    return " ".join(
        f"{name}={value['host'] if isinstance(value, dict) else value}"
        for name, value in arguments.items()
    )


def _pick(of: Sequence[Any], which: int) -> Any:
    return of[which % len(of)]
