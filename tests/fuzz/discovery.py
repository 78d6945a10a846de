# SPDX-License-Identifier: Apache-2.0
"""The discovery client as a running process: bad files, bad services, and a good cluster beside.

Many clusters are followed through one hostile discovery service, while files of malformed lines
come and go in the folder. The healthy cluster, a lab, has to be followed all the time: its nodes
stop and start, and that must be seen.
"""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightos.discovery.entries import DiscoveryEntry, format_file
from testbed.cluster import Cluster, free_port, running_lab
from testbed.life import Life
from testbed.polling import wait_until
from tests.fuzz.exchanges import HOST_NQN
from tests.fuzz.finding import Harm
from tests.fuzz.hostile_service import HostileService
from tests.fuzz.mutator import broken_line, changed_pdu, generator
from tests.fuzz.parsers import good_line
from tests.fuzz.processes import descriptor_count
from tests.fuzz.target import RESET, Log

HOSTILE_ADDRESS = "127.0.0.41"
HOSTILE_CLUSTERS = 48
LINES_PER_FILE = 20
FILES = 8
"""Of malformed lines, at a time; each is written again and again."""
REQUESTS = (
    b"GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text; version=1.0.0\r\n\r\n",
    b"HEAD /healthz HTTP/1.1\r\n\r\n",
)
FILE_PAUSE_SECONDS = 0.02
ANSWER_SECONDS = 60.0
"""How long the daemon may take to see something, on a machine that is busy."""


class Daemon(Life):
    """The discovery client on folders of its own; see `daemon_process`."""

    def __init__(self, folder: Path) -> None:
        self.files = folder / "discovery.d"
        self.log_path = folder / "daemon.log"
        self.log = Log(self.log_path, ("Traceback", "never retrieved"))
        self._folder = folder
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        for path in (self.files, self._folder / "internal"):
            path.mkdir(parents=True)
        command = [sys.executable, "-m", "tests.fuzz.daemon_process", self._folder, self._port]
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(list(map(str, command)), stderr=log)
        wait_until(self._answers, "the discovery client answers", ANSWER_SECONDS)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def end(self) -> None:
        """Have it end by itself. Harm if it does not, or with another status than 0."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            raise Harm("the discovery client does not end") from None
        if status:
            raise Harm(f"the discovery client ended with status {status}")

    def check(self) -> None:
        """Raise Harm if it has ended, or its log tells of a defect."""
        trouble = self.log.trouble()
        if trouble:
            raise Harm(f"in the log of the discovery client: {trouble}")
        if self._process is None or self._process.poll() is not None:
            raise Harm("the discovery client has ended")

    def clusters(self) -> dict[str, dict[str, Any]]:
        """What /healthz says of each cluster, by subsystem NQN."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_SECONDS)
        try:
            connection.request("GET", "/healthz")
            health = json.load(connection.getresponse())
        finally:
            connection.close()
        return {each["subsystem_nqn"]: each for each in health["clusters"]}

    def disturb(self, request: bytes) -> None:
        """Ask for its status, and be gone before the answer."""
        with socket.create_connection(("127.0.0.1", self._port), ANSWER_SECONDS) as connection:
            connection.sendall(request)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    def publish(self, name: str, text: str) -> None:
        """As a connector does: written aside, then renamed."""
        aside = self.files / f"tmp.dc.{name}"
        aside.write_text(text, errors="surrogateescape")
        aside.rename(self.files / name)

    def _answers(self) -> bool:
        self.check()
        try:
            self.clusters()
        except OSError:
            return False
        return True


