# SPDX-License-Identifier: Apache-2.0
"""Who is attached as Cinder's database has it, and the driver's own notes beside it.

Cinder records which host an attachment is on only after the driver has given that host access,
and forgets an attachment only after the driver has taken the access away. In between, and when
a process dies there, the attachments alone do not tell who needs access. So before it gives
access, the driver notes that, as admin metadata of the volume, which users never see, under
`lightos:access:<host NQN>`; the note goes with the access. It also tells the driver's entries
in an access list from those that an operator made.

The only module that reads attachments from the database or writes to it. A host's NQN is looked
for over all attachments with one query over the volumes in use: the table has no index for it,
but one for the attachments of a volume, and keeps those that ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cinder import context
from cinder.db import api as db
from cinder.db import models
from cinder.objects import fields
from oslo_db import api as oslo_db
from oslo_serialization import jsonutils
from oslo_utils import uuidutils
from sqlalchemy import func

from lightos.openstack.cinder.acl import Host

NOTE_PREFIX = "lightos:access:"
LONGEST_NOTE = 255
VOLUMES_PER_QUERY = 500
_COLUMNS = (
    models.VolumeAttachment.id,
    models.VolumeAttachment.connector,
    models.VolumeAttachment.attach_status,
)
"""What makes an Attachment. Columns and not whole rows, each of which brings its volume along: they
are read for every attach and detach."""
_SHORT = 8
"""Digits of an id that a note keeps: there is little room, and one volume's ids differ."""


@dataclass(frozen=True)
class Attachment:
    """A live attachment. `connector` is None until the host is known (or for ever, with the
    calls that Nova used before the attachments API); `is_attached` once it is complete."""

    id: str
    connector: Mapping[str, Any] | None
    is_attached: bool = False

    @property
    def host_nqn(self) -> str:
        """NQN of the host that it is on; empty when that is not known."""
        return str((self.connector or {}).get("nqn") or "")


@dataclass(frozen=True)
class Grant:
    """A note that access was given: when (any unique word), and what was recorded by then.

    `for_attachment`: some attachment was waiting for its host then, so this will be recorded.
    Otherwise Cinder copies data itself, or a client uses the calls that record nothing.
    `machine` and `addresses` are the host's: its name and IP address in Cinder, and where its
    data comes from.
    """

    occasion: str
    for_attachment: bool
    recorded: frozenset[str] = frozenset()
    machine: tuple[str, str] = ("", "")
    addresses: tuple[str, ...] = ()

    @classmethod
    def now(
        cls, attachments: Iterable[Attachment], host: Host, connector: Mapping[str, Any]
    ) -> Grant:
        """What to note before a host is given access."""
        attachments = tuple(attachments)
        name, ip = (str(connector.get(key) or "") for key in ("host", "ip"))
        return cls(
            uuidutils.generate_uuid(dashed=False)[:_SHORT],
            any(attachment.connector is None for attachment in attachments),
            frozenset(a.id[:_SHORT] for a in attachments if a.host_nqn == host.nqn),
            (name, ip),
            host.addresses,
        )

    @property
    def connector(self) -> dict[str, str]:
        """What is known of the host, as a connector."""
        name, ip = self.machine
        return {"host": name, "ip": ip}

    def is_recorded(self, attachments: Iterable[Attachment], host_nqn: str) -> bool:
        """Whether the attachment it was given for shows in the database by now."""
        return any(
            a.host_nqn == host_nqn and a.id[:_SHORT] not in self.recorded for a in attachments
        )

    @classmethod
    def parse(cls, text: str) -> Grant | None:
        """Read a note; None when it is of another form."""
        occasion, *rest = text.split() or [""]
        if not rest or rest[0] not in ("attachment", "other"):
            return None
        words = rest[1:]
        machine = next((word[1:] for word in words if word.startswith("=")), "")
        name, _, ip = machine.partition("/")
        return cls(
            occasion,
            rest[0] == "attachment",
            frozenset(word for word in words if word[0] not in "=@"),
            (name, ip),
            tuple(word[1:] for word in words if word.startswith("@")),
        )

    def __str__(self) -> str:
        """The note, in as many characters as the database takes; addresses give way first."""
        text = f"{self.occasion} {'attachment' if self.for_attachment else 'other'}"
        machine = "=" + "/".join(self.machine) if any(self.machine) else ""
        addresses = (f"@{address}" for address in self.addresses)
        for word in filter(None, (*sorted(self.recorded), machine, *addresses)):
            if len(text) + 1 + len(word) > LONGEST_NOTE:
                break
            text = f"{text} {word}"
        return text


def access_of(volume_id: str) -> tuple[tuple[Attachment, ...], dict[str, Grant]]:
    """The live attachments of a volume, as the database has them now, and its notes."""
    attached = models.VolumeAttachment
    with reading() as session:
        rows = session.query(*_COLUMNS).filter(
            attached.volume_id == volume_id,
            attached.deleted.is_(False),
            attached.attach_status != fields.VolumeAttachStatus.DETACHED,
        )
        return tuple(_attachment(row) for row in rows), _grants_of(session, volume_id)


def one_per_host_with(host_nqn: str) -> tuple[Attachment, ...]:
    """For each host name under which an NQN is attached to anything, one such attachment."""
    attached, volume = models.VolumeAttachment, models.Volume
    with reading() as session:
        ids = (
            session.query(func.min(attached.id))
            .join(volume, volume.id == attached.volume_id)
            .filter(volume.deleted.is_(False), attached.deleted.is_(False))
            .filter(volume.attach_status != fields.VolumeAttachStatus.DETACHED)
            .filter(attached.connector.contains(f'"{host_nqn}"', autoescape=True))
            .group_by(attached.attached_host)
        )
        rows = session.query(*_COLUMNS).filter(attached.id.in_([id for (id,) in ids]))
        found = tuple(_attachment(row) for row in rows)
    return tuple(attachment for attachment in found if attachment.host_nqn == host_nqn)


