# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.fuzz.run --pdus N --lines N --seed S`: malformed input, a lot of it.

`N` PDUs go through the codec, and beside that a share of them through a running target and
a share through the discovery client; as many lines of discovery files, and as many log pages, go
through what reads them, and a share of the lines through the discovery client's folder; and there
are malformed calls of the management API. Every input counts once, however much of it is malformed.

Root only: all of it happens in a network namespace, for malformed addresses may be anybody's.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from testbed.network import Network
from tests.fuzz import discovery, rest, target, workers
from tests.fuzz.finding import Finding, Harm, Input
from tests.fuzz.processes import descriptor_count, peak_bytes, resident_bytes

TARGET_SHARE = 8
"""One of that many PDUs."""
SESSIONS_SHARE = 80
FOLDER_SHARE = 4
"""One of that many lines."""
CALLS_SHARE = 20
WARM_UP_SHARE = 10
MIB = 1 << 20
GROWTH_BYTES = 24 * MIB
"""Most that a process may have grown at the end since it was warm."""
PEAK_BYTES = 160 * MIB
"""Most that the discovery client may hold at once beyond what it held when it was idle."""
DESCRIPTORS = 8

Note = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """What came of one kind of input. Bytes are of the process that took it."""

    what: str
    count: int
    outcomes: Counter[str]
    seconds: float
    before_bytes: int
    after_bytes: int


class Failure(Exception):
    """Inputs that did harm, or harm that no input alone explains."""


def in_process(maker: str, what: str, seed: int, count: int, note: Note) -> Row:
    """Codec and parsers. Failure names the inputs."""
    started = time.monotonic()
    outcomes: Counter[str] = Counter()
    findings: list[Finding] = []
    sizes: dict[int, list[int]] = {}
    done = 0
    for size, chunk in workers.run(maker, seed, count):
        done += size
        outcomes += chunk.outcomes
        findings += chunk.findings
        sizes.setdefault(chunk.pid, []).append(chunk.resident_bytes)
        note(f"{what}: {done:,} of {count:,}")
    _raise(findings)
    worst = max(sizes.values(), key=lambda seen: seen[-1] - seen[0])
    _check_growth(what, worst[0], worst[-1])
    return Row(what, count, outcomes, time.monotonic() - started, worst[0], worst[-1])


def running_lab(seed: int, pdus: int, calls: int, folder: Path, note: Note) -> list[Row]:
    """The target, and then the management API of the same lab."""
    with target.bed(folder) as on:
        host = target.GoodHost(on.place, on.good_nsid, seed)
        host.start()
        rows = [_target(on, host, seed, pdus, note), _api(on, host, seed, calls, note)]
        host.stop()
        return rows


