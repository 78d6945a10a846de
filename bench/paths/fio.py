# SPDX-License-Identifier: Apache-2.0
"""fio in a guest that writes and verifies round after round, and what it met.

A round writes each block once, in random order and with data that no other round writes, and
then reads and verifies all of them (fio checks a checksum, the offset and the order of writes).
So a write that lands late, or never, is found at the latest when its round ends.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from testbed import nvme
from testbed.guest import Guest

ROUND_BYTES = 512 << 10
WRITES_PER_SECOND = 60
"""Leaves the emulated CPU some time for the faults."""
END_SECONDS = 120.0

_ROUNDS = """
while :; do
    if [ -b $1 ]; then
        fio --name=paths --filename=$1 --allow_file_create=0 --direct=1 --ioengine=libaio \
            --iodepth=4 --bs=4k --rw=randwrite --size=$3 --rate_iops=$4 --randrepeat=0 \
            --verify=crc32c --do_verify=1 --verify_fatal=1 \
            --output-format=json --output=$2.json || :
        cat $2.json
    else
        sleep 0.2
    fi
    [ ! -e $2 ] || exit 0
done
"""


@dataclass(frozen=True)
class Figures:
    """What some rounds of fio came to."""

    rounds: int
    failed_rounds: int
    """Rounds that ended with an I/O error or with data that was not what was written."""
    written_bytes: int
    verified_bytes: int
    longest_stall_seconds: float
    """The longest completion latency of any read or write (`clat_ns.max` in fio's report).

    fio has none of I/O that failed: a round that did counts from its begin to its error.
    """


def figures(jobs: Iterable[Mapping[str, Any]]) -> Figures:
    """Of jobs in fio's JSON reports."""
    jobs = list(jobs)
    return Figures(
        rounds=len(jobs),
        failed_rounds=sum(bool(job["error"]) for job in jobs),
        written_bytes=sum(job["write"]["io_bytes"] for job in jobs),
        verified_bytes=sum(job["read"]["io_bytes"] for job in jobs if not job["error"]),
        longest_stall_seconds=max(map(_stall_seconds, jobs), default=0.0),
    )


def _stall_seconds(job: Mapping[str, Any]) -> float:
    if job["error"]:
        return float(job["job_runtime"]) / 1e3
    latencies = (job[way].get("clat_ns", {}).get("max", 0) for way in ("read", "write"))
    return float(max(latencies)) / 1e9


def jobs_of(output: str) -> Iterator[dict[str, Any]]:
    """The jobs in reports that follow each other; one that is not whole yet is left out."""
    decoder = json.JSONDecoder()
    at = output.find("{")
    while at >= 0:
        try:
            report, end = decoder.raw_decode(output, at)
        except ValueError:
            return
        yield from report["jobs"]
        at = output.find("{", end)


class Fio:
    """Rounds on one device, from now until `end`; one at least."""

    def __init__(self, host: Guest, device: str) -> None:
        self._host = host
        self._stop_file = "/run/fio-paths-stop"
        host.run(["rm", "-f", self._stop_file])
        arguments = [device, self._stop_file, str(ROUND_BYTES), str(WRITES_PER_SECOND)]
        command = [*nvme.IGNORING_SIGPIPE, "sh", "-euc", _ROUNDS, "fio", *arguments]
        self._process = host.popen(command)

    def end(self) -> Figures:
        """Let the round under way end, and tell of all."""
        self._host.run(["touch", self._stop_file])
        return figures(jobs_of(self._process.wait(END_SECONDS).stdout))
