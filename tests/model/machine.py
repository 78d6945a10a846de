# SPDX-License-Identifier: Apache-2.0
"""Operations x faults x crashes, at random, and what must hold after every one of them.

The model keeps nothing that Cinder keeps: what Cinder believes is read from its database, what
the cluster did from its lists, over plain HTTPS. What the model does remember is where an error
or a crash left a doubt that Cinder allows: until the next success on that object, its size or a
host's access may be as before or as asked for.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from testbed.faults import Faults
from tests.integration.cluster import GIB, Cluster, allowed, connector, sensitive_words
from tests.model.cinder_process import (
    CinderProcess,
    CinderView,
    SnapshotRow,
    VolumeRow,
)

HOSTS = tuple(connector(f"compute-{number}", number=number) for number in (1, 2, 3))
MAX_VOLUMES = 6
MAX_GIB = 8
SETTLE_SECONDS = 30.0
CRASH_DELAY_SECONDS = 0.2
"""How long the cluster waits with the request in whose middle the driver is killed."""
GOOD = ("available", "in-use")
AT_REST = ("Available", "Migrating")


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
    log_read: int = 0
    trace: list[str] = field(default_factory=list)
    """What was done since the cluster was last empty."""

    def __post_init__(self) -> None:
        self.cluster = Cluster(self.lab)
        self.faults = Faults(self.lab)

    def view(self) -> CinderView:
        return CinderView.read(self.folder / "cinder.sqlite")

    def secrets_logged(self) -> list[str]:
        """Lines with a part of the token, of what was logged since the last look."""
        words = sensitive_words(self.lab)
        with (self.folder / "cinder.log").open("rb") as log:
            log.seek(self.log_read)
            text = log.read()
            self.log_read = log.tell()
        if not any(word.encode() in text for word in words):
            return []
        lines = text.decode(errors="replace").splitlines()
        return [line[:60] for line in lines if any(word in line for word in words)]


@dataclass(frozen=True)
class Disturbance:
    """An effect on the `first`-th call, and those after it, that the operation makes."""

    effect: tuple[str, object]
    first: int
    count: int

    @property
    def name(self) -> str:
        return " ".join(map(str, self.effect))

    def __str__(self) -> str:
        return f"{self.name} from call {self.first} on, {self.count or 'any number of'} times"


_STATUSES = (400, 401, 403, 412, 429, 500, 501, 502, 503, 504)
_EFFECTS = (
    *(("status", status) for status in _STATUSES),
    ("delay_seconds", 0.05),
    ("lose_reply", True),
    ("reset", True),
    ("stale_etag", True),
    *(("stay", state) for state in ("Creating", "Updating", "Migrating", "Deleting", "Rollback")),
    ("end", "Failed"),
)
disturbances = st.builds(
    Disturbance,
    effect=st.sampled_from(_EFFECTS),
    first=st.integers(1, 6),
    count=st.sampled_from((1, 1, 1, 2, 4, 0)),
)
maybe_disturbed = st.none() | disturbances
which = st.integers(0, 63)
sizes = st.integers(1, 3)
seldom = st.integers(0, 5)
CHOSEN_LOT = 3
hosts = st.sampled_from(HOSTS)


class CinderMachine(RuleBasedStateMachine):
    """One example begins and ends with an empty cluster."""

    bench: ClassVar[Bench]

    def __init__(self) -> None:
        super().__init__()
        self.bench.trace.clear()
        self.view = self.bench.view()
        self.sizes_in_doubt: set[str] = set()
        self.access_in_doubt: set[tuple[str, str]] = set()
        self.broken: set[str] = set()
        """Volumes that a fault ended in Failed: the cluster lost them, whatever Cinder did."""
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
        words = " ".join(f"{name}={_short(value)}" for name, value in arguments.items())
        bench.trace.append(f"{method} {words}{f'; {disturbance}' if disturbance else ''}")
        if disturbance:
            effect, value = disturbance.effect
            fault = bench.faults.add(
                operation="*",
                first=disturbance.first,
                count=disturbance.count,
                **{effect: value},
            )
        bench.cinder.send(method, **arguments)
        error = bench.cinder.receive()
        if disturbance:
            met = fault.hits
            bench.faults.clear(fault)
            if met:
                bench.hits[disturbance.name] += met
        self.settle()
        bench.trace[-1] += f" -> {error or 'done'}{f' (faults met: {met})' if met else ''}"
        if error:
            bench.failed[method] += 1
            self.check(met, f"{method}{arguments} failed and nothing disturbed it: {error}")
        return error

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
        self.view = self.bench.view()
        self.broken |= {
            name for name, found in self.cluster_volumes.items() if found["state"] == "Failed"
        }

    # --- volumes -------------------------------------------------------------------------------

    def has_room(self) -> bool:
        return len(self.view.volumes) < MAX_VOLUMES

    def healthy(self) -> list[VolumeRow]:
        return [v for v in self.view.volumes if v.status in GOOD and v.name not in self.broken]

    def ready_snapshots(self) -> list[SnapshotRow]:
        return [
            s
            for s in self.view.snapshots
            if s.status == "available" and f"volume-{s.volume_id}" not in self.broken
        ]

    @rule(size=sizes, disturbance=maybe_disturbed)
    def create(self, size: int, disturbance: Disturbance | None) -> None:
        if not self.has_room():
            return
        self.operate("create_volume", disturbance, size_gib=size, multiattach=True)

    @rule(which=which, larger=st.integers(0, 2), disturbance=maybe_disturbed)
    def create_from_snapshot(
        self, which: int, larger: int, disturbance: Disturbance | None
    ) -> None:
        if not (self.has_room() and self.ready_snapshots()):
            return
        snapshot = _pick(self.ready_snapshots(), which)
        self.operate(
            "create_volume",
            disturbance,
            size_gib=snapshot.volume_size + larger,
            snapshot_id=snapshot.id,
            multiattach=True,
        )

    @rule(which=which, larger=st.integers(0, 2), disturbance=maybe_disturbed)
    def clone(self, which: int, larger: int, disturbance: Disturbance | None) -> None:
        if not (self.has_room() and self.healthy()):
            return
        source = _pick(self.healthy(), which)
        if source.id in self.sizes_in_doubt:
            return
        self.operate(
            "create_volume",
            disturbance,
            size_gib=source.size + larger,
            source_volid=source.id,
            multiattach=True,
        )

    def deletable(self) -> list[VolumeRow]:
        kept = {s.volume_id for s in self.view.snapshots}
        kept |= {a.volume_id for a in self.view.attachments}
        return [v for v in self.view.volumes if v.id not in kept]

    @rule(which=which, disturbance=maybe_disturbed)
    def delete(self, which: int, disturbance: Disturbance | None) -> None:
        if not self.deletable():
            return
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
    def extend(self, which: int, more: int, disturbance: Disturbance | None) -> None:
        if not self.extendable():
            return
        volume = _pick(self.extendable(), which)
        # A retry after an error: nobody asks for less than what may be there already.
        size = volume.size + (3 if volume.id in self.sizes_in_doubt else more)
        self.operate("extend_volume", disturbance, volume_id=volume.id, size_gib=size)
        (now,) = (v for v in self.view.volumes if v.id == volume.id)
        if now.status == "error_extending":
            self.check(disturbance, "an extend failed and nothing disturbed it")
            self.sizes_in_doubt.add(volume.id)
        else:
            self.sizes_in_doubt.discard(volume.id)

    # --- snapshots -----------------------------------------------------------------------------

    @rule(which=which, disturbance=maybe_disturbed)
    def snapshot(self, which: int, disturbance: Disturbance | None) -> None:
        if not (self.healthy() and len(self.view.snapshots) < MAX_VOLUMES):
            return
        volume = _pick(self.healthy(), which)
        if volume.id not in self.sizes_in_doubt:
            self.operate("create_snapshot", disturbance, volume_id=volume.id)

    @rule(which=which, disturbance=maybe_disturbed)
    def delete_snapshot(self, which: int, disturbance: Disturbance | None) -> None:
        if not self.view.snapshots:
            return
        snapshot = _pick(self.view.snapshots, which)
        if not self.operate("delete_snapshot", disturbance, snapshot_id=snapshot.id):
            left = self.cluster_snapshots.get(snapshot.name)
            gone = left is None or left["state"] in ("Deleting", "Failed")
            self.check(gone, f"Cinder deleted {snapshot}, the cluster did not")

    def revertible(self) -> list[SnapshotRow]:
        """The newest snapshot of each volume that is not attached, as the API wants it."""
        free = {v.id for v in self.healthy() if v.status == "available"}
        free -= {a.volume_id for a in self.view.attachments}
        newest = {s.volume_id: s for s in self.view.snapshots}
        return [s for s in newest.values() if s.volume_id in free and s.status == "available"]

    @rule(which=which, disturbance=maybe_disturbed)
    def revert(self, which: int, disturbance: Disturbance | None) -> None:
        if not self.revertible():
            return
        snapshot = _pick(self.revertible(), which)
        if self.operate("revert", disturbance, snapshot_id=snapshot.id):
            self.sizes_in_doubt.add(snapshot.volume_id)
            self.operate("reset_state", None, volume_id=snapshot.volume_id)

    # --- attachments ---------------------------------------------------------------------------

    @rule(which=which, host=hosts, disturbance=maybe_disturbed)
    def attach(self, which: int, host: dict[str, Any], disturbance: Disturbance | None) -> None:
        if not self.healthy():
            return
        volume = _pick(self.healthy(), which)
        if self.operate("attach", disturbance, volume_id=volume.id, connector=host):
            self.access_in_doubt.add((volume.id, host["nqn"]))
        else:
            self.access_in_doubt.discard((volume.id, host["nqn"]))

    @rule(which=which, disturbance=maybe_disturbed)
    def detach(self, which: int, disturbance: Disturbance | None) -> None:
        if not self.view.attachments:
            return
        attachment = _pick(self.view.attachments, which)
        if self.operate("detach", disturbance, attachment_id=attachment.id):
            self.access_in_doubt.add((attachment.volume_id, attachment.host))
        elif attachment.host not in self.hosts_attached(attachment.volume_id):
            self.access_in_doubt.discard((attachment.volume_id, attachment.host))

    @rule(which=which, disturbance=maybe_disturbed)
    def force_detach(self, which: int, disturbance: Disturbance | None) -> None:
        if not self.healthy():
            return
        volume = _pick(self.healthy(), which)
        if self.operate("force_detach", disturbance, volume_id=volume.id):
            self.access_in_doubt |= {(volume.id, host["nqn"]) for host in HOSTS}
        else:
            self.access_in_doubt -= {(volume.id, host["nqn"]) for host in HOSTS}

    def hosts_attached(self, volume_id: str) -> set[str]:
        return {a.host for a in self.view.attachments if a.volume_id == volume_id and a.host}

    # --- restarts ------------------------------------------------------------------------------

    @rule(lot=seldom)
    def restart(self, lot: int) -> None:
        if lot != CHOSEN_LOT:
            return
        self.bench.steps["restart"] += 1
        self.bench.trace.append("restart")
        self.bench.cinder.kill()
        self.bench.cinder.start()
        self.after_restart()

    @rule(
        method=st.sampled_from(("clone", "extend_volume", "create_snapshot", "attach")),
        which=which,
        host=hosts,
        call=st.integers(1, 6),
        lot=seldom,
    )
    def crash(self, method: str, which: int, host: dict[str, Any], call: int, lot: int) -> None:
        """The driver is killed while a request of an operation is on its way."""
        if lot != CHOSEN_LOT or not self.healthy():
            return
        volume = _pick(self.healthy(), which)
        if volume.id in self.sizes_in_doubt:
            return
        arguments: dict[str, object] = {
            "clone": {"size_gib": volume.size, "source_volid": volume.id, "multiattach": True},
            "extend_volume": {"volume_id": volume.id, "size_gib": volume.size + 1},
            "create_snapshot": {"volume_id": volume.id},
            "attach": {"volume_id": volume.id, "connector": host},
        }[method]
        if method == "clone":
            if not self.has_room():
                return
            method = "create_volume"
        bench = self.bench
        fault = bench.faults.add(operation="*", first=call, delay_seconds=CRASH_DELAY_SECONDS)
        bench.cinder.send(method, **arguments)
        while not fault.hits and not bench.cinder.is_done(0.002):
            pass
        crashed = not bench.cinder.is_done()
        bench.steps["crash" if crashed else method] += 1
        end = f"killed in call {call}" if crashed else "done; then a restart"
        bench.trace.append(f"{method} {arguments.get('volume_id', volume.id)} -> {end}")
        bench.cinder.kill()
        time.sleep(CRASH_DELAY_SECONDS if crashed else 0)  # the request is done by then
        bench.faults.clear(fault)
        if method == "extend_volume" and crashed:
            self.sizes_in_doubt.add(volume.id)
        bench.cinder.start()
        self.after_restart()

    def after_restart(self) -> None:
        """Cinder's own clean-up has run; what it leaves to the administrator is done here."""
        self.settle()
        for volume in self.view.volumes:
            if volume.status in ("extending", "reverting"):
                self.operate("reset_state", None, volume_id=volume.id)
        for snapshot in self.view.snapshots:
            if snapshot.status in ("creating", "deleting", "restoring"):
                self.operate("reset_snapshot_state", None, snapshot_id=snapshot.id)
        unanswered = [a for a in self.view.attachments if not a.host]
        for attachment in unanswered:  # Nova gives up what it got no answer for
            self.operate("detach", None, attachment_id=attachment.id)
        # The driver took these for being under way; the next start (or hour) sees that they ended.
        ended = {a.volume_id for a in unanswered}
        self.access_in_doubt = {(volume_id, h["nqn"]) for volume_id in ended for h in HOSTS}

    # --- what must hold ------------------------------------------------------------------------

    @initialize()
    def nothing_there(self) -> None:
        self.settle()
        left = self.what_is_left()
        self.check(not left, f"the cluster is not empty: {left}")

    @invariant()
    def success_means_that_the_cluster_did_it(self) -> None:
        for volume in self.healthy():
            found = self.cluster_volumes.get(volume.name)
            self.check(found, f"Cinder has {volume}, the cluster does not")
            self.check(found["state"] in AT_REST, f"{volume}: {found['state']}")
            if volume.id not in self.sizes_in_doubt:
                self.check(
                    int(found["size"]) == volume.size * GIB, f"{volume}: {found['size']} bytes"
                )
        for snapshot in self.ready_snapshots():
            found = self.cluster_snapshots.get(snapshot.name)
            self.check(found, f"Cinder has {snapshot}, the cluster does not")
            self.check(found["state"] == "Available", f"{snapshot}: {found['state']}")

    @invariant()
    def nothing_on_the_cluster_is_unknown_to_cinder(self) -> None:
        known = {volume.name for volume in self.view.volumes}
        unknown = {n for n in self.cluster_volumes if not self._is_failed(n)} - known
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
        return sorted({*self.cluster_volumes, *self.cluster_snapshots} - failed - held)

    def _is_failed(self, name: str) -> bool:
        return self.cluster_volumes[name]["state"] == "Failed"

    def teardown(self) -> None:
        """Errors leave nothing that a delete, or a restart and a delete, cannot clear."""
        if self.violated or not self.bench.trace:
            return
        self.bench.faults.clear()
        for _ in range(2):  # the second one settles what the first one took for being under way
            self.bench.cinder.kill()
            self.bench.cinder.start()
            self.after_restart()
        self.check(not self.access_in_doubt, "attachments without an answer came back")
        self.a_host_has_access_exactly_while_an_attachment_needs_it()
        for attachment in self.view.attachments:
            self.operate("detach", None, attachment_id=attachment.id)
        for snapshot in self.view.snapshots:
            self.operate("delete_snapshot", None, snapshot_id=snapshot.id)
        for volume in self.view.volumes:
            self.operate("delete_volume", None, volume_id=volume.id)
        self.settle()
        left = self.what_is_left()
        self.check(not left, f"everything was deleted, and the cluster still has {left}")
        leaked = self.bench.secrets_logged()
        self.check(not leaked, f"the token is in the log: {leaked}")


def _short(value: object) -> object:
    return value["host"] if isinstance(value, dict) else value


def _pick(of: Any, which: int) -> Any:
    return of[which % len(of)]
