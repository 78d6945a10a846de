# SPDX-License-Identifier: Apache-2.0
"""What the operations do that report on servers, connected hosts and events; they change nothing.

Whoever calls sees of hosts what its projects have to do with them.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import TypeVar

from lightos.api.models.events import EventList, EventSeverity, EventType, ListEvents
from lightos.api.models.hosts import ConnectedHost, ConnectedHostList, GetHost, ListHosts
from lightos.api.models.servers import GetServer, ListServers, ServerList
from lightos.api.wire import Model, WireEnum
from lightos.lab.arguments import optional_uuid, page_size, uuid_of
from lightos.lab.auth import Caller
from lightos.lab.cluster import Cluster
from lightos.lab.connected_hosts import visible_volumes
from lightos.lab.describe import Description
from lightos.lab.errors import InvalidArgument, NotFound, Unimplemented
from lightos.lab.event_log import EventFilter
from lightos.lab.names import SYSTEM

E = TypeVar("E", bound=WireEnum)

_PROJECT_OF = {"": None, SYSTEM: ""}
"""Without a project all is told, in `system` what is of no project."""


class ReportOperations:
    """The operations on servers, connected hosts and events, each with its message and caller."""

    def __init__(self, description: Description) -> None:
        self._describe = description
        self._cluster: Cluster = description.cluster

    async def list_servers(self, message: ListServers, _caller: Caller) -> Model:
        uuid = optional_uuid("UUID", message.uuid)
        servers = [
            self._describe.server(node)
            for node in self._cluster.nodes.values()
            if uuid in (None, node.uuid) and message.name in ("", node.name)
        ]
        wanted = message.service_risk
        return ServerList(
            servers=tuple(s for s in servers if not wanted or s.service_risk is wanted)
        )

    async def get_server(self, message: GetServer, _caller: Caller) -> Model:
        uuid = uuid_of("UUID", message.uuid)
        if uuid not in self._cluster.nodes:
            raise NotFound(f"server {uuid} does not exist")
        return self._describe.server(self._cluster.nodes[uuid])

    async def list_hosts(self, message: ListHosts, caller: Caller) -> Model:
        hosts = self._hosts(caller.readable_projects)
        if message.volume_uuid:
            uuid = uuid_of("volumeUUID", message.volume_uuid)
            volume = self._cluster.volumes.find(None, uuid)
            if not caller.may_read(volume.project):
                raise NotFound(f"volume {uuid} does not exist")
            hosts = [host for host in hosts if str(uuid) in host.volume_uuids]
        return ConnectedHostList(hosts=tuple(hosts))

    async def get_host(self, message: GetHost, caller: Caller) -> Model:
        for host in self._hosts(caller.readable_projects):
            if host.host_nqn == message.host_nqn:
                return host
        raise NotFound(f"host {message.host_nqn[:223]} is not connected")

    def _hosts(self, projects: Collection[str] | None) -> list[ConnectedHost]:
        """Hosts with the volumes that they see; only volumes of `projects`, and hosts with such."""
        volumes = self._cluster.volumes
        found = []
        for host_nqn, paths in self._describe.hosts.paths().items():
            seen = [
                str(uuid)
                for uuid in visible_volumes(paths)
                if projects is None or (uuid in volumes and volumes[uuid].project in projects)
            ]
            if seen or projects is None:
                address = min(controller.host_address for _, controller in paths)
                found.append(
                    ConnectedHost(
                        host_nqn=host_nqn, ip_address=address, volume_uuids=tuple(sorted(seen))
                    )
                )
        return found

    async def list_events(self, message: ListEvents, _caller: Caller) -> Model:
        if message.project not in ("", SYSTEM):
            self._cluster.tenants.check_project(message.project)
        limit = page_size(message.limit)
        before = _event_number(message.next_token) if message.next_token else None
        found = self._describe.events.page(_event_filter(message), before=before, limit=limit + 1)
        page = found[:limit]
        return EventList(
            events=tuple(map(self._describe.event, page)),
            next_token=str(page[-1].number) if len(found) > limit else "",
        )


def _event_number(token: str) -> int:
    if not (token.isascii() and token.isdecimal() and len(token) < 20):
        raise InvalidArgument(f"nextToken {token[:64]!r} is none that this cluster gave")
    return int(token)


def _event_filter(message: ListEvents) -> EventFilter:
    """Raises InvalidArgument for what cannot be read, and Unimplemented for several filters."""
    filters = {
        "since and until": bool(message.since or message.until),
        "severity": bool(message.severity),
        "componentType": bool(message.component_type),
    }
    given = [name for name, is_given in filters.items() if is_given]
    if len(given) > 1:
        raise Unimplemented(f"events take one filter at a time, not {' with '.join(given)}")
    since = _moment("since", message.since)
    until = _moment("until", message.until)
    if since and until and since > until:
        raise InvalidArgument(f"since {message.since} is later than until {message.until}")
    severities = [_member("severity", EventSeverity, text) for text in message.severity]
    kind = message.component_type
    return EventFilter(
        project=_PROJECT_OF.get(message.project, message.project),
        since=since,
        until=until,
        severities=frozenset(severities) or None,
        event_type=_member("componentType", EventType, kind) if kind else None,
    )


def _moment(field: str, text: str) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidArgument(f"{field} {text[:64]!r} is not an ISO 8601 time") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _member(field: str, members: type[E], text: str) -> E:
    for name, member in members.by_wire_name().items():
        if name.lower() == text.lower():
            return member
    raise InvalidArgument(
        f"{field} {text[:64]!r} is not known; legal are {', '.join(members.by_wire_name())}"
    )
