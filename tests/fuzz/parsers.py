# SPDX-License-Identifier: Apache-2.0
"""Lines of discovery files, and what transfers hold, through what reads them."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence
from uuid import UUID

from lightos.discovery.controller import usable_records
from lightos.discovery.desired import Cluster, ControllerPath, Endpoint
from lightos.discovery.entries import DiscoveryEntry, format_line, parse, parse_line
from lightos.discovery.host_identity import host_id_for
from lightos.discovery.kernel import ConnectOptions, option_string
from lightos.nvme_tcp import MalformedStructure
from lightos.nvme_tcp.constants import DISCOVERY_NQN, SubsystemType
from lightos.nvme_tcp.structures import (
    AnaGroupDescriptor,
    AnaLog,
    ConnectData,
    DiscoveryLog,
    IdentifyController,
    IdentifyNamespace,
    RegistrantStatus,
    ReservationReport,
    SmartLog,
    decode_namespace_descriptors,
    decode_namespace_list,
    encode_namespace_descriptors,
    encode_namespace_list,
)
from lightos.nvme_tcp.structures import DiscoveryEntry as LogEntry
from tests.fuzz.exchanges import HOST_ID, HOST_NQN, SUBSYSTEM_NQN
from tests.fuzz.finding import Harm, Input
from tests.fuzz.mutator import INSIDE, broken_line, generator

LONGEST_MESSAGE = 1000
"""Characters that one bad line or log entry may add to the log of the daemon."""


# ---- lines


def good_line(chance: random.Random, subsystem_nqn: str = SUBSYSTEM_NQN) -> str:
    """A line as somebody's connector may have written it."""
    entry = DiscoveryEntry(
        chance.choice(("127.0.0.11", "fd00::11", "fe80::1%lo", "node1.example.com")),
        chance.choice((8009, 4420, 1, 65535)),
        HOST_NQN,
        subsystem_nqn,
        chance.choice((None, UUID(bytes=HOST_ID))),
        chance.choice((None, -1, 0, 600)),
    )
    return format_line(entry)


def make_line(seed: int, number: int) -> Input:
    chance = generator(seed, "line", number)
    line = broken_line(chance, good_line(chance))
    return Input("line", 0, (line.encode("utf-8", "surrogateescape"),))


def check_line(_variant: int, given: Sequence[bytes]) -> str:
    """As the daemon reads a file of one line."""
    text = b"".join(given).decode("utf-8", "surrogateescape")
    read = parse(text, "fuzz.conf")
    for entry in read.entries:
        if parse_line(format_line(entry)) != entry:
            raise Harm(f"{entry} is not read back as it was written")
        _check_connect(entry)
    for error in read.errors:
        if len(str(error)) > LONGEST_MESSAGE:
            raise Harm(f"a line is answered with {len(str(error))} characters")
    if read.errors:
        return "skipped with a reason"
    return "still an entry" if read.entries else "a comment, or blank"


def _check_connect(entry: DiscoveryEntry) -> None:
    """What the kernel would be asked for is what the entry says, and nothing else."""
    host_id = host_id_for(entry.host_nqn, connected=(), requested=entry.host_id, configured=None)
    path = ControllerPath(
        Cluster(entry.host_nqn, entry.subsystem_nqn), Endpoint(entry.address, entry.port)
    )
    options = option_string(path, host_id, ConnectOptions())
    names = [option.partition("=")[0] for option in options.split(",")]
    if names != ["transport", "traddr", "trsvcid", "nqn", "hostnqn", "hostid"]:
        raise Harm(f"the kernel would be told {options!r}")


# ---- pages and other structures


@functools.cache
def structures() -> tuple[tuple[str, bytes, Callable[[bytes], object]], ...]:
    """Name, a good example, and how it is read."""
    entries = tuple(
        LogEntry(
            subsystem_type=kind,
            port_id=number,
            controller_id=0xFFFF,
            admin_queue_size=32,
            service_id=port,
            subsystem_nqn=nqn,
            address=address,
        )
        for kind, nqn, port in (
            (SubsystemType.NVM, SUBSYSTEM_NQN, "4420"),
            (SubsystemType.REFERRAL, DISCOVERY_NQN, "8009"),
        )
        for number, address in enumerate(("127.0.0.11", "127.0.0.12", "fd00::13"))
    )
    log = DiscoveryLog(7, entries).encode()
    ana = AnaLog(3, tuple(AnaGroupDescriptor(n, 1, (n, n + 4), 9) for n in (1, 2, 3, 4))).encode()
    identity = IdentifyController(
        serial_number="5c0b9f9e3f3e4ad1",
        model_number="LightOS",
        subsystem_nqn=SUBSYSTEM_NQN,
        async_events=1 << 31,
    ).encode()
    connect = ConnectData(
        host_id=HOST_ID, controller_id=0xFFFF, subsystem_nqn=SUBSYSTEM_NQN, host_nqn=HOST_NQN
    ).encode()
    return (
        *(("discovery log", log, _discovery_records),) * 6,
        *(("ANA log", ana, AnaLog.decode),) * 2,
        (
            "reservation report",
            ReservationReport(2, 4, True, (RegistrantStatus(key=7), RegistrantStatus())).encode(),
            ReservationReport.decode,
        ),
        ("SMART log", SmartLog(available_spare_percent=100).encode(), SmartLog.decode),
        ("identify controller", identity, IdentifyController.decode),
        ("identify namespace", bytes(4096), IdentifyNamespace.decode),
        ("namespace list", encode_namespace_list(range(1, 9)), decode_namespace_list),
        (
            "namespace descriptors",
            encode_namespace_descriptors(UUID(bytes=HOST_ID)),
            decode_namespace_descriptors,
        ),
        ("connect data", connect, ConnectData.decode),
    )


def _discovery_records(page: bytes) -> object:
    return usable_records(DiscoveryLog.split(page))


def broken_page(chance: random.Random, page: bytes) -> bytes:
    """A page with at least one thing wrong or odd about it."""
    made = page
    while made == page:
        for _ in range(chance.choice((1, 1, 2, 5))):
            if chance.random() < 0.25:
                made = made[: chance.randrange(len(made) + 1)]
            elif chance.random() < 0.5 and len(made) > 1100:
                # Inside one entry, which has most of its fields at its begin.
                at = chance.randrange(len(made) // 1024) * 1024
                field = at + chance.choice((0, 0, 256, 512, 32))
                made = made[:field] + chance.choice(INSIDE)(chance, made[field:])
            else:
                made = chance.choice(INSIDE)(chance, made)
    return made


def make_page(seed: int, number: int) -> Input:
    chance = generator(seed, "page", number)
    variant = chance.randrange(len(structures()))
    return Input("page", variant, (broken_page(chance, structures()[variant][1]),))


def check_page(variant: int, given: Sequence[bytes]) -> str:
    try:
        structures()[variant][2](b"".join(given))
    except MalformedStructure:
        return "malformed structure"
    return "read"
