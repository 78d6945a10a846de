# SPDX-License-Identifier: Apache-2.0
"""The format of a discovery file: one discovery service per line.

    # comment
    -t tcp -a 192.168.75.11 -s 8009 -q nqn.2014-08.org.nvmexpress:uuid:... -n nqn.2016-01.com...

The options are those of nvme-cli's `discovery.conf`, long or short, separated by white space
or `=`, plus the mandatory `-n`: the subsystem that the writer of the file wants. Standard
library only: os-brick's privileged half imports this module.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

NQN_MAX_BYTES = 223
"""NVM Express Base 2.0, section 4.5 "NVMe Qualified Names"."""

_NQN = re.compile(r"nqn\.[0-9]{4}-(0[1-9]|1[0-2])\.[A-Za-z0-9][A-Za-z0-9.-]*(:.+)?")
# A comma or "=" would start another option in the kernel's connect string or in a file's line.
_FORBIDDEN_IN_NQN = re.compile(r"[\s,=#]")
_HOST_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")
_INTERFACE_NAME = re.compile(r"[A-Za-z0-9._-]{1,15}")
_SEPARATORS = re.compile(r"[\s=]+")

_FLAGS = {"-p": "persistent", "--persistent": "persistent"}
_OPTIONS = {
    "-t": "transport",
    "--transport": "transport",
    "-a": "address",
    "--traddr": "address",
    "-s": "port",
    "--trsvcid": "port",
    "-q": "host_nqn",
    "--hostnqn": "host_nqn",
    "-n": "subsystem_nqn",
    "--nqn": "subsystem_nqn",
    "--subsysnqn": "subsystem_nqn",
    "-I": "host_id",
    "--hostid": "host_id",
    "-l": "ctrl_loss_timeout_seconds",
    "--ctrl-loss-tmo": "ctrl_loss_timeout_seconds",
}
_MANDATORY = {
    "address": "-a ADDRESS",
    "port": "-s PORT",
    "host_nqn": "-q HOSTNQN",
    "subsystem_nqn": "-n SUBSYSNQN",
}


_MOST_ERRORS = 1000
"""Of one file that are recorded one by one."""
_SHOWN_CHARACTERS = 240
"""More than any NQN has."""


class InvalidEntry(ValueError):
    """A value that has no place in a discovery file; the message names it and why."""


@dataclass(frozen=True, order=True)
class DiscoveryEntry:
    """One discovery service and the subsystem wanted from it. Checked when constructed.

    `ctrl_loss_timeout_seconds` is -1 for "never give up"; None leaves it to the daemon.

    Raises:
        InvalidEntry: a value is malformed.
    """

    address: str
    port: int
    host_nqn: str
    subsystem_nqn: str
    host_id: UUID | None = None
    ctrl_loss_timeout_seconds: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "address", validated_address(self.address))
        validated_port(self.port)
        validated_nqn(self.host_nqn, "host NQN")
        validated_nqn(self.subsystem_nqn, "subsystem NQN")
        timeout = self.ctrl_loss_timeout_seconds
        if timeout is not None and timeout < -1:
            raise InvalidEntry(f"controller loss time-out {timeout} is below -1")


@dataclass(frozen=True)
class LineError:
    """A line that was skipped, and why."""

    source: str
    line_number: int
    reason: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line_number}: {self.reason}"


@dataclass(frozen=True)
class DiscoveryFile:
    """What one file says: its good lines without duplicates, in order, and its bad ones."""

    entries: tuple[DiscoveryEntry, ...] = ()
    errors: tuple[LineError, ...] = ()


def _shown(value: object) -> str:
    """`value` in a message; of a megabyte, its begin."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def validated_nqn(value: object, kind: str = "NQN") -> str:
    """Return `value` if it is an NVMe Qualified Name, else raise `InvalidEntry`."""
    if not isinstance(value, str) or not value:
        raise InvalidEntry(f"{kind} is empty")
    # Not printable covers undecodable bytes too, and those cannot be encoded below.
    if not value.isprintable() or _FORBIDDEN_IN_NQN.search(value):
        raise InvalidEntry(f"{kind} {_shown(value)} holds white space, a comma, '=', '#' or worse")
    if len(value.encode()) > NQN_MAX_BYTES:
        raise InvalidEntry(f"{kind} {_shown(value)} is longer than {NQN_MAX_BYTES} bytes")
    if not _NQN.fullmatch(value):
        raise InvalidEntry(f"{kind} {_shown(value)} is not of the form nqn.yyyy-mm.domain:name")
    return value


