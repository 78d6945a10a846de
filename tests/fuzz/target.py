# SPDX-License-Identifier: Apache-2.0
"""Hosts that break the protocol against a running lab, beside one that keeps it.

Every input is a TCP connection of its own: to the I/O controllers or the discovery service, before
or after Connect, of an admin or an I/O queue. Beside them one host writes and verifies all the
time, and must notice nothing.
"""

from __future__ import annotations

import functools
import selectors
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightos.nvme_tcp import Settings
from lightos.nvme_tcp.constants import FatalError, PduType
from lightos.nvme_tcp.digest import DIGEST_BYTES, digest
from lightos.nvme_tcp.structures import ConnectData
from testbed.cluster import PROJECT, Cluster, loopback_addresses, running_lab
from testbed.initiator import Initiator
from testbed.polling import wait_until
from tests.fuzz.exchanges import (
    BLOCK_BYTES,
    HOST_ID,
    HOST_NQN,
    SETTINGS,
    SUBSYSTEM_NQN,
    Exchange,
    admin_jobs,
    connect_job,
    discovery_jobs,
    io_jobs,
    record,
)
from tests.fuzz.finding import Finding, Harm, Input, minimised
from tests.fuzz.mutator import broken, generator, pieces, shuffled

GOOD_HOST_NQN = "nqn.2014-08.org.nvmexpress:uuid:f0220000-0000-4000-8000-0000000000aa"
CONTROLLER_ID = 1
"""In inputs, whatever the target gives out; see `aimed`."""
ANSWER_SECONDS = 20.0
"""How long the target may take to end a connection that its host has ended."""
IO_QUEUES = 32
SHUFFLED_SHARE = 0.3
HEAD = {"target_admin": 5, "target_io": 2, "target_discovery": 5}
"""PDUs until commands may come in any order."""
SENDERS = 4
MOST_PARTS = 8
"""In which an input is written."""
BATCH = 400
MINIMISING_TRIES = 200
VOLUME_BYTES = 64 << 20
PACE_SECONDS = 0.002
"""Between two steps of the good host, which is to be there all the time, not to fill it."""
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER that makes close() a reset."""
TROUBLE = ("Traceback", " ERROR ", " CRITICAL ")
"""In the log of the lab: something that its authors did not think of."""


@dataclass(frozen=True)
class Place:
    """One node's services, and what a host needs to name there."""

    address: str
    nvme_port: int
    discovery_port: int
    subsystem_nqn: str


@functools.cache
def exchange(kind: str, variant: int) -> Exchange:
    """The conversation that is broken; `variant` is I/O queue and settings in one number."""
    settings = SETTINGS[variant % len(SETTINGS)]
    if kind == "target_discovery":
        return record(discovery_jobs(), settings)
    if kind == "target_admin":
        return record(admin_jobs(connect_job(0)), settings)
    queue_id = variant // len(SETTINGS) + 1
    return record(io_jobs(connect_job(queue_id, controller_id=CONTROLLER_ID)), settings)


def make(seed: int, number: int) -> Input:
    """Input `number`."""
    chance = generator(seed, "target", number)
    kind = chance.choice(("target_admin", "target_io", "target_io", "target_discovery"))
    # Taken in turn, so that the queue before it of the same number is gone already.
    queue = number % IO_QUEUES if kind == "target_io" else 0
    variant = queue * len(SETTINGS) + chance.randrange(len(SETTINGS))
    good = exchange(kind, variant).to_controller
    if chance.random() < SHUFFLED_SHARE:
        made = shuffled(chance, good, HEAD[kind])
    else:
        made = broken(chance, good, good)
    stream = b"".join(made)
    return Input(kind, variant, tuple(pieces(chance, stream)))


def aimed(stream: bytes, place: Place, controller_id: int) -> bytes:
    """The stream with the names that this target has; the digest over them stays as right."""
    at = stream.find(HOST_ID)
    if at < 0:
        return stream
    data = stream[at : at + ConnectData.SIZE]
    named = data.replace(SUBSYSTEM_NQN.encode(), place.subsystem_nqn.encode())
    if data[16:18] == struct.pack("<H", CONTROLLER_ID):
        named = data[:16] + struct.pack("<H", controller_id) + named[18:]
    rest = stream[at + len(data) :]
    if rest[:DIGEST_BYTES] == digest(data):
        rest = digest(named) + rest[DIGEST_BYTES:]
    return stream[:at] + named + rest


