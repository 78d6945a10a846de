# SPDX-License-Identifier: Apache-2.0
"""The two drivers beside each other on one lab, and what the lab sees of them."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cinder.scratch import scratch_folder
from bench.driver_process import DriverProcess
from bench.sides import INCUMBENT, SIDES
from lightos.lab.control import ControlClient
from lightos.lab.state_folder import StateFolder
from testbed.cluster import free_port, running_lab

OPERATIONS_PER_LIFE = 11
"""What the worker's `many` does with each volume."""


class OperationFailed(RuntimeError):
    """A driver raised; holds its traceback."""


@dataclass(frozen=True)
class Traffic:
    """What a lab has seen so far, or between two looks."""

    calls: Mapping[str, int]
    tls: int
    read_bytes: int
    written_bytes: int
    """Of user data, by hosts."""

    @property
    def total(self) -> int:
        return sum(self.calls.values())

    def since(self, before: Traffic) -> Traffic:
        grown = {name: count - before.calls.get(name, 0) for name, count in self.calls.items()}
        calls = {name: count for name, count in grown.items() if count}
        return Traffic(
            calls,
            self.tls - before.tls,
            self.read_bytes - before.read_bytes,
            self.written_bytes - before.written_bytes,
        )


class BenchLab:
    """A running lab, and its folder."""

    def __init__(self, info: dict[str, Any], folder: Path) -> None:
        self.info = info
        self.folder = StateFolder(folder)

    def traffic(self) -> Traffic:
        """By the control socket, which is not counted."""
        with ControlClient(self.folder) as control:
            seen = control.ask("GET", "traffic")
        return Traffic(
            seen["calls"], seen["tlsConnections"], seen["readBytes"], seen["writtenBytes"]
        )


@contextmanager
def lab(transition_seconds: float) -> Iterator[BenchLab]:
    """A three-node lab whose state changes take so long."""
    with (
        scratch_folder() as folder,
        running_lab(
            folder,
            transition_ms=round(transition_seconds * 1000),
            discovery_port=free_port(),
            nvme_port=free_port(),
        ) as info,
    ):
        yield BenchLab(info, folder)


class Side:
    """A process with one of the drivers, started on a lab."""

    def __init__(
        self,
        name: str,
        on: BenchLab,
        options: Mapping[str, object],
        database: Mapping[str, object] | None = None,
        coordination: str | None = None,
    ) -> None:
        """Without `database`, options as in cinder.conf, its Cinder has a SQLite file.

        `coordination` is the URL of what keeps its locks; without it, files do.
        """
        self.name = name
        self._lab = on
        self._options = dict(options)
        self._shared = {"database": dict(database or {}), "coordination": coordination}
        self._process = DriverProcess("bench.cinder.worker", incumbent=name == INCUMBENT)
        self.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self) -> float:
        """Start the driver, anew if it runs; the seconds that took."""
        return float(self.do("start", lab=self._lab.info, options=self._options, **self._shared))

    def do(self, operation: str, **arguments: Any) -> Any:
        """What the worker's method of this name gives. OperationFailed, DriverDied."""
        self.begin(operation, **arguments)
        return self.result()

    def begin(self, operation: str, **arguments: Any) -> None:
        """Have it begin; the `result` comes later. DriverDied."""
        self._process.tell({"do": operation, **arguments})

    def result(self) -> Any:
        """Of what was begun. OperationFailed, DriverDied."""
        reply = self._process.answer()
        if error := reply.get("error"):
            raise OperationFailed(f"{self.name}: {error}")
        return reply["is"]

    def end(self) -> None:
        self._process.end()


def made_and_used(on: Side) -> Generator[tuple[str, float], None, str]:
    """A volume is made, attached and detached, each as (name, seconds); returns its id."""
    seconds, volume = on.do("create")
    yield "create", seconds
    seconds, attachment = on.do("attach", volume_id=volume)
    yield "attach", seconds
    seconds, _ = on.do("detach", attachment_id=attachment)
    yield "detach", seconds
    return str(volume)


@contextmanager
def side(
    name: str,
    on: BenchLab,
    *,
    database: Mapping[str, object] | None = None,
    coordination: str | None = None,
    **options: object,
) -> Iterator[Side]:
    """One driver; `options`, and those of its `database`, as in cinder.conf."""
    one = Side(name, on, options, database, coordination)
    try:
        yield one
    finally:
        one.end()


@contextmanager
def both(
    on: BenchLab, databases: Mapping[str, Mapping[str, object]] | None = None, **options: object
) -> Iterator[dict[str, Side]]:
    """Both drivers, by name, ours first; `databases` by name, too."""
    of = databases or {}
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(side(name, on, database=of.get(name), **options))
            for name in SIDES
        }
