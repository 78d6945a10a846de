# SPDX-License-Identifier: Apache-2.0
"""Who may see which namespace: volume ACLs, indexed by host NQN for quick answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from lightos.api.models.values import ALLOW_ANY, ALLOW_NONE
from lightos.lab.addresses import normal_address
from lightos.lab.records import VolumeRecord, VolumeState
from lightos.lab.view import NamespaceView

VISIBLE_STATES = frozenset(
    {VolumeState.AVAILABLE, VolumeState.UPDATING, VolumeState.ROLLBACK, VolumeState.MIGRATING}
)
"""States in which a volume serves I/O."""

MAX_KEPT_ANSWERS = 1024


def acl_admits(acl: Sequence[str], host_nqn: str) -> bool:
    """Whether a volume's ACL admits a host, from whatever address."""
    return host_nqn in acl or ALLOW_ANY in acl


def namespace_view(volume: VolumeRecord) -> NamespaceView:
    """What the NVMe side knows of a volume."""
    return NamespaceView(
        nsid=volume.nsid,
        uuid=volume.uuid,
        size_bytes=volume.size_bytes,
        block_size_bytes=volume.sector_size_bytes,
        ana_group_id=volume.group_id,
    )


class AccessIndex:
    """The visible volumes by the host NQNs of their ACLs."""

    def __init__(self) -> None:
        self._volumes: dict[int, tuple[NamespaceView, frozenset[str]]] = {}
        self._acls: dict[int, tuple[str, ...]] = {}
        self._nsids_of_rule: dict[str, set[int]] = {}
        self._answers: dict[tuple[str, str], Mapping[int, NamespaceView]] = {}

    def put(self, volume: VolumeRecord) -> bool:
        """Take a volume's present ACL, state and size; True when any of it changed."""
        if volume.state not in VISIBLE_STATES:
            return self.drop(volume.nsid)
        addresses = frozenset(
            rule if rule in (ALLOW_ANY, ALLOW_NONE) else normal_address(rule)
            for rule in volume.ip_acl
        )
        entry = namespace_view(volume), addresses
        if self._volumes.get(volume.nsid) == entry and self._acls[volume.nsid] == volume.acl:
            return False
        self.drop(volume.nsid)
        self._answers.clear()
        self._volumes[volume.nsid] = entry
        self._acls[volume.nsid] = volume.acl
        for rule in volume.acl:
            self._nsids_of_rule.setdefault(rule, set()).add(volume.nsid)
        return True

    def drop(self, nsid: int) -> bool:
        """Forget a volume; True when it was visible."""
        if self._volumes.pop(nsid, None) is None:
            return False
        for rule in set(self._acls.pop(nsid)):
            self._nsids_of_rule[rule].discard(nsid)
            if not self._nsids_of_rule[rule]:
                del self._nsids_of_rule[rule]
        self._answers.clear()
        return True

    def namespaces(self, host_nqn: str, host_address: str) -> Mapping[int, NamespaceView]:
        """Namespaces, in ascending nsid, whose ACL and IP ACL both admit the host."""
        question = host_nqn, host_address
        answer = self._answers.get(question)
        if answer is None:
            if len(self._answers) >= MAX_KEPT_ANSWERS:
                self._answers.clear()
            answer = self._answers[question] = self._look_up(host_nqn, host_address)
        return answer

    def _look_up(self, host_nqn: str, host_address: str) -> Mapping[int, NamespaceView]:
        if host_nqn in (ALLOW_ANY, ALLOW_NONE):
            return MappingProxyType({})
        admitting = {ALLOW_ANY, normal_address(host_address)}
        rules = self._nsids_of_rule
        nsids = rules.get(host_nqn, set()) | rules.get(ALLOW_ANY, set())
        found = ((nsid, *self._volumes[nsid]) for nsid in sorted(nsids))
        return MappingProxyType(
            {nsid: view for nsid, view, addresses in found if addresses & admitting}
        )