class Churn:
    """Writes files of malformed lines, on a thread, until there were enough of them.

    For each, somebody asks for the daemon's status and does not wait for the answer.
    """

    def __init__(self, daemon: Daemon, seed: int, lines: int) -> None:
        self.written = 0
        self._daemon = daemon
        self._seed = seed
        self._lines = lines
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    @contextmanager
    def running(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            self._thread.join()
            for path in self._daemon.files.glob("bad-*"):
                path.unlink()

    def _run(self) -> None:
        number = 0
        while self.written < self._lines and not self._stopped.wait(FILE_PAUSE_SECONDS):
            chance = generator(self._seed, "file", number)
            text = "\n".join(broken_line(chance, good_line(chance)) for _ in range(LINES_PER_FILE))
            name = f"bad-{number % FILES}"
            if chance.random() < 0.2:  # as an editor does
                (self._daemon.files / name).write_text(text, errors="surrogateescape")
            else:
                self._daemon.publish(name, text)
            if chance.random() < 0.2:
                (self._daemon.files / name).unlink()
            self._daemon.disturb(changed_pdu(chance, chance.choice(REQUESTS)))
            self.written += LINES_PER_FILE
            number += 1


@dataclass(frozen=True)
class Bed:
    """A daemon that follows a healthy lab cluster."""

    daemon: Daemon
    api: Cluster
    subsystem_nqn: str
    node_uuids: tuple[str, ...]
    """The last one answers `api`, so it is never stopped."""

    def sees(self, nodes: int) -> None:
        """Harm unless the daemon soon sees that many nodes of the healthy cluster."""

        def seen() -> bool:
            self.daemon.check()
            found = self.daemon.clusters().get(self.subsystem_nqn, {})
            return bool(found.get("discovery_service")) and found["controllers_wanted"] == nodes

        try:
            wait_until(seen, "seen", ANSWER_SECONDS, pause=0.05)
        except TimeoutError:
            raise Harm(
                f"the healthy cluster is not followed: {nodes} nodes are not seen in "
                f"{ANSWER_SECONDS:g} s"
            ) from None


@contextmanager
def bed(folder: Path) -> Iterator[Bed]:
    folder.mkdir(exist_ok=True)
    with running_lab(folder / "healthy", transition_ms=0) as lab, Daemon(folder / "host") as daemon:
        entries = [
            DiscoveryEntry(node["address"], lab["discovery_port"], HOST_NQN, lab["subsystem_nqn"])
            for node in lab["nodes"]
        ]
        daemon.publish("healthy", format_file(entries))
        uuids = tuple(node["uuid"] for node in lab["nodes"])
        on = Bed(daemon, Cluster(lab), lab["subsystem_nqn"], uuids)
        on.sees(len(uuids))
        yield on


def feed(
    on: Bed, seed: int, sessions: int, lines: int, note: Callable[[int, int], None]
) -> HostileService:
    """Have the daemon meet that many hostile sessions and bad lines, and forget them all.

    `note` hears how many there were so far.
    """
    descriptors = descriptor_count(on.daemon.pid)
    service = HostileService(HOSTILE_ADDRESS, seed)
    churn = Churn(on.daemon, seed, lines)
    with service.running(), churn.running():
        for number in range(HOSTILE_CLUSTERS):
            nqn = f"nqn.2016-01.com.lightbitslabs:hostile-{number}"
            entry = DiscoveryEntry(service.address, service.port, HOST_NQN, nqn)
            on.daemon.publish(f"hostile-{number}", format_file([entry]))
        turn = 0
        while service.sessions.total() < sessions or not churn.done:
            before = service.sessions.total() + churn.written
            node = on.node_uuids[turn % (len(on.node_uuids) - 1)]
            with on.api.stopped(node):
                on.sees(len(on.node_uuids) - 1)
            on.sees(len(on.node_uuids))
            note(service.sessions.total(), churn.written)
            wait_until(
                lambda: service.sessions.total() + churn.written > before,  # noqa: B023
                "the discovery client goes on",
                ANSWER_SECONDS,
                pause=0.05,
            )
            turn += 1
        for path in on.daemon.files.glob("hostile-*"):
            path.unlink()
    _forgotten(on, descriptors)
    return service


def _forgotten(on: Bed, descriptors: int) -> None:
    """Harm unless the daemon soon follows nothing but the healthy cluster, and holds no more."""

    def only_healthy() -> bool:
        on.daemon.check()
        return on.daemon.clusters().keys() == {on.subsystem_nqn}

    def held() -> int:
        return descriptor_count(on.daemon.pid)

    wait_until(
        only_healthy, "the discovery client follows the healthy cluster only", ANSWER_SECONDS
    )
    on.sees(len(on.node_uuids))
    try:
        wait_until(lambda: held() <= descriptors + 2, "", ANSWER_SECONDS)
    except TimeoutError:
        raise Harm(
            f"the discovery client holds {held()} descriptors, before {descriptors}"
        ) from None