def port(kind: str, place: Place) -> int:
    """Where inputs of that kind go."""
    return place.discovery_port if kind == "target_discovery" else place.nvme_port


def send(given: Input, place: Place, controller_id: int, *, reset: bool = False) -> str:
    """Send one input; how the target ended it.

    Raises Harm if it does not end it, or answers with what is no PDU.
    """
    stream = aimed(b"".join(given.pieces), place, controller_id)
    size = max(1, len(stream) // MOST_PARTS, *map(len, given.pieces))
    parts = [stream[at : at + size] for at in range(0, len(stream), size)]
    address = (place.address, port(given.kind, place))
    with socket.create_connection(address, ANSWER_SECONDS) as connection:
        try:
            if reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                connection.sendall(stream[:1024])
                return "reset by us"
            return last_pdu(conversed(connection, parts))
        except OSError:
            return "reset by the target"


def conversed(connection: socket.socket, parts: list[bytes]) -> bytes:
    """Send all and say so, and receive until the other end has said so too."""
    connection.setblocking(False)
    received = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE)
        left = list(parts)
        while True:
            ready = selector.select(ANSWER_SECONDS)
            if not ready:
                raise Harm(f"a connection was not ended in {ANSWER_SECONDS:g} s")
            for _, events in ready:
                if events & selectors.EVENT_READ:
                    data = connection.recv(1 << 17)
                    if not data:
                        return bytes(received)
                    received += data
                if events & selectors.EVENT_WRITE and left:
                    sent = connection.send(left[0])
                    left[0] = left[0][sent:]
                    if not left[0]:
                        del left[0]
                if not left and events & selectors.EVENT_WRITE:
                    connection.shutdown(socket.SHUT_WR)
                    selector.modify(connection, selectors.EVENT_READ)


def last_pdu(stream: bytes) -> str:
    """What an answer ended with. Harm if it is not made of PDUs of a controller."""
    last = "closed"
    while stream:
        kind, length = stream[0], int.from_bytes(stream[4:8], "little")
        if kind not in (1, 3, 5, 7, 9) or not 24 <= length <= len(stream):
            raise Harm(f"answered with what is no PDU: {stream[:64].hex()}")
        last = "closed"
        if kind == PduType.C2H_TERM_REQ:
            last = FatalError(int.from_bytes(stream[8:10], "little")).name
        stream = stream[length:]
    return last


