# SPDX-License-Identifier: Apache-2.0
"""Which API address comes next, which one rests and for how long. Pure: time is an argument.

Calls stay with the address that answered last, so that its connections stay warm. One that
fails rests, 1 s at first and twice as long after each further failure up to 30 s; while it
rests, others are asked. When all rest, the one that wakes first is asked all the same.

The addresses are those configured, which stay whatever happens, and after them those that the
cluster tells, which come and go with its nodes.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

FIRST_REST_SECONDS = 1.0
LONGEST_REST_SECONDS = 30.0

_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?", re.ASCII)


def parse_address(text: str) -> str:
    """Return an IPv4 address, an IPv6 address without brackets, or a host name.

    ValueError says what is wrong with `text`; a port does not belong here.
    """
    bare = text.strip()
    if bare.startswith("[") and bare.endswith("]"):
        bare = bare[1:-1]
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        # Digits and dots alone are a mistyped IPv4 address, never a name.
        if len(bare) > 253 or not _HOST_NAME.fullmatch(bare) or re.fullmatch(r"[\d.]+", bare):
            raise ValueError(
                f"{text!r} is not an IP address or host name (give the port separately)"
            ) from None
        return bare


def url_host(address: str) -> str:
    """Return an address as it stands in a URL: IPv6 in brackets."""
    return f"[{address}]" if ":" in address else address


def split_endpoint(text: str, default_port: int) -> tuple[str, int]:
    """Split `ip:port`, `[ip]:port` or `name:port`, as the cluster tells them.

    What is none of these is returned whole, with the default port.
    """
    try:
        parts = urlsplit(f"//{text}")
        return parts.hostname or text, parts.port or default_port
    except ValueError:
        return text, default_port


@dataclass(frozen=True)
class Rest:
    """Why an address is not asked first: it failed `failures` times in a row."""

    until: float
    failures: int


@dataclass(frozen=True)
class Endpoints:
    """The addresses of one cluster, as far as we know their health.

    `until` and `now` are seconds on one monotonic clock.
    """

    addresses: tuple[str, ...]
    configured: tuple[str, ...]
    preferred: int = 0
    resting: Mapping[str, Rest] = field(default_factory=dict)

    @classmethod
    def of(cls, addresses: Iterable[str]) -> Endpoints:
        """Parse the addresses, each kept once, in the order given; ValueError for a bad one."""
        unique = tuple(dict.fromkeys(parse_address(address) for address in addresses))
        if not unique:
            raise ValueError("no API address is given")
        return cls(unique, unique)

    def with_told(self, told: Iterable[str]) -> Endpoints:
        """Replace the addresses that the cluster told before; what is no address is left out.

        Health is kept, and so is the preferred address if it is still there.
        """
        addresses = tuple(dict.fromkeys((*self.configured, *_parsed(told))))
        if addresses == self.addresses:
            return self
        before = self.addresses[self.preferred]
        return replace(
            self,
            addresses=addresses,
            preferred=addresses.index(before) if before in addresses else 0,
            resting={name: rest for name, rest in self.resting.items() if name in addresses},
        )

    def is_resting(self, address: str, now: float) -> bool:
        """Say whether an address failed lately."""
        rest = self.resting.get(address)
        return rest is not None and now < rest.until

    def states(self, now: float) -> list[tuple[str, str]]:
        """Each address, the one to be asked next first, and what we know of its health."""
        best = self.best(now)
        return [
            (address, self._state(address, best, now))
            for address in sorted(self.addresses, key=lambda address: address != best)
        ]

    def _state(self, address: str, best: str, now: float) -> str:
        state = "asked next" if address == best else "ready"
        rest = self.resting.get(address)
        if rest is None:
            return state
        pause = f"rests for {rest.until - now:.1f} s" if now < rest.until else "has rested"
        return f"{state}, {pause}, failures in a row: {rest.failures}"

    def best(self, now: float) -> str:
        """Return the address to ask next."""
        ring = self.addresses[self.preferred :] + self.addresses[: self.preferred]
        for address in ring:
            if not self.is_resting(address, now):
                return address
        return min(ring, key=lambda address: self.resting[address].until)

    def after_success(self, address: str) -> Endpoints:
        """Stay with an address that answered; one that is gone meanwhile is not brought back."""
        if address not in self.addresses:
            return self
        index = self.addresses.index(address)
        if index == self.preferred and address not in self.resting:
            return self
        awake = {name: rest for name, rest in self.resting.items() if name != address}
        return replace(self, preferred=index, resting=awake)

    def after_failure(self, address: str, now: float) -> Endpoints:
        """Let an address rest that could not be reached, or lost a request."""
        before = self.resting.get(address)
        if address not in self.addresses or (before is not None and now < before.until):
            return self
        failures = before.failures + 1 if before is not None else 1
        seconds = min(FIRST_REST_SECONDS * 2 ** min(failures - 1, 10), LONGEST_REST_SECONDS)
        return replace(self, resting={**self.resting, address: Rest(now + seconds, failures)})

    def after_busy(self, address: str) -> Endpoints:
        """Prefer the next address over one that answered but could not serve.

        One that failed and has not answered since comes last: to find out would take a time-out.
        """
        if address not in self.addresses:
            return self
        index = self.addresses.index(address)
        others = self.addresses[index + 1 :] + self.addresses[:index]
        well = (each for each in others if each not in self.resting)
        chosen = next(well, others[0] if others else address)
        return replace(self, preferred=self.addresses.index(chosen))


def _parsed(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        try:
            yield parse_address(text)
        except ValueError:
            continue
