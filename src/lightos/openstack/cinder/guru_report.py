# SPDX-License-Identifier: Apache-2.0
"""The section "LightOS" of the Guru Meditation Report that cinder-volume makes on SIGUSR2.

It is made inside the signal handler, whatever the process was doing: nothing here waits, takes a
lock that the interrupted code may hold, reads a file, or asks the cluster.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from oslo_reports.guru_meditation_report import TextGuruMeditation

from lightos.api.credentials import expiry, whole_days_left
from lightos.openstack.cinder import locks

TITLE = "LightOS"


@dataclass(frozen=True)
class BackEnd:
    """What one back end tells of itself; no secret is in it."""

    version: str
    cluster: str
    subsystem_nqn: str
    discovery_services: Sequence[tuple[str, int]]
    api_addresses: Sequence[tuple[str, str]]
    """Each address, and its state."""
    token: str
    waits: Sequence[str]


_hosts: dict[weakref.WeakMethod[Callable[[], BackEnd]], str] = {}
"""The host of each back end, by the method that tells of it."""


def tell_of(host: str, back_end: Callable[[], BackEnd]) -> None:
    """Ask this method of a driver for each report, for as long as the driver exists."""
    for gone in [each for each in _hosts.copy() if each() is None]:
        _hosts.pop(gone, None)
    _hosts[weakref.WeakMethod(back_end)] = host


def _section() -> str:
    lines: list[str] = []
    for each, host in sorted(_hosts.copy().items(), key=lambda pair: pair[1]):
        back_end = each()
        if back_end is not None:
            lines += _told(host, back_end)
    return "\n".join([*lines, *_list("Locks of this process", locks.under_way.told(), indent="")])


def _told(host: str, back_end: Callable[[], BackEnd]) -> list[str]:
    try:
        return _lines(host, back_end())
    except Exception as error:  # noqa: BLE001 - the rest of the report is wanted all the same
        # Only its type: its text may hold what no report may.
        return [f"Back end {host}: cannot be told of, {type(error).__name__}"]


def _lines(host: str, told: BackEnd) -> list[str]:
    services = ", ".join(f"{address} port {port}" for address, port in told.discovery_services)
    return [
        f"Back end {host}, driver {told.version}",
        f"  Cluster: {told.cluster or 'not known yet'}",
        f"  Subsystem: {told.subsystem_nqn or 'not known yet'}",
        f"  Discovery services: {services or 'none known yet'}",
        f"  Token: {told.token}",
        *_list("API addresses", [": ".join(pair) for pair in told.api_addresses]),
        *_list("Waits for the cluster", told.waits),
    ]


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
