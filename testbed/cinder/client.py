# SPDX-License-Identifier: Apache-2.0
"""Drives a Cinder deployment through its HTTP API and waits for what it asked for.

openstacksdk makes the requests. Attachments go through its plain adapter: the paths and bodies of
the attachments API (microversion 3.27 and later) as Nova sends them.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from urllib.parse import urlencode

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
    status: str
    connection_info: dict[str, Any]

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> "Attachment":
        info = body["connection_info"] or {}
        return cls(body["id"], body["volume_id"], body["status"], info)


class NoauthCinder(Protocol):
    """A Cinder without Keystone."""

    @property
    def endpoint(self) -> str:
        """Base URL of the Block Storage API, without a project."""

    def log_about(self, object_id: str) -> str:
        """What was logged of errors that name an object."""


class _ProjectAuth(NoAuth):
    """Names user and project in the token, which is how Cinder without Keystone learns them."""

    def __init__(self, endpoint: str, token: str) -> None:
        super().__init__(endpoint)
        self._token = token

    def get_token(self, *_: object, **__: object) -> str:
        return self._token


class CinderClient:
    """Typed calls that return when the thing they made is there, or is gone.

    Every method raises ResourceFailed as soon as Cinder puts the object in an error state, with
    the user message and the log lines that name it, CinderTimeout when nothing happens, and
    openstack.exceptions.HttpException when the API refuses the request. ``explain`` gives the log
    lines about an object's id.
    """

    def __init__(
        self,
        volumes: Proxy,
        *,
        explain: Callable[[str], str] = lambda _: "",
        poll_seconds: float = POLL_SECONDS,
        timeout_seconds: float = WAIT_TIMEOUT_SECONDS,
    ) -> None:
        """Speak as the user whose openstacksdk connection ``volumes`` is of."""
        self._volumes = volumes
        self._explain = explain
        self._poll_seconds = poll_seconds
        self._timeout_seconds = timeout_seconds

    @classmethod
    def of(
        cls,
        service: NoauthCinder,
        *,
        project: str = "notused",
        poll_seconds: float = POLL_SECONDS,
    ) -> "CinderClient":
        """Speak as the administrator, in a project, to a deployment without Keystone."""
        token = f"admin:{project}"
        session = Session(
            _ProjectAuth(service.endpoint, token),
            additional_headers={"X-Auth-Token": token},  # Cinder wants it for the discovery too
        )
        sdk = openstack.connection.Connection(
            session=session,
            block_storage_api_version="3",
            block_storage_endpoint_override=service.endpoint,
        )
        proxy = sdk.block_storage
        assert isinstance(proxy, Proxy)  # block_storage_api_version says so
        return cls(proxy, explain=service.log_about, poll_seconds=poll_seconds)

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

    def clean_up_workers(self) -> None:
        """Have what dead services were doing ended by others; returns before it is."""
        self._request("POST", "/workers/cleanup", {"is_up": False})

    def reset_volume_status(self, volume_id: str, status: str) -> None:
        """What an administrator does with a volume that nobody works on any more."""
        body = {"os-reset_status": {"status": status}}
        self._request("POST", f"/volumes/{volume_id}/action", body)

    def reset_snapshot_status(self, snapshot_id: str, status: str) -> None:
        """As ``reset_volume_status``."""
        body = {"os-reset_status": {"status": status}}
        self._request("POST", f"/snapshots/{snapshot_id}/action", body)

    def create_type(self, name: str, extra_specs: Mapping[str, str] | None = None) -> Type:
        return self._volumes.create_type(name=name, extra_specs=dict(extra_specs or {}))

    def delete_type(self, volume_type: Type) -> None:
        self._volumes.delete_type(volume_type, ignore_missing=False)

    def create_qos_type(
        self,
        name: str,
        qos_specs: Mapping[str, str],
        extra_specs: Mapping[str, str] | None = None,
        *,
        consumer: str = "back-end",
    ) -> Type:
        """A type with QoS specs of its own, which the types of `remove_everything` take along."""
        body = {"name": name, "consumer": consumer, **qos_specs}
        qos_id = self._request("POST", "/qos-specs", {"qos_specs": body})["qos_specs"]["id"]
        volume_type = self.create_type(name, extra_specs)
        self._request("GET", f"/qos-specs/{qos_id}/associate?vol_type_id={volume_type.id}")
        return volume_type

    def delete_qos_type(self, volume_type: Type) -> None:
        """Delete a type that `create_qos_type` made, with its QoS specs."""
        qos_id = self._request("GET", f"/types/{volume_type.id}")["volume_type"]["qos_specs_id"]
        self.delete_type(volume_type)
        self._request("DELETE", f"/qos-specs/{qos_id}?force=True")

    def create_volume(
        self,
        size_gib: int,
        *,
        name: str | None = None,
        volume_type: Type | None = None,
        snapshot: Snapshot | None = None,
        source: Volume | None = None,
        image_id: str | None = None,
    ) -> Volume:
        """A volume: empty, of a snapshot, a clone of ``source``, or with an image's content."""
        requested: dict[str, Any] = {
            "size": size_gib,
            "name": name,
            "volume_type": volume_type and volume_type.id,
            "snapshot_id": snapshot and snapshot.id,
            "source_volume_id": source and source.id,
            "image_id": image_id,
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

    def revert(self, volume_id: str, snapshot_id: str) -> Volume:
        """Set a volume back to its latest snapshot."""
        body = {"revert": {"snapshot_id": snapshot_id}}
        self._request("POST", f"/volumes/{volume_id}/action", body)
        return self._wait_for_status(lambda: self.volume(volume_id), volume_id, "available")

    def retype(self, volume_id: str, volume_type: Type, *, policy: str = "never") -> Volume:
        """Give a volume another type; ``policy``: "never" or "on-demand" for a migration.

        Raises ResourceFailed when the volume keeps the type that it had.
        """
        status = self.volume(volume_id).status
        body = {"os-retype": {"new_type": volume_type.id, "migration_policy": policy}}
        self._request("POST", f"/volumes/{volume_id}/action", body)
        volume = self._wait_for_status(lambda: self.volume(volume_id), volume_id, status)
        if volume.volume_type != volume_type.name:
            raise ResourceFailed(f"volume {volume_id} was not retyped: {self._explain(volume_id)}")
        return volume

    def migrate(self, volume_id: str, pool: str) -> Volume:
        """Move a volume to a pool (``host@backend#pool``), by whatever means Cinder has."""
        body = {"os-migrate_volume": {"host": pool, "force_host_copy": False}}
        self._request("POST", f"/volumes/{volume_id}/action", body)

        def probe() -> Volume | None:
            volume = self.volume(volume_id)
            if volume.migration_status == "error":
                raise ResourceFailed(
                    f"volume {volume_id} was not migrated: {self._explain(volume_id)}"
                )
            return volume if volume.migration_status == "success" else None

        return self._poll(probe, f"{volume_id} to be on {pool}")

    def manage_volume(
        self, pool: str, reference: Mapping[str, str], *, volume_type: Type | None = None
    ) -> Volume:
        """Take a volume of the back end over."""
        body = {
            "host": pool,
            "ref": dict(reference),
            **({"volume_type": volume_type.name} if volume_type else {}),
        }
        reply = self._request("POST", "/manageable_volumes", {"volume": body})
        volume_id = reply["volume"]["id"]
        return self._wait_for_status(lambda: self.volume(volume_id), volume_id, "available")

    def unmanage_volume(self, volume_id: str) -> None:
        """Forget a volume, which stays on its back end."""
        self._request("POST", f"/volumes/{volume_id}/action", {"os-unmanage": {}})
        self._wait_until_gone(lambda: self.volume(volume_id), volume_id)

    def manageable_volumes(self, pool: str, **page: object) -> list[dict[str, Any]]:
        """What a back end has and Cinder not; ``page``: marker, limit, offset, sort."""
        return self._manageable("volumes", pool, page)

    def manage_snapshot(self, volume_id: str, reference: Mapping[str, str]) -> Snapshot:
        """Take a snapshot of a volume over."""
        body = {"volume_id": volume_id, "ref": dict(reference)}
        reply = self._request("POST", "/manageable_snapshots", {"snapshot": body})
        snapshot_id = reply["snapshot"]["id"]
        return self._wait_for_status(lambda: self.snapshot(snapshot_id), snapshot_id, "available")

    def unmanage_snapshot(self, snapshot_id: str) -> None:
        """Forget a snapshot, which stays on its back end."""
        self._request("POST", f"/snapshots/{snapshot_id}/action", {"os-unmanage": {}})
        self._wait_until_gone(lambda: self.snapshot(snapshot_id), snapshot_id)

    def manageable_snapshots(self, pool: str, **page: object) -> list[dict[str, Any]]:
        """As ``manageable_volumes``."""
        return self._manageable("snapshots", pool, page)

    def _manageable(self, kind: str, pool: str, page: Mapping[str, object]) -> list[dict[str, Any]]:
        query = urlencode({"host": pool, **page})
        reply = self._request("GET", f"/manageable_{kind}/detail?{query}")
        return list(reply[f"manageable-{kind}"])

    def offer_transfer(self, volume_id: str) -> tuple[str, str]:
        """Offer a volume to another project; the transfer's id and key."""
        body = {"transfer": {"volume_id": volume_id}}
        transfer = self._request("POST", "/volume-transfers", body)["transfer"]
        return transfer["id"], transfer["auth_key"]

    def accept_transfer(self, transfer_id: str, auth_key: str) -> Volume:
        """Take an offered volume into this client's project."""
        body = {"accept": {"auth_key": auth_key}}
        reply = self._request("POST", f"/volume-transfers/{transfer_id}/accept", body)
        return self.volume(reply["transfer"]["volume_id"])

    def create_snapshot(
        self, volume_id: str, *, name: str | None = None, force: bool = False
    ) -> Snapshot:
        """A snapshot; ``force`` allows one of an attached volume before microversion 3.66."""
        snapshot = self._volumes.create_snapshot(volume_id=volume_id, name=name, force=force)
        return self._wait_for_status(lambda: self.snapshot(snapshot.id), snapshot.id, "available")

    def snapshot(self, snapshot_id: str) -> Snapshot:
        return self._volumes.get_snapshot(snapshot_id)

    def snapshots(self) -> list[Snapshot]:
        return list(self._volumes.snapshots())

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
        self.mark_attached(attachment)
        return self._wait_for_status(
            lambda: self.volume(attachment.volume_id), attachment.volume_id, "in-use"
        )

    def mark_attached(self, attachment: Attachment) -> None:
        """As ``complete_attachment``, of a volume whose status other attachments change, too."""
        self._request("POST", f"/attachments/{attachment.id}/action", {"os-complete": None})

    def detach(self, attachment: Attachment) -> Volume:
        """Delete the attachment; the volume as it is then."""
        self._request("DELETE", f"/attachments/{attachment.id}")
        return self.volume(attachment.volume_id)

    def force_detach(
        self, volume_id: str, attachment_id: str, *, service_token: str | None = None
    ) -> None:
        """Take a volume from every host without asking any, then end this attachment.

        Refused while an instance has the volume, unless the token of a service comes along.
        """
        body = {"os-force_detach": {"attachment_id": attachment_id}}
        headers = {"X-Service-Token": service_token} if service_token else {}
        self._request("POST", f"/volumes/{volume_id}/action", body, headers)

    def attachments(self) -> list[Attachment]:
        reply = self._request("GET", "/attachments/detail")
        return [Attachment.from_body(body) for body in reply["attachments"]]

    def remove_everything(self) -> None:
        """Detach and delete all attachments, snapshots, volumes and types there are."""
        for attachment in self.attachments():
            self.detach(attachment)
        for snapshot in self.snapshots():
            self.delete_snapshot(snapshot.id)
        for volume in self.volumes():
            self.delete_volume(volume.id)
        for volume_type in self._volumes.types():
            if volume_type.name != DEFAULT_TYPE:
                self.delete_type(volume_type)
        for specs in self._request("GET", "/qos-specs")["qos_specs"]:
            self._request("DELETE", f"/qos-specs/{specs['id']}?force=True")

    def messages(self, resource_id: str) -> list[str]:
        """Cinder's user messages about an object, newest first."""
        reply = self._request("GET", f"/messages?resource_uuid={resource_id}&sort=created_at:desc")
        return [message["user_message"] for message in reply["messages"]]

    def _create_attachment(self, body: dict[str, Any], instance_uuid: str | None) -> Attachment:
        if instance_uuid is not None:
            body["instance_uuid"] = instance_uuid
        reply = self._request("POST", "/attachments", {"attachment": body})
        return Attachment.from_body(reply["attachment"])

    def _request(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        reply = self._volumes.request(
            path,
            method,
            json=body,
            headers=dict(headers or {}),
            microversion=ATTACHMENTS_MICROVERSION,
            raise_exc=False,
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

    def _poll(
        self,
        probe: Callable[[], T | None],
        awaited: str,
        timeout_seconds: float | None = None,
    ) -> T:
        timeout_seconds = timeout_seconds or self._timeout_seconds
        deadline = time.monotonic() + timeout_seconds
        while not (result := probe()):
            if time.monotonic() > deadline:
                raise CinderTimeout(f"still waiting for {awaited} after {timeout_seconds:.0f} s")
            time.sleep(self._poll_seconds)
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
