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

Attach and detach are many, and a cinder-volume has one Python for all its threads: what they ask of
the database are statements on columns, built once, as few as can be, and each write is one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cinder import context
from cinder.db import api as db
from cinder.db import models
from cinder.objects import fields
from oslo_db import api as oslo_db
from oslo_serialization import jsonutils
from oslo_utils import uuidutils
from sqlalchemy import bindparam, delete, func, insert, select, update

from lightos.openstack.cinder.acl import Host

NOTE_PREFIX = "lightos:access:"
LONGEST_NOTE = 255
VOLUMES_PER_QUERY = 500

_ATTACHED = models.VolumeAttachment.__table__.c
_NOTED = models.VolumeAdminMetadata.__table__.c
_VOLUME = models.Volume.__table__.c
_COLUMNS = (_ATTACHED.id, _ATTACHED.connector, _ATTACHED.attach_status)
"""What makes an Attachment."""

_ATTACHMENTS_OF = select(*_COLUMNS).where(
    _ATTACHED.volume_id == bindparam("volume"),
    _ATTACHED.deleted.is_(False),
    _ATTACHED.attach_status != fields.VolumeAttachStatus.DETACHED,
)
_ATTACHMENT = select(*_COLUMNS).where(
    _ATTACHED.id == bindparam("attachment"), _ATTACHED.deleted.is_(False)
)
_FIRST_OF_HOSTS = (
    select(func.min(_ATTACHED.id).label("id"))
    .join(models.Volume.__table__, _VOLUME.id == _ATTACHED.volume_id)
    .where(
        _VOLUME.deleted.is_(False),
        _VOLUME.attach_status != fields.VolumeAttachStatus.DETACHED,
        _ATTACHED.deleted.is_(False),
        _ATTACHED.connector.contains(bindparam("quoted_nqn"), escape="/"),
    )
    .group_by(_ATTACHED.attached_host)
    .subquery()
)
_ONE_PER_HOST_WITH = select(*_COLUMNS).join(_FIRST_OF_HOSTS, _FIRST_OF_HOSTS.c.id == _ATTACHED.id)
_NOTES_OF = select(_NOTED.key, _NOTED.value).where(
    _NOTED.volume_id == bindparam("volume"),
    _NOTED.deleted.is_(False),
    _NOTED.key.startswith(NOTE_PREFIX, autoescape=True),
)
_NOTES_WITH = (
    select(_NOTED.value)
    .join(models.Volume.__table__, _VOLUME.id == _NOTED.volume_id)
    .where(
        _NOTED.deleted.is_(False), _VOLUME.deleted.is_(False), _NOTED.key == bindparam("note_key")
    )
)
_IS_NOTE = (
    _NOTED.volume_id == bindparam("volume"),
    _NOTED.key == bindparam("note_key"),
)
_NEW_NOTE = insert(models.VolumeAdminMetadata.__table__)
_OTHER_NOTE = (
    update(models.VolumeAdminMetadata.__table__)
    .where(*_IS_NOTE, _NOTED.deleted.is_(False))
    .values(value=bindparam("note"))
)
_NO_NOTE = delete(models.VolumeAdminMetadata.__table__).where(*_IS_NOTE)

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
    data comes from. `count` is of this access and what was given before that waits to be recorded.
    """

    occasion: str
    for_attachment: bool
    recorded: frozenset[str] = frozenset()
    machine: tuple[str, str] = ("", "")
    addresses: tuple[str, ...] = ()
    count: int = 1

    @classmethod
    def now(
        cls,
        attachments: Iterable[Attachment],
        host: Host,
        connector: Mapping[str, Any],
        before: Grant | None = None,
    ) -> Grant:
        """What to note before a host is given access; `before` is the host's note until then."""
        attachments = tuple(attachments)
        waiting = sum(attachment.connector is None for attachment in attachments)
        given = before.unrecorded(attachments, host.nqn) if before and before.for_attachment else 0
        name, ip = (str(connector.get(key) or "") for key in ("host", "ip"))
        return cls(
            uuidutils.generate_uuid(dashed=False)[:_SHORT],
            waiting > 0,
            frozenset(a.id[:_SHORT] for a in attachments if a.host_nqn == host.nqn),
            (name, ip),
            host.addresses,
            max(1, min(given + 1, waiting)),
        )

    @property
    def connector(self) -> dict[str, str]:
        """What is known of the host, as a connector."""
        name, ip = self.machine
        return {"host": name, "ip": ip}

    def unrecorded(self, attachments: Iterable[Attachment], host_nqn: str) -> int:
        """For how many attachments access was given that do not show in the database yet."""
        since = (a.host_nqn == host_nqn and a.id[:_SHORT] not in self.recorded for a in attachments)
        return max(0, self.count - sum(since))

    def is_recorded(self, attachments: Iterable[Attachment], host_nqn: str) -> bool:
        """Whether what it was given for shows in the database by now."""
        return self.unrecorded(attachments, host_nqn) == 0

    @classmethod
    def parse(cls, text: str) -> Grant | None:
        """Read a note; None when it is of another form."""
        occasion, *rest = text.split() or [""]
        if not rest or rest[0] not in ("attachment", "other"):
            return None
        words = rest[1:]
        machine = next((word[1:] for word in words if word.startswith("=")), "")
        name, _, ip = machine.partition("/")
        count = next((word[1:] for word in words if word.startswith("+")), "1")
        return cls(
            occasion,
            rest[0] == "attachment",
            frozenset(word for word in words if word[0] not in "=@+"),
            (name, ip),
            tuple(word[1:] for word in words if word.startswith("@")),
            int(count) if count.isdecimal() else 1,
        )

    def __str__(self) -> str:
        """The note, in as many characters as the database takes; addresses give way first."""
        text = f"{self.occasion} {'attachment' if self.for_attachment else 'other'}"
        count = f"+{self.count}" if self.count > 1 else ""
        machine = "=" + "/".join(self.machine) if any(self.machine) else ""
        addresses = (f"@{address}" for address in self.addresses)
        for word in filter(None, (count, *sorted(self.recorded), machine, *addresses)):
            if len(text) + 1 + len(word) > LONGEST_NOTE:
                break
            text = f"{text} {word}"
        return text


