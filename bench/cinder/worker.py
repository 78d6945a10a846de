# SPDX-License-Identifier: Apache-2.0
"""One driver in Cinder's volume manager, called and timed at the driver's own methods.

What Cinder does around them (its records, before and after) is done here too, and not timed. The
questions are `{"do": NAME, ...arguments}`, the names those of `Driver`.
"""

from __future__ import annotations

import json
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cinder import objects
from cinder.db import api as db
from cinder.db import models
from cinder.objects import fields
from sqlalchemy import insert, update

from bench.cinder.scratch import scratch_folder
from bench.driver_process import serve
from testbed.cinder.volume_manager import HOST, VolumeManager
from testbed.cluster import connector

FIRST_OTHER_HOST = 1000


@dataclass(frozen=True)
class Life:
    """Cinder's records of one volume and all that will come of it."""

    volume: objects.Volume
    snapshot: objects.Snapshot
    clone: objects.Volume
    attachment: objects.VolumeAttachment
    clone_attachment: objects.VolumeAttachment


class Driver:
    """Every operation gives the seconds that the driver took, and the id of what it made.

    The objects are kept, since cinder-volume gets them by message and does not read them first. Of
    what Cinder records afterwards, that is written which a driver may look up: attachments, and
    where it said that a volume is.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._manager: VolumeManager
        self._type_id = ""
        self._volumes: dict[str, objects.Volume] = {}
        self._snapshots: dict[str, objects.Snapshot] = {}
        self._attachments: dict[str, objects.VolumeAttachment] = {}

    def start(
        self,
        lab: dict[str, Any],
        options: dict[str, Any],
        database: dict[str, Any],
        coordination: str | None,
    ) -> float:
        """Seconds that Cinder's manager took to have the driver ready."""
        if not hasattr(self, "_manager"):
            self._manager = VolumeManager(
                self._folder,
                lab,
                debug=False,
                database_options=database,
                coordination=coordination,
            )
        seconds, _ = timed(self._manager.start, options)
        self._type_id = self._type_id or self._manager.make_type()
        return seconds

    @property
    def _driver(self) -> Any:
        return self._manager.driver

    # --- volumes -------------------------------------------------------------------------------

    def create(self, size_gib: int = 1) -> tuple[float, str]:
        return self._create(self._new_volume(size_gib))

    def _create(self, volume: objects.Volume) -> tuple[float, str]:
        seconds, update = timed(self._driver.create_volume, volume)
        return seconds, self._made(volume, update)

    def clone(self, source: str) -> tuple[float, str]:
        size_gib = self._volumes[source].size
        return self._clone(self._new_volume(size_gib, source_volid=source))

    def _clone(self, volume: objects.Volume) -> tuple[float, str]:
        origin = self._volumes[volume.source_volid]
        seconds, update = timed(self._driver.create_cloned_volume, volume, origin)
        return seconds, self._made(volume, update)

    def extend(self, volume_id: str, size_gib: int) -> tuple[float, str]:
        volume = self._volumes[volume_id]
        seconds, _ = timed(self._driver.extend_volume, volume, size_gib)
        volume.size = size_gib
        return seconds, volume_id

    def delete_volume(self, volume_id: str) -> tuple[float, str]:
        volume = self._volumes.pop(volume_id)
        seconds, _ = timed(self._driver.delete_volume, volume)
        return seconds, volume_id

    def _new_volume(self, size_gib: int, **values: Any) -> objects.Volume:
        volume = self._manager.new_volume(size_gib, volume_type_id=self._type_id, **values)
        _ = volume.volume_type  # loaded, as it is in a message
        return volume

    def _made(self, volume: objects.Volume, update: dict[str, Any] | None) -> str:
        if update:
            volume.update(update)
            self._record((models.Volume, volume.id, update))
        volume.status = "available"
        self._volumes[volume.id] = volume
        return str(volume.id)

    # --- snapshots -----------------------------------------------------------------------------

    def snapshot(self, volume_id: str) -> tuple[float, str]:
        return self._snapshot(self._manager.new_snapshot(self._volumes[volume_id]))

    def _snapshot(self, snapshot: objects.Snapshot) -> tuple[float, str]:
        seconds, update = timed(self._driver.create_snapshot, snapshot)
        snapshot.update(update or {})
        snapshot.status = fields.SnapshotStatus.AVAILABLE
        self._snapshots[snapshot.id] = snapshot
        return seconds, str(snapshot.id)

    def delete_snapshot(self, snapshot_id: str) -> tuple[float, str]:
        snapshot = self._snapshots.pop(snapshot_id)
        seconds, _ = timed(self._driver.delete_snapshot, snapshot)
        return seconds, snapshot_id

    # --- attachments ---------------------------------------------------------------------------

    def attach(self, volume_id: str, host: int = 1) -> tuple[float, str]:
        """Attach to host number `host`; the id is that of Cinder's attachment."""
        return self._attach(self._new_attachment(volume_id), host)

    def _new_attachment(self, volume_id: str) -> objects.VolumeAttachment:
        attachment = objects.VolumeAttachment(
            self._manager.context,
            volume_id=volume_id,
            attach_status=fields.VolumeAttachStatus.RESERVED,
        )
        attachment.create()
        return attachment

    def _attach(self, attachment: objects.VolumeAttachment, host: int) -> tuple[float, str]:
        where = connector(f"compute-{host}", number=host)
        volume = self._volumes[attachment.volume_id]
        seconds, _ = timed(self._admit, volume, where)
        attachment.connector = where
        recorded = {"connector": json.dumps(where), "attached_host": where["host"]}
        self._record_attachment(attachment, fields.VolumeAttachStatus.ATTACHED, **recorded)
        self._attachments[attachment.id] = attachment
        return seconds, str(attachment.id)

    def _admit(self, volume: objects.Volume, where: dict[str, Any]) -> None:
        """What Cinder calls of a driver to attach."""
        self._driver.validate_connector(where)
        self._driver.initialize_connection(volume, where)

    def detach(self, attachment_id: str) -> tuple[float, str]:
        attachment = self._attachments.pop(attachment_id)
        volume = self._volumes[attachment.volume_id]
        where = dict(attachment.connector)
        seconds, _ = timed(self._driver.terminate_connection, volume, where, force=False)
        self._record_attachment(attachment, fields.VolumeAttachStatus.DETACHED, deleted=True)
        return seconds, attachment_id

    def _record_attachment(
        self, attachment: objects.VolumeAttachment, state: str, **values: Any
    ) -> None:
        status = {"attach_status": state}
        self._record(
            (models.VolumeAttachment, attachment.id, values | status),
            (models.Volume, attachment.volume_id, status),
        )

    def _record(self, *rows: tuple[Any, str, dict[str, Any]]) -> None:
        """A statement for each: Cinder's objects would take longer than a driver to detach."""
        with db.main_context_manager.writer.using(self._manager.context) as session:
            for model, id, columns in rows:
                table = model.__table__
                session.execute(update(table).where(table.c.id == id).values(columns))

    # --- the back end --------------------------------------------------------------------------

    def stats(self) -> float:
        return timed(self._driver.get_volume_stats, refresh=True)[0]

    def manageable(self, limit: int) -> tuple[float, int]:
        """Seconds, and how many volumes a page of at most so many shows."""
        seconds, found = timed(
            self._driver.get_manageable_volumes, [], None, limit, 0, ["reference"], ["asc"]
        )
        return seconds, len(found)

    def populate(self, first: int, hosts: int, volumes_per_host: int) -> None:
        """Have hosts with attached volumes in Cinder's database, of which no cluster knows.

        Their numbers begin where those that operations use do not reach.
        """
        volumes, attachments = [], []
        for host in range(FIRST_OTHER_HOST + first, FIRST_OTHER_HOST + first + hosts):
            where = connector(f"compute-{host}", number=host)
            for _ in range(volumes_per_host):
                volume_id = str(uuid.uuid4())
                state = {"attach_status": fields.VolumeAttachStatus.ATTACHED}
                volumes.append({"id": volume_id, "size": 1, "status": "in-use", **state})
                attachments.append(
                    {
                        "id": str(uuid.uuid4()),
                        "volume_id": volume_id,
                        "attached_host": where["host"],
                        "connector": json.dumps(where),
                        **state,
                    }
                )
        if volumes:
            for row in volumes:
                row |= {"host": HOST, "volume_type_id": self._type_id, "use_quota": False}
            with db.main_context_manager.writer.using(self._manager.context) as session:
                session.execute(insert(models.Volume), volumes)
                session.execute(insert(models.VolumeAttachment), attachments)

    # --- many at once --------------------------------------------------------------------------

    def warm_up(self, threads: int) -> None:
        """So many volumes are made at once, and deleted: as many connections are open then."""
        volumes = [self._new_volume(1) for _ in range(threads)]
        with ThreadPoolExecutor(threads) as pool:
            made = [volume_id for _, volume_id in pool.map(self._create, volumes)]
            list(pool.map(self.delete_volume, made))

    def many(self, threads: int, lives: int) -> dict[str, Any]:
        """So many threads each see so many volumes from their making to their end.

        Lives are whole, so that every call does the same mix of operations. The records that
        Cinder's API makes of what is to be there are in place before. Gives the seconds it took in
        all, the CPU time of this process meanwhile, each operation's name and seconds, and the
        errors there were; an error ends its life.
        """
        before = [[self._new_life() for _ in range(lives)] for _ in range(threads)]
        operations: list[tuple[str, float]] = []
        errors: list[str] = []

        def run(operation: Callable[..., tuple[float, str]], *args: Any) -> str:
            took, made = operation(*args)
            operations.append((operation.__name__.lstrip("_"), took))
            return made

        def work(host: int) -> None:
            for life in before[host]:
                try:
                    self._live(life, run, host)
                except Exception as error:  # noqa: BLE001 - counted, and the next volume is made
                    errors.append(f"{type(error).__name__}: {error}")

        began, busy = time.perf_counter(), time.process_time()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, range(threads)))
        return {
            "seconds": time.perf_counter() - began,
            "cpu_seconds": time.process_time() - busy,
            "operations": operations,
            "errors": errors,
        }

    def _new_life(self) -> Life:
        volume = self._new_volume(1)
        clone = self._new_volume(2, source_volid=volume.id)
        attachments = (self._new_attachment(volume.id), self._new_attachment(clone.id))
        return Life(volume, self._manager.new_snapshot(volume), clone, *attachments)

    def _live(self, life: Life, run: Callable[..., str], host: int) -> None:
        volume = run(self._create, life.volume)
        run(self.detach, run(self._attach, life.attachment, host))
        run(self.extend, volume, life.clone.size)
        snapshot = run(self._snapshot, life.snapshot)
        clone = run(self._clone, life.clone)
        run(self.detach, run(self._attach, life.clone_attachment, host))
        run(self.delete_snapshot, snapshot)
        run(self.delete_volume, clone)
        run(self.delete_volume, volume)


def timed(method: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[float, Any]:
    """Seconds, and the result."""
    began = time.perf_counter()
    result = method(*args, **kwargs)
    return time.perf_counter() - began, result


@contextmanager
def driver() -> Iterator[Callable[[dict[str, Any]], Any]]:
    """Answers a question with `{"is": what the method gave}` or `{"error": traceback}`."""
    with scratch_folder() as folder:
        one = Driver(folder)

        def answer(question: dict[str, Any]) -> dict[str, Any]:
            try:
                return {"is": getattr(one, question.pop("do"))(**question)}
            except Exception:  # noqa: BLE001 - raised where it was asked
                return {"error": traceback.format_exc()}

        yield answer


if __name__ == "__main__":
    serve(driver())