class GoodHost:
    """Writes and verifies on one volume, on one thread, from `start` until `stop`."""

    def __init__(self, place: Place, nsid: int, seed: int) -> None:
        self.steps = 0
        self._place = place
        self._nsid = nsid
        self._chance = generator(seed, "good host")
        self._content: dict[int, bytes] = {}
        self._stopped = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def check(self) -> None:
        """Raise Harm if anything disturbed it."""
        if self._failure is not None:
            raise Harm(f"the good host was disturbed: {self._failure!r}") from self._failure

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()
        self.check()

    def _run(self) -> None:
        try:
            with Initiator(
                self._place.address,
                self._place.nvme_port,
                self._place.subsystem_nqn,
                host_nqn=GOOD_HOST_NQN,
                keep_alive_ms=30_000,
                settings=Settings(header_digest=True, data_digest=True),
            ) as host:
                while not self._stopped.wait(PACE_SECONDS):
                    self._step(host)
                    self.steps += 1
                for start in self._content:
                    self._verify(host, start)
        except Exception as error:  # noqa: BLE001 - told by `check`
            self._failure = error

    def _step(self, host: Initiator) -> None:
        start = self._chance.randrange(VOLUME_BYTES // BLOCK_BYTES)
        data = self._chance.randbytes(BLOCK_BYTES)
        host.write(self._nsid, start, data)
        self._content[start] = data
        self._verify(host, self._chance.choice(list(self._content)))
        if self.steps % 50 == 0:
            host.keep_alive()

    def _verify(self, host: Initiator, start: int) -> None:
        if host.read(self._nsid, start, 1) != self._content[start]:
            raise Harm(f"block {start} is not what was written there")


class Log:
    """The log of a process, read on from where it was read last."""

    def __init__(self, path: Path, words: Sequence[str]) -> None:
        """`words` are those that tell of a defect."""
        self._path = path
        self._words = words
        self._at = 0

    def trouble(self) -> str:
        """What new lines tell of a defect; empty if nothing."""
        with self._path.open("rb") as file:
            file.seek(self._at)
            text = file.read()
            self._at = file.tell()
        lines = text.decode(errors="replace")
        at = min((found for word in self._words if (found := lines.find(word)) >= 0), default=-1)
        return "" if at < 0 else lines[lines.rfind("\n", 0, at) + 1 :][:4000]


@dataclass(frozen=True)
class Bed:
    """A lab of one node with a volume for each of two hosts, and the admin queue of the bad one."""

    place: Place
    pid: int
    log: Log
    good_nsid: int
    controller_id: int
    api: Cluster

    def fed(self, given: Input, *, reset: bool = False) -> str:
        return send(given, self.place, self.controller_id, reset=reset)


@contextmanager
def bed(folder: Path) -> Iterator[Bed]:
    """A lab in a process of its own."""
    state = folder / "lab"
    state.parent.mkdir(exist_ok=True)
    (address,) = loopback_addresses(1)
    with running_lab(state, addresses=address, transition_ms=0) as lab:
        place = Place(address, lab["nvme_port"], lab["discovery_port"], lab["subsystem_nqn"])
        api = Cluster(lab)
        bad_nsid, good_nsid = (_volume(api, nqn) for nqn in (HOST_NQN, GOOD_HOST_NQN))
        if bad_nsid != 1:
            raise Harm(f"the first volume has namespace id {bad_nsid}")
        with Initiator(
            place.address,
            place.nvme_port,
            place.subsystem_nqn,
            host_nqn=HOST_NQN,
            host_id=HOST_ID,
            io_queues=0,
        ) as admin:
            log = Log(state / "lab.log", TROUBLE)
            yield Bed(place, lab["pid"], log, good_nsid, admin.controller_id, api)


def _volume(api: Cluster, host_nqn: str) -> int:
    """Namespace id of a new volume for that host."""
    request = {
        "name": host_nqn.rpartition("-")[2],
        "size": str(VOLUME_BYTES),
        "replicaCount": 1,
        "sectorSize": BLOCK_BYTES,
        "acl": {"values": [host_nqn]},
    }
    path = f"/projects/{PROJECT}/volumes"
    uuid = api.request("POST", path, request)["UUID"]

    def available() -> dict[str, Any] | None:
        volume = api.get(f"{path}/{uuid}")
        return volume if volume["state"] == "Available" else None

    return int(wait_until(available, f"volume {uuid}", pause=0.01)["nsid"])


@dataclass(frozen=True)
class Fed:
    """What came of some inputs."""

    outcomes: Counter[str]
    findings: list[Finding]


def feed(on: Bed, seed: int, numbers: range, host: GoodHost) -> Fed:
    """Send the inputs `numbers` on several threads; blame the one that left trouble in the log."""
    outcomes: Counter[str] = Counter()
    findings: list[Finding] = []
    with ThreadPoolExecutor(SENDERS) as pool:

        def one(number: int) -> tuple[str, Finding | None]:
            given = make(seed, number)
            reset = generator(seed, "reset", number).random() < 0.05
            try:
                return on.fed(given, reset=reset), None
            except Harm as harm:
                return "harm", Finding(given, str(harm))

        for at in range(numbers.start, numbers.stop, BATCH):
            batch = range(at, min(at + BATCH, numbers.stop))
            for outcome, finding in pool.map(one, batch):
                outcomes[outcome] += 1
                if finding:
                    findings.append(finding)
            if trouble := on.log.trouble():
                findings.append(_blamed(on, [make(seed, n) for n in batch], trouble))
            host.check()
    return Fed(outcomes, findings)


def _blamed(on: Bed, suspects: list[Input], trouble: str) -> Finding:
    """The input that leaves trouble in the log when it is sent alone, as small as can be."""

    def does_harm(given: Input) -> bool:
        try:
            on.fed(given)
        except Harm:
            return True
        return bool(on.log.trouble())

    for suspect in suspects:
        if does_harm(suspect):
            return Finding(minimised(suspect, does_harm, MINIMISING_TRIES), trouble)
    together = tuple(piece for suspect in suspects for piece in suspect.pieces)
    return Finding(Input(suspects[0].kind, suspects[0].variant, together), f"together: {trouble}")
