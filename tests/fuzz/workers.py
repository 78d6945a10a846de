# SPDX-License-Identifier: Apache-2.0
"""Inputs that need no process of their own to be fed to, in as many processes as there are CPUs."""

from __future__ import annotations

import logging
import os
import signal
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from tests.fuzz import codec, parsers
from tests.fuzz.finding import Finding, Harm, Input, minimised
from tests.fuzz.processes import resident_bytes

HANG_SECONDS = 20.0
"""Computing time that no input is worth."""
CHUNK = 2500

Check = Callable[[int, Sequence[bytes]], str]
CHECKS: dict[str, Check] = {
    "controller": codec.check_controller,
    "host": codec.check_host,
    "line": parsers.check_line,
    "page": parsers.check_page,
}
MAKERS: dict[str, Callable[[int, int], Input]] = {
    "codec": codec.make,
    "lines": parsers.make_line,
    "pages": parsers.make_page,
}


@dataclass
class Chunk:
    """What came of some inputs."""

    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    pid: int = 0
    resident_bytes: int = 0


def outcome(given: Input) -> str:
    """Feed one input; raises what it made go wrong."""
    with _time_limit():
        return CHECKS[given.kind](given.variant, given.pieces)


def finding(given: Input) -> Finding | None:
    """Feed one input; what went wrong, if anything did."""
    try:
        outcome(given)
    except Exception:  # noqa: BLE001 - to find those is the purpose
        return Finding(given, traceback.format_exc())
    return None


def _told(found: Finding) -> Finding:
    small = minimised(found.input, lambda tried: finding(tried) is not None)
    return finding(small) or found


def run_chunk(maker: str, seed: int, numbers: range) -> Chunk:
    """Make and feed the inputs `numbers`."""
    logging.disable()  # of what is skipped; whether too much is said is asked elsewhere
    done = Chunk(pid=os.getpid())
    for number in numbers:
        given = MAKERS[maker](seed, number)
        try:
            done.outcomes[outcome(given)] += 1
        except Exception:  # noqa: BLE001
            done.findings.append(_told(Finding(given, traceback.format_exc())))
    done.resident_bytes = resident_bytes(os.getpid())
    return done


def run(maker: str, seed: int, count: int) -> Iterator[tuple[int, Chunk]]:
    """All inputs, chunk by chunk, with how many are in each, as they are done."""
    chunks = [range(at, min(at + CHUNK, count)) for at in range(0, count, CHUNK)]
    with ProcessPoolExecutor(min(len(chunks), os.cpu_count() or 1)) as pool:
        jobs = {pool.submit(run_chunk, maker, seed, numbers): numbers for numbers in chunks}
        for job in as_completed(jobs):
            yield len(jobs[job]), job.result()


@contextmanager
def _time_limit() -> Iterator[None]:
    """Only in the main thread of a process."""

    def late(_number: int, _frame: FrameType | None) -> None:
        raise Harm(f"not done after {HANG_SECONDS:g} s of computing")

    earlier = signal.signal(signal.SIGVTALRM, late)
    signal.setitimer(signal.ITIMER_VIRTUAL, HANG_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, earlier)
