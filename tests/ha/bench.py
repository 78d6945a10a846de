# SPDX-License-Identifier: Apache-2.0
"""A running Cinder with its cluster, and what its users hold of it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from openstack import exceptions
from openstack.block_storage.v3.snapshot import Snapshot
from openstack.block_storage.v3.type import Type
from openstack.block_storage.v3.volume import Volume

from testbed.cinder.client import POLL_SECONDS, Attachment, CinderClient
from testbed.cloud.active_active import ActiveActive
from testbed.cluster import Cluster, allowed
from testbed.faults import Faults
from testbed.polling import wait_until
from tests.ha import model

SETTLE_SECONDS = 90.0
RETRY_SECONDS = 60.0
GIVE_UP_SECONDS = 120.0
RETRY_PAUSE_SECONDS = 0.05
LOOK_PAUSE_SECONDS = 0.02

Connector = Mapping[str, Any]


class Ledger:
    """What users were given and hold at this moment. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._promised: set[str] = set()
        self._hosts: dict[str, str] = {}
        self._held: dict[str, tuple[str, str]] = {}

    def given(self, object_id: str) -> None:
        """A volume or snapshot is there."""
        with self._lock:
            self._promised.add(object_id)

    def given_up(self, object_id: str) -> None:
        """A volume or snapshot is about to be deleted."""
        with self._lock:
            self._promised.discard(object_id)

    def reserved(self, attachment_id: str, host_nqn: str) -> None:
        """An attachment is for this host."""
        with self._lock:
            self._hosts[attachment_id] = host_nqn

    def hold(self, attachment: Attachment) -> None:
        """The host of an attachment has access, and needs it."""
        with self._lock:
            self._held[attachment.id] = attachment.volume_id, self._hosts[attachment.id]

    def release(self, attachment: Attachment) -> None:
        """An attachment is about to be deleted."""
        with self._lock:
            self._held.pop(attachment.id, None)

    def promised(self) -> frozenset[str]:
        with self._lock:
            return frozenset(self._promised)

    def host_of(self, attachment_id: str) -> str:
        """NQN of the host; empty when nobody said which."""
        with self._lock:
            return self._hosts.get(attachment_id, "")

    def held(self) -> set[tuple[str, str]]:
        """(volume id, host NQN) of all access that somebody needs now."""
        with self._lock:
            return set(self._held.values())


class User:
    """One client of Cinder, as Nova is one; for one thread."""

    def __init__(self, client: CinderClient, ledger: Ledger) -> None:
        self.client = client
        self.ledger = ledger

    def create_volume(self, volume_type: Type, **source: Any) -> Volume:
        volume = accepted(lambda: self.client.create_volume(1, volume_type=volume_type, **source))
        self.ledger.given(volume.id)
        return volume

    def create_snapshot(self, volume_id: str) -> Snapshot:
        snapshot = accepted(lambda: self.client.create_snapshot(volume_id, force=True))
        self.ledger.given(snapshot.id)
        return snapshot

    def delete_volume(self, volume_id: str) -> None:
        self.ledger.given_up(volume_id)
        self.client.delete_volume(volume_id)

    def delete_snapshot(self, snapshot_id: str) -> None:
        self.ledger.given_up(snapshot_id)
        self.client.delete_snapshot(snapshot_id)

    def reserve(self, volume_id: str, host: Connector) -> Attachment:
        """The first step of an attach: its id is known from then on."""
        attachment = accepted(lambda: self.client.reserve(volume_id))
        self.ledger.reserved(attachment.id, host["nqn"])
        return attachment

    def connect(self, attachment: Attachment, host: Connector) -> Attachment:
        """The second: the host has access."""
        connected = self.client.update_attachment(attachment.id, host)
        self.ledger.hold(connected)
        return connected

    def attach(self, volume_id: str, host: Connector) -> Attachment:
        reserved = self.reserve(volume_id, host)
        try:
            attachment = self.connect(reserved, host)
            self.client.mark_attached(attachment)
        except exceptions.HttpException:
            self.give_up(reserved)
            raise
        return attachment

    def attach_in_one_call(self, volume_id: str, host: Connector) -> Attachment:
        """Without a reservation, and without the lock that the API takes to connect one."""
        attachment = accepted(lambda: self.client.attach(volume_id, host))
        self.ledger.reserved(attachment.id, host["nqn"])
        self.ledger.hold(attachment)
        return attachment

    def detach(self, attachment: Attachment) -> None:
        self.ledger.release(attachment)
        self.client.detach(attachment)

    def give_up(self, attachment: Attachment) -> None:
        """Delete an attachment of which an attach or detach failed, as often as it takes."""
        self.ledger.release(attachment)

        def is_gone() -> bool:
            try:
                self.client.detach(attachment)
            except exceptions.NotFoundException:
                return True
            except exceptions.HttpException:
                return False
            return True

        wait_until(is_gone, f"attachment {attachment.id} to be deleted", GIVE_UP_SECONDS, pause=1)


