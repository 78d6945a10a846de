# SPDX-License-Identifier: Apache-2.0
"""The section "LightOS" of the Guru Meditation Report that cinder-volume makes on SIGUSR2.

It is made inside the signal handler, whatever the process was doing: nothing here waits, takes a
lock that the interrupted code may hold, or asks the cluster.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from oslo_reports.guru_meditation_report import TextGuruMeditation

from lightos.api.credentials import expiry, whole_days_left
from lightos.openstack.cinder import locks

TITLE = "LightOS"


@dataclass(frozen=True)
class BackEnd:
    """What one back end tells of itself; no secret is in it."""

    host: str
    version: str
    cluster: str
    subsystem_nqn: str
    discovery_services: Sequence[tuple[str, int]]
    api_addresses: Sequence[tuple[str, str]]
    """Each address, and its state."""
    token: str
    waits: Sequence[str]


_back_ends: set[weakref.WeakMethod[Callable[[], BackEnd]]] = set()


def tell_of(back_end: Callable[[], BackEnd]) -> None:
    """Ask this method of a driver for each report, for as long as the driver exists."""
    _back_ends.difference_update([each for each in _back_ends.copy() if each() is None])
    _back_ends.add(weakref.WeakMethod(back_end))


def _section() -> str:
    methods = [each() for each in _back_ends.copy()]
    back_ends = [method() for method in methods if method is not None]
    return text(sorted(back_ends, key=lambda each: each.host), locks.under_way.told())


def text(back_ends: Iterable[BackEnd], held_locks: Sequence[str]) -> str:
    """The section's lines."""
    lines: list[str] = []
    for each in back_ends:
        services = ", ".join(f"{address} port {port}" for address, port in each.discovery_services)
        lines += [
            f"Back end {each.host}, driver {each.version}",
            f"  Cluster: {each.cluster or 'not known yet'}",
            f"  Subsystem: {each.subsystem_nqn or 'not known yet'}",
            f"  Discovery services: {services or 'none known yet'}",
            f"  Token: {each.token}",
            *_list("API addresses", [": ".join(pair) for pair in each.api_addresses]),
            *_list("Waits for the cluster", each.waits),
        ]
    return "\n".join([*lines, *_list("Locks of this process", held_locks, indent="")])


def _list(title: str, entries: Sequence[str], indent: str = "  ") -> list[str]:
    if not entries:
        return [f"{indent}{title}: none"]
    return [f"{indent}{title}:", *(f"{indent}  {entry}" for entry in entries)]


def token_told(name: str, token: str, now: datetime) -> str:
    """What may be said of a token: which option it is of, and when it expires."""
    if not token:
        return f"{name} is not set"
    expires = expiry(token)
    if expires is None:
        return f"of {name}, does not say when it expires"
    days = whole_days_left(token, now)
    return f"of {name}, until {expires:%Y-%m-%d %H:%M} UTC, days left: {days}"


TextGuruMeditation.register_section(TITLE, _section)
