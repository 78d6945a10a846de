# SPDX-License-Identifier: Apache-2.0
"""Metadata and blocks on disk, in step whatever happens in between.

Blocks are made before the metadata that names them and removed after it, so a crash in between
leaves at most blocks that nothing names; the next start removes those.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Callable, Iterator, Mapping
from uuid import UUID

from lightos.lab.changes import Change
from lightos.lab.database import Database
from lightos.lab.errors import Internal, LabError
from lightos.lab.records import Record, RemovalRecord, SnapshotRecord, VolumeRecord, VolumeState
from lightos.lab.tables import Object
from lightos.lab.view import BlockStore

LOG = logging.getLogger(__name__)


class Storage:
    """The database with the cluster's records, and the store with their blocks."""

    def __init__(self, database: Database, store: BlockStore) -> None:
        self.store = store
        self._database = database
        self._removed: list[RemovalRecord] = []
        """Whose blocks are gone; forgotten with the next change. Only the thread that makes changes
        touches it."""

    def make(self, change: Change[Record]) -> None:
        """Do a change's disk work, on any thread. Raises Internal with nothing changed."""
        if change.put or change.drop:
            removed = tuple(self._removed)
            change.make(self._database, also_drop=removed)
            del self._removed[: len(removed)]

    def creation(self, record: Object, make_blocks: Callable[[], None]) -> Change[Object]:
        """A change that makes a record, with its blocks."""
        return Change(put=[record], before=make_blocks, undo=lambda: self.forget_blocks(record))

    def forget_blocks(self, record: Record) -> None:
        """Remove the blocks of what is gone; what the disk refuses goes with the next start."""
        if isinstance(record, SnapshotRecord) and record.doomed:
            return
        if isinstance(record, VolumeRecord | SnapshotRecord):
            try:
                with contextlib.suppress(KeyError):  # gone already is what we want
                    self.store.delete(record.uuid)
                self._removed.append(RemovalRecord(record.uuid))
            except OSError as cause:
                LOG.error(
                    "blocks of %s %s stay until the next start: %s",
                    record.kind,
                    record.uuid,
                    cause,
                )

    def reconcile(
        self,
        volumes: Mapping[UUID, VolumeRecord],
        snapshots: Mapping[UUID, SnapshotRecord],
    ) -> None:
        """Make blocks and metadata agree: end removals, drop what a crash left, redo resizes.

        Other blocks that nothing names stay: the metadata may be an older copy of what it was.
        Raises LabError when blocks are missing.
        """
        named = set(volumes) | {s.uuid for s in snapshots.values() if not s.doomed}
        held = self.store.uuids()
        if missing := named - held:
            raise LabError(
                f"the state folder is damaged: the blocks of {len(missing)} volumes or snapshots "
                f"are missing, {min(missing)} among them; restore the folder or choose another "
                "--state-dir"
            )
        removals = self._database.load(RemovalRecord)
        unnamed = held - named
        unknown = unnamed - {removal.uuid for removal in removals}
        # One change is made at a time, so a crash leaves one object at most, just made.
        if len(unknown) == 1 and all(map(self.store.is_untouched, unknown)):
            unknown = frozenset()
        for uuid in unnamed - unknown:
            LOG.info("removing blocks %s that no volume or snapshot names", uuid)
            self.store.delete(uuid)
        if removals:
            self._database.commit(drop=removals)
        if unknown:
            LOG.warning(
                "keeping the blocks of %d volumes or snapshots that the metadata does not know, "
                "%s among them: if it is an older copy, stop the lab and restore the newest one",
                len(unknown),
                min(unknown),
            )
        for volume in volumes.values():
            if volume.state is VolumeState.UPDATING:
                self.store.resize_volume(volume.uuid, volume.size_bytes)


@contextlib.contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Turn a failing disk into a refusal that names the object and the fix."""
    try:
        yield
    except OSError as cause:
        full = cause.errno in (errno.ENOSPC, errno.EDQUOT)
        fix = "free space on the disk of the lab's state folder" if full else "check that disk"
        raise Internal(f"the lab cannot store {what}: {cause}; {fix} and try again") from cause
