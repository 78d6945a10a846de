# SPDX-License-Identifier: Apache-2.0
"""What should be, and where the cluster differs from it. Pure.

What should be is what Cinder's API says, and what its users were told: a volume or snapshot that
they were given is there until they delete it, and a host that holds an attachment has access.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from testbed.cluster import GIB, allowed

GOOD = ("available", "in-use", "reserved", "attaching")
"""States of volumes and snapshots that can be used; two are of a user's attach, half done."""
AT_REST = (*GOOD, "error", "error_deleting")
"""States in which no service works on them."""
WITH_ACCESS = ("attaching", "attached")
"""States of an attachment whose host Cinder has recorded."""


@dataclass(frozen=True)
class Volume:
    id: str
    status: str
    size_gib: int

    @property
    def name(self) -> str:
        return f"volume-{self.id}"


@dataclass(frozen=True)
class Snapshot:
    id: str
    status: str

    @property
    def name(self) -> str:
        return f"snapshot-{self.id}"


@dataclass(frozen=True)
class Attachment:
    """`host_nqn` is empty when nobody who attached has recorded it."""

    id: str
    volume_id: str
    status: str
    host_nqn: str


@dataclass(frozen=True)
class Known:
    """What Cinder has, and what its users were given and have not deleted (`promised` ids)."""

    volumes: tuple[Volume, ...]
    snapshots: tuple[Snapshot, ...]
    attachments: tuple[Attachment, ...]
    promised: frozenset[str] = frozenset()

    def needs_access(self, volume_id: str) -> set[str]:
        """NQNs of the hosts that a volume is attached to."""
        return {
            attachment.host_nqn
            for attachment in self.attachments
            if attachment.volume_id == volume_id and attachment.status in WITH_ACCESS
        }


@dataclass(frozen=True)
class Found:
    """The cluster's volumes and snapshots as its API shows them, those being deleted too."""

    volumes: Sequence[Mapping[str, Any]]
    snapshots: Sequence[Mapping[str, Any]]


def differences(known: Known, found: Found) -> list[str]:
    """Everything that is not as it should be, a line each."""
    return [
        *_not_at_rest(known),
        *_broken_promises(known),
        *_twice(found),
        *_unknown(known, found),
        *(line for volume in known.volumes for line in _volume(volume, known, found)),
        *(line for snapshot in known.snapshots for line in _snapshot(snapshot, found)),
    ]


def _not_at_rest(known: Known) -> list[str]:
    return [
        f"{each.name} is {each.status}"
        for each in (*known.volumes, *known.snapshots)
        if each.status not in AT_REST
    ]


def _broken_promises(known: Known) -> list[str]:
    good = {each.id for each in (*known.volumes, *known.snapshots) if each.status in GOOD}
    return [f"{id} was given to a user, and is not good" for id in sorted(known.promised - good)]


def _twice(found: Found) -> list[str]:
    # A deleted snapshot with clones stays Deleting, out of lists and with its name free.
    living = [each["name"] for each in found.volumes]
    living += [each["name"] for each in found.snapshots if each["state"] != "Deleting"]
    return [
        f"{name} is there {count} times" for name, count in Counter(living).items() if count > 1
    ]


def _unknown(known: Known, found: Found) -> list[str]:
    names = {each.name for each in (*known.volumes, *known.snapshots)}
    there = [*found.volumes, *(each for each in found.snapshots if each["state"] != "Deleting")]
    return [f"Cinder has no {each['name']}" for each in there if each["name"] not in names]


def _volume(volume: Volume, known: Known, found: Found) -> list[str]:
    there = next((each for each in found.volumes if each["name"] == volume.name), None)
    if there is None:
        return [f"the cluster has no {volume.name}"] if volume.status in GOOD else []
    lines = []
    if volume.status in GOOD:
        if there["state"] != "Available":
            lines.append(f"{volume.name} is {there['state']} on the cluster")
        if int(there["size"]) != volume.size_gib * GIB:
            lines.append(f"{volume.name} has {there['size']} bytes, not {volume.size_gib} GiB")
    has, needs = allowed(there["acl"]), known.needs_access(volume.id)
    lines += [f"{volume.name}: host {nqn} needs access" for nqn in sorted(needs - has)]
    lines += [f"{volume.name}: host {nqn} has access still" for nqn in sorted(has - needs)]
    return lines


def _snapshot(snapshot: Snapshot, found: Found) -> list[str]:
    if snapshot.status not in GOOD:
        return []
    states = [each["state"] for each in found.snapshots if each["name"] == snapshot.name]
    return [] if "Available" in states else [f"the cluster has no {snapshot.name}: {states}"]