def access_of(session: Any, volume_id: str) -> tuple[tuple[Attachment, ...], dict[str, Grant]]:
    """The live attachments of a volume, as the database has them now, and its notes."""
    rows = session.execute(_ATTACHMENTS_OF, {"volume": volume_id})
    return tuple(_attachment(row) for row in rows), _grants_of(session, volume_id)


def one_per_host_with(session: Any, host_nqn: str) -> tuple[Attachment, ...]:
    """For each host name under which an NQN is attached to anything, one such attachment."""
    rows = session.execute(_ONE_PER_HOST_WITH, {"quoted_nqn": _in_pattern(f'"{host_nqn}"')})
    found = tuple(_attachment(row) for row in rows)
    return tuple(attachment for attachment in found if attachment.host_nqn == host_nqn)


def is_live(session: Any, attachment_id: str, host_nqn: str) -> bool:
    """Whether an attachment seen before is still there, on the host with this NQN."""
    row = session.execute(_ATTACHMENT, {"attachment": attachment_id}).first()
    return row is not None and _attachment(row).host_nqn == host_nqn


_retried = oslo_db.wrap_db_retry(max_retries=5, retry_on_deadlock=True)

# --- notes ---------------------------------------------------------------------------------------


def grants_of(volume_id: str) -> dict[str, Grant]:
    """The notes of access that was given to a volume, by host NQN."""
    with reading() as session:
        return _grants_of(session, volume_id)


def _grants_of(session: Any, volume_id: str) -> dict[str, Grant]:
    rows = session.execute(_NOTES_OF, {"volume": volume_id})
    notes = [(key.removeprefix(NOTE_PREFIX), Grant.parse(value)) for key, value in rows]
    return {host_nqn: grant for host_nqn, grant in notes if grant}


@_retried
def note(volume_id: str, host_nqn: str, grant: Grant, *, in_place_of: Grant | None) -> None:
    """Write a note. `in_place_of` is the one that there is for this volume and host, if any."""
    key, value = NOTE_PREFIX + host_nqn, str(grant)
    with _writing() as session:
        if in_place_of is None:
            session.execute(_NEW_NOTE, {"volume_id": volume_id, "key": key, "value": value})
        else:
            session.execute(_OTHER_NOTE, {"volume": volume_id, "note_key": key, "note": value})


@_retried
def forget(volume_id: str, host_nqn: str) -> None:
    """Remove a note, if there is one; for good, since each attach makes a new one."""
    with _writing() as session:
        session.execute(_NO_NOTE, {"volume": volume_id, "note_key": NOTE_PREFIX + host_nqn})


@_retried
def forget_all(volume_id: str) -> None:
    """Remove every note of a volume."""
    noted = models.VolumeAdminMetadata
    with _writing() as session:
        session.query(noted).filter(
            noted.volume_id == volume_id, noted.key.startswith(NOTE_PREFIX, autoescape=True)
        ).delete(synchronize_session=False)


def grants_with(host_nqn: str) -> list[Grant]:
    """The notes of access given with an NQN, on whatever volume."""
    with reading() as session:
        rows = session.execute(_NOTES_WITH, {"note_key": NOTE_PREFIX + host_nqn})
        return [grant for (value,) in rows if (grant := Grant.parse(value))]


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
    return unrecorded(notes)


def unrecorded(pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Of pairs (volume id, host NQN), those of which no attachment shows the host."""
    for start in range(0, len(pairs), VOLUMES_PER_QUERY):
        some = pairs[start : start + VOLUMES_PER_QUERY]
        recorded = _recorded_hosts({volume_id for volume_id, _nqn in some})
        yield from (pair for pair in some if pair not in recorded)


def _recorded_hosts(volume_ids: set[str]) -> set[tuple[str, str]]:
    with reading() as session:
        rows = session.query(_ATTACHED.volume_id, *_COLUMNS).filter(
            _ATTACHED.deleted.is_(False),
            _ATTACHED.attach_status != fields.VolumeAttachStatus.DETACHED,
            _ATTACHED.volume_id.in_(volume_ids),
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


def _in_pattern(text: str) -> str:
    """Text as part of a pattern of LIKE that has `/` as its ESCAPE."""
    return re.sub("[/%_]", r"/\g<0>", text)


def _context() -> context.RequestContext:
    return context.get_admin_context()


def reading() -> Any:
    """A session on Cinder's database, to read."""
    return db.main_context_manager.reader.using(_context())


def _writing() -> Any:
    return db.main_context_manager.writer.using(_context())
