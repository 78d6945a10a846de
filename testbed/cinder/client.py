# SPDX-License-Identifier: Apache-2.0
"""Drives a Cinder deployment through its HTTP API and waits for what it asked for.

openstacksdk makes the requests. Attachments go through its plain adapter: the paths and bodies of
the attachments API (microversion 3.27 and later) as Nova sends them.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import openstack
from keystoneauth1.noauth import NoAuth
from keystoneauth1.session import Session
from openstack import exceptions
from openstack.block_storage.v3._proxy import Proxy
from openstack.block_storage.v3.snapshot import Snapshot
from openstack.block_storage.v3.type import Type
from openstack.block_storage.v3.volume import Volume

from testbed.cinder.errors import CinderTimeout, ResourceFailed
from testbed.cinder.paths import VENV_BIN
from testbed.cinder.service import CinderService

DEFAULT_TYPE = "__DEFAULT__"
ATTACHMENTS_MICROVERSION = "3.54"
WAIT_TIMEOUT_SECONDS = 120
POLL_SECONDS = 0.1


T = TypeVar("T")
Found = TypeVar("Found", Volume, Snapshot)


@dataclass(frozen=True)
class Attachment:
    """An attachment as Cinder reports it; ``connection_info`` is what os-brick is given."""

    id: str
    volume_id: str
    connection_info: dict[str, Any]

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> "Attachment":
        return cls(body["id"], body["volume_id"], body["connection_info"] or {})


class CinderClient:
    """Typed calls that return when the thing they made is there, or is gone.

    Every method raises ResourceFailed as soon as Cinder puts the object in an error state, with
    the user message and the log lines that name it, CinderTimeout when nothing happens, and
    openstack.exceptions.HttpException when the API refuses the request. ``explain`` gives the log
    lines about an object's id.
    """

    def __init__(self, volumes: Proxy, *, explain: Callable[[str], str] = lambda _: "") -> None:
        """Speak as the user whose openstacksdk connection ``volumes`` is of."""
        self._volumes = volumes
        self._explain = explain

    @classmethod
    def of(cls, service: CinderService) -> "CinderClient":
        """Speak as the administrator to a deployment without Keystone."""
        sdk = openstack.connection.Connection(
            session=Session(NoAuth(service.endpoint)),
            block_storage_api_version="3",
            block_storage_endpoint_override=service.endpoint,
        )
        proxy = sdk.block_storage
        assert isinstance(proxy, Proxy)  # block_storage_api_version says so
        return cls(proxy, explain=service.log_about)

    def lift_quotas(self) -> None:
        """No limits: the default quota class in the database wins over cinder.conf."""
        unlimited = dict.fromkeys(("volumes", "snapshots", "gigabytes", "per_volume_gigabytes"), -1)
        self._request("PUT", "/os-quota-class-sets/default", {"quota_class_set": unlimited})

    def services(self) -> list[dict[str, Any]]:
        """Every service's binary, host, state ("up" or "down") ..."""
        return list(self._request("GET", "/os-services")["services"])

    def pools(self) -> list[dict[str, Any]]:
        """What the scheduler knows of each pool: name and capabilities."""
        return list(self._request("GET", "/scheduler-stats/get_pools?detail=true")["pools"])

    def wait_for_pools(self, timeout_seconds: float = WAIT_TIMEOUT_SECONDS) -> list[dict[str, Any]]:
        """The pools, as soon as the scheduler has heard of any."""
        return self._poll(self.pools, "the scheduler's first pool", timeout_seconds)

    def create_type(self, name: str, extra_specs: Mapping[str, str] | None = None) -> Type:
        return self._volumes.create_type(name=name, extra_specs=dict(extra_specs or {}))

    def delete_type(self, volume_type: Type) -> None:
        self._volumes.delete_type(volume_type, ignore_missing=False)

    def create_volume(
        self,
        size_gib: int,
        *,
        name: str | None = None,
        volume_type: Type | None = None,
        snapshot: Snapshot | None = None,
        source: Volume | None = None,
    ) -> Volume:
        """A volume: empty, of a snapshot, or a clone of ``source``."""
        requested: dict[str, Any] = {
            "size": size_gib,
            "name": name,
            "volume_type": volume_type and volume_type.id,
            "snapshot_id": snapshot and snapshot.id,
            "source_volume_id": source and source.id,
        }
        volume = self._volumes.create_volume(
            **{key: value for key, value in requested.items() if value is not None}
        )
        return self._wait_for_status(lambda: self.volume(volume.id), volume.id, "available")

    def volume(self, volume_id: str) -> Volume:
        return self._volumes.get_volume(volume_id)

    def volumes(self) -> list[Volume]:
        return list(self._volumes.volumes())

    def extend_volume(self, volume_id: str, size_gib: int) -> Volume:
        """Grow a volume, attached (microversion 3.42 and later) or not."""
        status = self.volume(volume_id).status
        self._volumes.extend_volume(volume_id, size_gib)
        return self._wait_for_status(lambda: self.volume(volume_id), volume_id, status)

    def delete_volume(self, volume_id: str) -> None:
        self._volumes.delete_volume(volume_id, ignore_missing=False)
        self._wait_until_gone(lambda: self.volume(volume_id), volume_id)

    def create_snapshot(
        self, volume_id: str, *, name: str | None = None, force: bool = False
    ) -> Snapshot:
        """A snapshot; ``force`` allows one of an attached volume before microversion 3.66."""
        snapshot = self._volumes.create_snapshot(volume_id=volume_id, name=name, force=force)
        return self._wait_for_status(lambda: self.snapshot(snapshot.id), snapshot.id, "available")

    def snapshot(self, snapshot_id: str) -> Snapshot:
        return self._volumes.get_snapshot(snapshot_id)

    def delete_snapshot(self, snapshot_id: str) -> None:
        self._volumes.delete_snapshot(snapshot_id, ignore_missing=False)
        self._wait_until_gone(lambda: self.snapshot(snapshot_id), snapshot_id)

    def reserve(self, volume_id: str, *, instance_uuid: str | None = None) -> Attachment:
        """An attachment without a connector, as for a server that is still being scheduled.

        One that names an instance cannot be deleted without Nova's consent.
        """
        return self._create_attachment({"volume_uuid": volume_id}, instance_uuid)

    def attach(
        self,
        volume_id: str,
        connector: Mapping[str, Any],
        *,
        instance_uuid: str | None = None,
    ) -> Attachment:
        """Give the host of ``connector`` access; the volume is not "in-use" before complete()."""
        return self._create_attachment(
            {"volume_uuid": volume_id, "connector": dict(connector)}, instance_uuid
        )

    def update_attachment(self, attachment_id: str, connector: Mapping[str, Any]) -> Attachment:
        body = {"attachment": {"connector": dict(connector)}}
        reply = self._request("PUT", f"/attachments/{attachment_id}", body)
        return Attachment.from_body(reply["attachment"])

    def complete_attachment(self, attachment: Attachment) -> Volume:
        """Tell Cinder that the host has the device: the volume becomes "in-use"."""
        self._request("POST", f"/attachments/{attachment.id}/action", {"os-complete": None})
        return self._wait_for_status(
            lambda: self.volume(attachment.volume_id), attachment.volume_id, "in-use"
        )

    def detach(self, attachment: Attachment) -> Volume:
        """Delete the attachment; the volume as it is then."""
        self._request("DELETE", f"/attachments/{attachment.id}")
        return self.volume(attachment.volume_id)

    def attachments(self) -> list[Attachment]:
        reply = self._request("GET", "/attachments/detail")
        return [Attachment.from_body(body) for body in reply["attachments"]]

    def remove_everything(self) -> None:
        """Detach and delete all attachments, snapshots, volumes and types there are."""
        for attachment in self.attachments():
            self.detach(attachment)
        for snapshot in self._volumes.snapshots():
            self.delete_snapshot(snapshot.id)
        for volume in self.volumes():
            self.delete_volume(volume.id)
        for volume_type in self._volumes.types():
            if volume_type.name != DEFAULT_TYPE:
                self.delete_type(volume_type)

    def messages(self, resource_id: str) -> list[str]:
        """Cinder's user messages about an object, newest first."""
        reply = self._request("GET", f"/messages?resource_uuid={resource_id}&sort=created_at:desc")
        return [message["user_message"] for message in reply["messages"]]

    def _create_attachment(self, body: dict[str, Any], instance_uuid: str | None) -> Attachment:
        if instance_uuid is not None:
            body["instance_uuid"] = instance_uuid
        reply = self._request("POST", "/attachments", {"attachment": body})
        return Attachment.from_body(reply["attachment"])

    def _request(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        reply = self._volumes.request(
            path, method, json=body, microversion=ATTACHMENTS_MICROVERSION, raise_exc=False
        )
        exceptions.raise_from_response(reply)
        return reply.json() if reply.content else {}

    def _wait_for_status(self, fetch: Callable[[], Found], object_id: str, wanted: str) -> Found:
        def probe() -> Found | None:
            found = fetch()
            self._reject_error(found, object_id)
            return found if found.status == wanted else None

        return self._poll(probe, f'{object_id} to be "{wanted}"')

    def _wait_until_gone(self, fetch: Callable[[], Volume | Snapshot], object_id: str) -> None:
        def probe() -> bool:
            try:
                self._reject_error(fetch(), object_id)
            except exceptions.NotFoundException:
                return True
            return False

        self._poll(probe, f"{object_id} to be deleted")

    def _reject_error(self, found: Volume | Snapshot, object_id: str) -> None:
        if found.status.startswith("error"):
            cause = "\n".join([*self.messages(object_id), self._explain(object_id)])
            kind = type(found).__name__.lower()
            raise ResourceFailed(f'{kind} {object_id} is in state "{found.status}": {cause}')

    @staticmethod
    def _poll(
        probe: Callable[[], T | None], awaited: str, timeout_seconds: float = WAIT_TIMEOUT_SECONDS
    ) -> T:
        deadline = time.monotonic() + timeout_seconds
        while not (result := probe()):
            if time.monotonic() > deadline:
                raise CinderTimeout(f"still waiting for {awaited} after {timeout_seconds:.0f} s")
            time.sleep(POLL_SECONDS)
        return result


def openstack_command(service: CinderService) -> list[str]:
    """The ``openstack`` command that talks to this deployment; append e.g. ``volume list``."""
    prefix = ["ip", "netns", "exec", service.namespace] if service.namespace else []
    return [
        *prefix,
        str(VENV_BIN / "openstack"),
        *("--os-auth-type", "none"),
        *("--os-endpoint", service.endpoint),
    ]
