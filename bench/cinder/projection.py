# SPDX-License-Identifier: Apache-2.0
"""What a large cloud would cost, reckoned from what was measured. Pure: figures in, tables out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.cinder.operations import COMPARED_AT_SECONDS
from bench.part import Grid, number
from bench.sides import INCUMBENT, OURS

VOLUMES, HOSTS, SERVICES = 100_000, 2_000, 10
SECONDS_PER_DAY = 86_400
PEAK = 10
"""How many times the day's average the busiest minutes are."""
STATISTICS_SECONDS = 60
"""Cinder's backend_stats_polling_interval."""
PER_VOLUME_AND_DAY = {
    "create": 1 / 30,
    "delete_volume": 1 / 30,
    "attach": 1.0,
    "detach": 1.0,
    "snapshot": 1.0,
    "delete_snapshot": 1.0,
    "clone": 1 / 30,
    "extend": 1 / 30,
}
"""A busy cloud: every volume is attached somewhere else and snapshotted once a day, lives for a
month, and is cloned and extended once in that time."""


def operations_per_second() -> float:
    """Of all cinder-volumes, on average."""
    return VOLUMES * sum(PER_VOLUME_AND_DAY.values()) / SECONDS_PER_DAY


def _per_second(document: Mapping[str, Any], name: str, what: str) -> float:
    """REST calls or TLS handshakes of all cinder-volumes, on average."""
    per_day = sum(
        times * _median(document, operation, name, what)
        for operation, times in PER_VOLUME_AND_DAY.items()
    )
    return VOLUMES * per_day / SECONDS_PER_DAY


def load(document: Mapping[str, Any]) -> Grid:
    """Operations, REST calls and TLS handshakes per second, on average and at the peak."""
    statistics = document["many_volumes"]["rows"][-1]
    rows = [
        [
            name,
            when,
            number(operations_per_second() * times),
            number(_per_second(document, name, "calls") * times),
            number(SERVICES * statistics[name]["statistics_calls"] / STATISTICS_SECONDS),
            number(_per_second(document, name, "tls") * times),
        ]
        for name in (OURS, INCUMBENT)
        for when, times in (("average", 1), (f"peak, {PEAK} x", PEAK))
    ]
    head = ["driver", "load", "operations/s", "REST calls/s", "statistics calls/s"]
    head += ["TLS handshakes/s"]
    title = f"{VOLUMES:,} volumes, {HOSTS:,} hosts, {SERVICES} cinder-volumes"
    return Grid(title, head, rows, 2)


def calls_per_core_second(mixed: Mapping[str, Any]) -> float:
    """What a core of the lab serves of the calls that mixed operations make.

    Fewer than of GETs alone: there are writes among them, and the changes that these bring about.
    """
    cpu_per_operation = mixed["lab_cores"] / mixed["per_second"]
    return float(mixed["calls_per_operation"] / cpu_per_operation)


def limits(document: Mapping[str, Any]) -> Grid:
    """What each limit allows, and how much of it that cloud takes at its peak."""
    operations = operations_per_second() * PEAK
    calls = _per_second(document, OURS, "calls") * PEAK
    one_process = max(row["per_second"] for row in document["scaling"]["threads"])
    one_core = calls_per_core_second(document["throughput"][OURS])
    most = document["many_volumes"]["rows"][-1]
    listing = most[OURS]["list_s"] * VOLUMES / most["volumes"]
    few, many = document["scaling"]["hosts"][0], document["scaling"]["hosts"][-1]
    search = max(many["first_attach_s"] - few["first_attach_s"], 0.0)
    shares = sorted(
        [
            _Share(
                "a list of all that can be managed, within Cinder's RPC timeout",
                "60 s",
                f"{number(listing)} s",
                listing / 60,
            ),
            _Share(
                f"{SERVICES} cinder-volumes, a core each",
                f"{number(one_process * SERVICES)} operations/s",
                f"{number(operations)} operations/s",
                operations / (one_process * SERVICES),
            ),
            _Share(
                "one core of an API server that works as fast as the lab's",
                f"{number(one_core)} calls/s",
                f"{number(calls)} calls/s",
                calls / one_core,
            ),
            _Share(
                f"the search for a host's NQN among {many['attachments']:,} attachments, at its "
                "first attach in each process",
                f"{number(COMPARED_AT_SECONDS * 1000)} ms, one change of the cluster",
                f"{number(search * 1000)} ms",
                search / COMPARED_AT_SECONDS,
            ),
        ],
        key=lambda share: -share.part,
    )
    return Grid(
        "What is reached first",
        ["limit", "allows", "that cloud takes", "share"],
        [[each.limit, each.allows, each.takes, f"{each.part:.0%}"] for each in shares],
    )


@dataclass(frozen=True)
class _Share:
    """How much of what a limit allows is taken."""

    limit: str
    allows: str
    takes: str
    part: float


def _median(document: Mapping[str, Any], operation: str, name: str, what: str) -> float:
    for row in document["rows"]:
        if row["operation"] == operation and row["transition_s"] == COMPARED_AT_SECONDS:
            return float(row[f"{name}_{what}"]["median"])
    raise KeyError(operation)