def is_live(attachment_id: str, host_nqn: str) -> bool:
    """Whether an attachment seen before is still there, on the host with this NQN."""
    attached = models.VolumeAttachment
    with reading() as session:
        row = (
            session.query(*_COLUMNS)
            .filter(attached.id == attachment_id, attached.deleted.is_(False))
            .first()
        )
        return row is not None and _attachment(row).host_nqn == host_nqn


_retried = oslo_db.wrap_db_retry(max_retries=5, retry_on_deadlock=True)

# --- notes ---------------------------------------------------------------------------------------


def grants_of(volume_id: str) -> dict[str, Grant]:
    """The notes of access that was given to a volume, by host NQN."""
    with reading() as session:
        return _grants_of(session, volume_id)


def _grants_of(session: Any, volume_id: str) -> dict[str, Grant]:
    noted = models.VolumeAdminMetadata
    rows = session.query(noted.key, noted.value).filter(
        noted.volume_id == volume_id,
        noted.deleted.is_(False),
        noted.key.startswith(NOTE_PREFIX, autoescape=True),
    )
    notes = [(key.removeprefix(NOTE_PREFIX), Grant.parse(value)) for key, value in rows]
    return {host_nqn: grant for host_nqn, grant in notes if grant}


@_retried
def note(volume_id: str, host_nqn: str, grant: Grant) -> None:
    """Write a note, in place of the one there was for this volume and host."""
    noted = models.VolumeAdminMetadata
    with _writing() as session:
        row = {"volume_id": volume_id, "key": NOTE_PREFIX + host_nqn}
        if not session.query(noted).filter_by(deleted=False, **row).update({"value": str(grant)}):
            session.add(noted(value=str(grant), **row))


@_retried
def forget(volume_id: str, host_nqn: str) -> None:
    """Remove a note, if there is one; for good, since each attach makes a new one."""
    noted = models.VolumeAdminMetadata
    with _writing() as session:
        key = NOTE_PREFIX + host_nqn
        session.query(noted).filter_by(volume_id=volume_id, key=key).delete()


@_retried
def forget_all(volume_id: str) -> None:
    """Remove every note of a volume."""
    noted = models.VolumeAdminMetadata
    with _writing() as session:
        session.query(noted).filter(
            noted.volume_id == volume_id, noted.key.startswith(NOTE_PREFIX, autoescape=True)
        ).delete(synchronize_session=False)


def unrecorded_grants_of(host_nqn: str) -> list[Grant]:
    """The notes of access given with an NQN, on whatever volume, that no attachment bears out."""
    noted, volume = models.VolumeAdminMetadata, models.Volume
    with reading() as session:
        notes = {
            volume_id: grant
            for volume_id, value in session.query(noted.volume_id, noted.value)
            .join(volume, volume.id == noted.volume_id)
            .filter(noted.deleted.is_(False), volume.deleted.is_(False))
            .filter(noted.key == NOTE_PREFIX + host_nqn)
            if (grant := Grant.parse(value))
        }
    recorded = _recorded_hosts(set(notes))
    return [grant for volume_id, grant in notes.items() if (volume_id, host_nqn) not in recorded]


def unrecorded_grants(host: str, cluster_name: str | None) -> Iterator[tuple[str, str]]:
    """(volume id, host NQN) of a back end's notes that no attachment on that host bears out."""
    noted, volume = models.VolumeAdminMetadata, models.Volume
    with reading() as session:
        notes = [
            (volume_id, key.removeprefix(NOTE_PREFIX))
            for volume_id, key in session.query(noted.volume_id, noted.key)
            .join(volume, volume.id == noted.volume_id)
            .filter(noted.deleted.is_(False), volume.deleted.is_(False))
            .filter(noted.key.startswith(NOTE_PREFIX, autoescape=True))
            .filter(of_back_end(volume, host, cluster_name))
            .order_by(noted.volume_id)
        ]
    for start in range(0, len(notes), VOLUMES_PER_QUERY):
        some = notes[start : start + VOLUMES_PER_QUERY]
        recorded = _recorded_hosts({volume_id for volume_id, _nqn in some})
        yield from (pair for pair in some if pair not in recorded)


def _recorded_hosts(volume_ids: set[str]) -> set[tuple[str, str]]:
    attached = models.VolumeAttachment
    with reading() as session:
        rows = session.query(attached.volume_id, *_COLUMNS).filter(
            attached.deleted.is_(False), attached.volume_id.in_(volume_ids)
        )
        return {(row.volume_id, _attachment(row).host_nqn) for row in rows}


def of_back_end(volume: Any, host: str, cluster_name: str | None) -> Any:
    """Volumes of a back end are on `host` or `cluster_name`, with or without `#pool`."""
    column, name = (volume.cluster_name, cluster_name) if cluster_name else (volume.host, host)
    return (column == name) | column.startswith(f"{name}#", autoescape=True)


def _attachment(row: Any) -> Attachment:
    connector = jsonutils.loads(row.connector) if row.connector else None
    return Attachment(
        row.id, connector, is_attached=row.attach_status == fields.VolumeAttachStatus.ATTACHED
    )


def _context() -> context.RequestContext:
    return context.get_admin_context()


def reading() -> Any:
    """A session on Cinder's database, to read."""
    return db.main_context_manager.reader.using(_context())


def _writing() -> Any:
    return db.main_context_manager.writer.using(_context())