def validated_ip_address(value: object) -> str:
    """Return an IP address that one can connect to, in canonical form.

    IPv6 may come in brackets, and with a scope (`fe80::1%eth0`).

    Raises:
        InvalidEntry: it is none.
    """
    text = value if isinstance(value, str) else ""
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise InvalidEntry(f"address {_shown(value)} is not an IP address") from None
    if address.is_unspecified or address.is_multicast:
        raise InvalidEntry(f"address {_shown(value)} is not that of a host")
    scope = getattr(address, "scope_id", None)
    if scope is not None and not _INTERFACE_NAME.fullmatch(scope):
        raise InvalidEntry(f"address {_shown(value)} has a scope that is no interface name")
    return str(address)


def validated_address(value: object) -> str:
    """Return an IP address as `validated_ip_address` does, or a host name in lower case."""
    if isinstance(value, str) and _is_host_name(value):
        return value.lower()
    return validated_ip_address(value)


def _is_host_name(text: str) -> bool:
    """RFC 1123; an all-digit last label would be a mistyped IPv4 address."""
    labels = text.removesuffix(".").split(".")
    return (
        len(text) <= 253
        and all(_HOST_LABEL.fullmatch(label) for label in labels)
        and not labels[-1].isdigit()
    )


def validated_port(value: object) -> int:
    """Return `value` if it is a TCP port (1 to 65535), else raise `InvalidEntry`."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 65535:
        raise InvalidEntry(f"port {_shown(value)} is not a number from 1 to 65535")
    return value


def parse_line(line: str) -> DiscoveryEntry | None:
    """Parse one line; None for a blank line or a comment.

    Raises:
        InvalidEntry: the line is malformed.
    """
    content = line.partition("#")[0].strip()
    if not content:
        return None
    words = iter(_SEPARATORS.split(content))
    values: dict[str, str] = {}
    for word in words:
        if not word or word in _FLAGS:
            continue
        field = _OPTIONS.get(word)
        if field is None:
            raise InvalidEntry(f"unknown option {_shown(word)}")
        if field in values:
            raise InvalidEntry(f"{word} is given twice")
        value = next(words, None)
        if not value:
            raise InvalidEntry(f"{word} has no value")
        values[field] = value
    if (transport := values.pop("transport", "tcp")) != "tcp":
        raise InvalidEntry(f"transport {_shown(transport)} is not tcp")
    if missing := [usage for field, usage in _MANDATORY.items() if field not in values]:
        raise InvalidEntry(f"missing {', '.join(missing)}")
    timeout = values.get("ctrl_loss_timeout_seconds")
    return DiscoveryEntry(
        address=values["address"],
        port=_number("port", values["port"]),
        host_nqn=values["host_nqn"],
        subsystem_nqn=values["subsystem_nqn"],
        host_id=_uuid(values["host_id"]) if "host_id" in values else None,
        ctrl_loss_timeout_seconds=(
            None if timeout is None else _number("controller loss time-out", timeout)
        ),
    )


def _number(kind: str, text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,9}", text, re.ASCII):
        raise InvalidEntry(f"{kind} {_shown(text)} is not a number")
    return int(text)


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise InvalidEntry(f"host id {_shown(text)} is not a UUID") from None


def parse(text: str, source: str) -> DiscoveryFile:
    """Parse a whole file. A bad line is recorded with its number and skips only itself."""
    entries: dict[DiscoveryEntry, None] = {}
    errors: list[LineError] = []
    more = 0
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            entry = parse_line(line)
        except InvalidEntry as error:
            if len(errors) < _MOST_ERRORS:
                errors.append(LineError(source, number, str(error)))
            else:
                more += 1
        else:
            if entry is not None:
                entries[entry] = None
    if more:
        errors.append(LineError(source, number, f"{more} more lines up to here are bad"))
    return DiscoveryFile(tuple(entries), tuple(errors))


def format_line(entry: DiscoveryEntry) -> str:
    """The line that both this and the vendor's daemon read back as `entry`."""
    line = f"-t tcp -a {entry.address} -s {entry.port} -q {entry.host_nqn} -n {entry.subsystem_nqn}"
    if entry.host_id is not None:
        line += f" -I {entry.host_id}"
    if entry.ctrl_loss_timeout_seconds is not None:
        line += f" -l {entry.ctrl_loss_timeout_seconds}"
    return line


def format_file(entries: Iterable[DiscoveryEntry], comment: str = "") -> str:
    """A whole file: an optional comment line, then a line per entry."""
    header = [f"# {comment}"] if comment else []
    return "".join(f"{line}\n" for line in [*header, *map(format_line, entries)])