def accepted(request: Any) -> Any:
    """Repeat what Cinder refuses because of the volume's status.

    Its API lets nobody attach, clone or take a snapshot of a volume while another attachment
    of it is made, "to avoid contention issues with shared connections".
    """

    def ask() -> Any:
        try:
            return request()
        except exceptions.BadRequestException as refusal:
            if "status" not in str(refusal):
                raise
            return None

    return wait_until(ask, "Cinder to take a request", RETRY_SECONDS, pause=RETRY_PAUSE_SECONDS)


class Watch:
    """Looks all the time whether each host that holds an attachment has access."""

    def __init__(self, cluster: Cluster, ledger: Ledger) -> None:
        self._cluster = cluster
        self._ledger = ledger
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")
        self.looks = 0
        self.lost: set[tuple[str, str]] = set()
        """(volume id, host NQN) that had no access at some moment, though it was needed."""

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(LOOK_PAUSE_SECONDS):
            before = self._ledger.held()
            access = {each["name"]: allowed(each["acl"]) for each in self._cluster.volumes()}
            # What was held before the look and is held after it was held all the time.
            for volume_id, nqn in before & self._ledger.held():
                if nqn not in access.get(f"volume-{volume_id}", ()):
                    self.lost.add((volume_id, nqn))
            self.looks += 1


class Bench:
    """`cinder` with its cluster; used from threads inside its network."""

    def __init__(self, cinder: ActiveActive) -> None:
        self.cinder = cinder
        self.cluster = Cluster(cinder.lab.info)
        self.faults = Faults(cinder.lab.info)
        self.ledger = Ledger()
        self.admin = self.user()
        self.shared = self.admin.client.create_type("shared", {"multiattach": "<is> True"})
        """The type of all volumes."""

    def user(self, *, poll_seconds: float = POLL_SECONDS) -> User:
        return User(CinderClient.of(self.cinder, poll_seconds=poll_seconds), self.ledger)

    def requests_received(self) -> dict[str, int]:
        """How many requests each cinder-volume has been given."""
        return {host: self.cinder.requests_received(host) for host in self.cinder.hosts}

    def attachments_of(self, volume_id: str, host: Connector | None = None) -> list[Attachment]:
        """As Cinder has them, to any host or to one."""
        return [
            each
            for each in self.admin.client.attachments()
            if each.volume_id == volume_id
            and (host is None or self.ledger.host_of(each.id) == host["nqn"])
        ]

    def watch(self) -> Watch:
        """With a session of its own."""
        return Watch(Cluster(self.cinder.lab.info), self.ledger)

    def known(self) -> model.Known:
        client = self.admin.client
        return model.Known(
            tuple(model.Volume(each.id, each.status, each.size) for each in client.volumes()),
            tuple(model.Snapshot(each.id, each.status) for each in client.snapshots()),
            tuple(
                model.Attachment(each.id, each.volume_id, each.status, self.ledger.host_of(each.id))
                for each in client.attachments()
            ),
            self.ledger.promised(),
        )

    def found(self) -> model.Found:
        everything = self.cluster.everything
        return model.Found(everything("volumes"), everything("snapshots"))

    def check(self) -> None:
        """What should be is what is, as soon as Cinder and the driver have settled."""
        lines: list[str] = []

        def are_none() -> bool:
            lines[:] = model.differences(self.known(), self.found())
            return not lines

        try:
            wait_until(are_none, "no difference", SETTLE_SECONDS, pause=0.5)
        except TimeoutError:
            raise AssertionError(
                "\n".join(["the cluster is not as it should be:", *lines])
            ) from None

    def empty(self) -> None:
        """Delete everything but the type; nothing is left then."""
        client = self.admin.client
        for attachment in client.attachments():
            self.admin.detach(attachment)
        for snapshot in client.snapshots():
            self.admin.delete_snapshot(snapshot.id)
        for volume in client.volumes():
            self.admin.delete_volume(volume.id)
        self.check()
        assert self.cluster.everything("volumes") == []
        assert self.cluster.everything("snapshots") == []
