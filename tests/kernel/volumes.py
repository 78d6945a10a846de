# SPDX-License-Identifier: Apache-2.0
"""Volumes of the lab for one test: made, changed and removed through the management API."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from lightos.api.client import LightOSClient
from lightos.api.errors import NotFound
from lightos.api.models.values import ALLOW_NONE
from lightos.api.models.volumes import CreateVolume, UpdateVolume, Volume, VolumeState
from lightos.waiting import Deadline, poll_until

PROJECT = "default"
MIB = 1 << 20
API_SECONDS = 30.0
_POLL_SECONDS = 0.05


class Volumes:
    """Creates volumes and, at the end of a test, deletes those it has created."""

    def __init__(self, client: LightOSClient) -> None:
        self._client = client
        self._numbers = itertools.count(1)
        self._created: list[str] = []

    def create(
        self, *hosts: str, size_mib: int = 64, replicas: int = 3, compression: bool = False
    ) -> Volume:
        """A volume that the host NQNs in `hosts` may use; waits until it is Available."""
        request = CreateVolume(
            project=PROJECT,
            name=f"kernel-test-{next(self._numbers)}",
            size_bytes=size_mib * MIB,
            acl=hosts or (ALLOW_NONE,),
            replica_count=replicas,
            compression=compression,
        )
        volume = self._client.create_volume(PROJECT, request, Deadline(API_SECONDS))
        self._created.append(volume.uuid)
        return self._settled(volume.uuid)

    def get(self, uuid: str) -> Volume:
        return self._client.get_volume(PROJECT, uuid, Deadline(API_SECONDS))

    def used_bytes(self, uuid: str) -> int:
        """What the cluster says that the volume uses on disk."""
        statistics = self.get(uuid).statistics
        assert statistics is not None
        return statistics.physical_used_bytes

    def resize(self, uuid: str, size_bytes: int) -> Volume:
        return self._update(UpdateVolume(project=PROJECT, uuid=uuid, size_bytes=size_bytes))

    def set_acl(self, uuid: str, *hosts: str) -> Volume:
        return self._update(UpdateVolume(project=PROJECT, uuid=uuid, acl=hosts or (ALLOW_NONE,)))

    def delete(self, uuid: str) -> None:
        """Delete, and wait until the cluster does not know the volume any more."""
        self._client.delete_volume(PROJECT, uuid, Deadline(API_SECONDS))
        self._created.remove(uuid)
        self._wait(lambda: self._is_gone(uuid))

    def delete_all(self) -> None:
        for uuid in list(self._created):
            self.delete(uuid)

    def _update(self, request: UpdateVolume) -> Volume:
        self._client.update_volume(PROJECT, request.uuid, request, Deadline(API_SECONDS))
        return self._settled(request.uuid)

    def _settled(self, uuid: str) -> Volume:
        self._wait(lambda: self.get(uuid).state is VolumeState.AVAILABLE)
        return self.get(uuid)

    def _is_gone(self, uuid: str) -> bool:
        try:
            return self.get(uuid).state is VolumeState.DELETED
        except NotFound:
            return True

    @staticmethod
    def _wait(condition: Callable[[], bool]) -> None:
        poll_until(
            lambda: condition() or None,
            deadline=Deadline(API_SECONDS),
            intervals=[_POLL_SECONDS],
        )