def _target(on: target.Bed, host: target.GoodHost, seed: int, count: int, note: Note) -> Row:
    what = "PDUs, running lab"
    started = time.monotonic()
    outcomes: Counter[str] = Counter()
    warm_up = max(count // WARM_UP_SHARE, target.BATCH)
    warm = descriptors = 0
    for at in range(0, count, target.BATCH):
        if not warm and at >= warm_up:
            warm, descriptors = resident_bytes(on.pid), descriptor_count(on.pid)
        fed = target.feed(on, seed, range(at, min(at + target.BATCH, count)), host)
        _raise(fed.findings)
        outcomes += fed.outcomes
        note(f"{what}: {at:,} of {count:,}, {host.steps:,} verified writes beside")
    outcomes["verified writes beside"] = host.steps
    after = resident_bytes(on.pid)
    _check_growth(what, warm or after, after)
    if descriptors and (now := descriptor_count(on.pid)) > descriptors + DESCRIPTORS:
        raise Failure(f"{what}: {now} descriptors are open, {descriptors} when it was warm")
    return Row(what, count, outcomes, time.monotonic() - started, warm or after, after)


def _api(on: target.Bed, host: target.GoodHost, seed: int, count: int, note: Note) -> Row:
    what = "calls, running lab"
    started = time.monotonic()
    outcomes: Counter[str] = Counter()
    before = resident_bytes(on.pid)
    with contextlib.closing(rest.Caller(on.api)) as caller:
        for number in range(count):
            given = rest.make(seed, number)
            try:
                outcomes[caller.send(given)] += 1
            except Harm as harm:
                _raise([Finding(given, f"{harm}\n{on.log.trouble()}")])
            note(f"{what}: {number:,} of {count:,}")
    if trouble := on.log.trouble():
        raise Failure(f"{what}: in the log of the lab: {trouble}")
    host.check()
    after = resident_bytes(on.pid)
    _check_growth(what, before, after)
    return Row(what, count, outcomes, time.monotonic() - started, before, after)


def running_client(seed: int, sessions: int, lines: int, folder: Path, note: Note) -> list[Row]:
    what = "sessions, running discovery client"
    with discovery.bed(folder) as on:
        idle = peak_bytes(on.daemon.pid)
        started = time.monotonic()
        warm = 0

        def progress(sessions_so_far: int, lines_so_far: int) -> None:
            nonlocal warm
            if not warm and sessions_so_far > sessions // WARM_UP_SHARE:
                warm = resident_bytes(on.daemon.pid)
            note(
                f"{what}: {sessions_so_far:,} of {sessions:,}, "
                f"{lines_so_far:,} of {lines:,} lines in its folder"
            )

        service = discovery.feed(on, seed, sessions, lines, progress)
        seconds = time.monotonic() - started
        after, peak = resident_bytes(on.daemon.pid), peak_bytes(on.daemon.pid)
        on.daemon.end()
    _check_growth(what, warm or after, after)
    if peak - idle > PEAK_BYTES:
        raise Failure(f"{what}: {peak // MIB} MiB at once, {idle // MIB} when it was idle")
    manners = Counter({each.value: count for each, count in service.sessions.items()})
    return [
        Row(what, service.sessions.total(), manners, seconds, warm or after, after),
        Row("lines, its folder", lines, Counter(), seconds, warm or after, after),
    ]


def run(seed: int, pdus: int, lines: int, folder: Path, note: Note) -> list[Row]:
    """All of it. Raises Failure or Harm; what is not network comes first, as it is quickest."""
    with Network.for_this_process("fuzz") as network, network.entered():
        return [
            in_process("lines", "lines, parser", seed, lines, note),
            in_process("pages", "log pages and structures", seed, lines, note),
            in_process("codec", "PDUs, codec, both ends", seed, pdus, note),
            *running_lab(seed, pdus // TARGET_SHARE, lines // CALLS_SHARE, folder / "target", note),
            *running_client(
                seed, pdus // SESSIONS_SHARE, lines // FOLDER_SHARE, folder / "discovery", note
            ),
        ]


def _check_growth(what: str, before_bytes: int, after_bytes: int) -> None:
    if after_bytes - before_bytes > GROWTH_BYTES:
        raise Failure(f"{what}: grew from {before_bytes // MIB} to {after_bytes // MIB} MiB")


def _raise(findings: list[Finding]) -> None:
    if findings:
        for finding in findings:
            finding.save()
        raise Failure("\n\n".join(finding.told() for finding in findings[:5]))


def summary(rows: list[Row]) -> Table:
    table = Table("what", "inputs", "how it ended", "s", "MiB warm", "MiB end", title="Fuzz")
    for row in rows:
        ends = "\n".join(
            f"{count:,} {name.lower().replace('_', ' ')}"
            for name, count in row.outcomes.most_common()
        )
        figures = (f"{row.seconds:.0f}", *_mib(row.before_bytes, row.after_bytes))
        table.add_row(row.what, f"{row.count:,}", ends, *figures, end_section=True)
    return table


def _mib(*sizes: int) -> list[str]:
    return [f"{size / MIB:.0f}" for size in sizes]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pdus", type=int, default=1_000_000)
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--replay", type=Path, help="a file of tests/fuzz/found, once more")
    arguments = parser.parse_args()
    console = Console()
    if arguments.replay:
        console.print(replayed(Input.load(arguments.replay)))
        return 0
    if os.geteuid() != 0:
        console.print("make fuzz needs root: it makes a network namespace")
        return 2
    console.print(f"seed {arguments.seed}")
    started = time.monotonic()
    last = 0.0

    def note(text: str) -> None:
        nonlocal last
        if time.monotonic() - last > 5:
            last = time.monotonic()
            console.print(f"{last - started:5.0f} s  {text}", highlight=False)

    with tempfile.TemporaryDirectory(prefix="lightos-fuzz-") as folder:
        try:
            rows = run(arguments.seed, arguments.pdus, arguments.lines, Path(folder), note)
        except (Failure, Harm, TimeoutError) as error:
            console.print(f"{error}\nseed {arguments.seed}", highlight=False, markup=False)
            return 1
    console.print(summary(rows))
    console.print(
        f"{sum(row.count for row in rows):,} inputs, no crash, no hang, no growth; "
        f"{time.monotonic() - started:.0f} s, seed {arguments.seed}"
    )
    return 0


def replayed(given: Input) -> str:
    """Feed one input again; how it ended. Raises what it makes go wrong."""
    if given.kind in workers.CHECKS:
        return workers.outcome(given)
    with tempfile.TemporaryDirectory() as folder, target.bed(Path(folder)) as on:
        ended = rest.Caller(on.api).send(given) if given.kind == "rest" else on.fed(given)
        if trouble := on.log.trouble():
            raise Harm(trouble)
        return ended


if __name__ == "__main__":
    sys.exit(main())
