# SPDX-License-Identifier: Apache-2.0
"""One input, how it is told and kept, and the smallest of it that still does harm."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

FOUND = Path(__file__).with_name("found")
"""Inputs that once did harm; `tests/fuzz/test_found.py` replays them for ever."""

SHOWN_CHARACTERS = 8000
"""Of hex, on a terminal; what is longer is in its file."""


class Harm(Exception):
    """Something held to be impossible happened: the message says what."""


@dataclass(frozen=True)
class Input:
    """Bytes in the pieces in which they arrive; `kind` says where, `variant` in which setting."""

    kind: str
    variant: int
    pieces: tuple[bytes, ...]

    @property
    def name(self) -> str:
        content = hashlib.sha256(b"|".join(self.pieces)).hexdigest()[:12]
        return f"{self.kind}-{self.variant}-{content}.hex"

    def text(self) -> str:
        """One piece a line, as hex."""
        return "".join(f"{piece.hex()}\n" for piece in self.pieces)

    @classmethod
    def load(cls, path: Path) -> Self:
        kind, variant, _ = path.stem.rsplit("-", 2)
        lines = path.read_text().splitlines()
        pieces = tuple(bytes.fromhex(line) for line in lines if not line.startswith("#"))
        return cls(kind, int(variant), pieces)


@dataclass(frozen=True)
class Finding:
    """An input that did harm, and what it did."""

    input: Input
    harm: str

    def told(self) -> str:
        """For a person: what happened, the input, and how to have it happen again."""
        path = f"tests/fuzz/found/{self.input.name}"
        text = self.input.text()
        return (
            f"{self.input.kind}: {self.harm}\n{text if len(text) <= SHOWN_CHARACTERS else ''}"
            f"kept as {path}; once more:\n  .venv/bin/python -m tests.fuzz.run --replay {path}"
        )

    def save(self) -> Path:
        FOUND.mkdir(exist_ok=True)
        path = FOUND / self.input.name
        path.write_text(
            f"# SPDX-License-Identifier: Apache-2.0\n# {self._reason()}\n{self.input.text()}"
        )
        return path

    def _reason(self) -> str:
        """The line of a log or traceback that names the exception; else the first."""
        lines = self.harm.strip().splitlines() or [""]
        named = (line for line in lines if re.match(r"[A-Za-z_.]+(Error|Exception|Harm)\b", line))
        return next(named, lines[0])


def minimised(given: Input, does_harm: Callable[[Input], bool], tries: int = 2000) -> Input:
    """Leave out what the harm does not need: PDUs first, then bytes, fewer at a time."""
    best = b"".join(given.pieces)

    def still(stream: bytes) -> bool:
        nonlocal best, tries
        tries -= 1
        if tries < 0 or not does_harm(Input(given.kind, given.variant, (stream,))):
            return False
        best = stream
        return True

    if not still(best):
        return given
    units = _units(best)
    for number in reversed(range(len(units))):
        if still(b"".join(units[:number] + units[number + 1 :])):
            del units[number]
    size = len(best) // 2
    while size and tries > 0:
        at = 0
        while at < len(best) and tries > 0:
            if not still(best[:at] + best[at + size :]):
                at += size
        size //= 2
    return Input(given.kind, given.variant, (best,))


def _units(stream: bytes) -> list[bytes]:
    """Cut where the PLEN of each PDU says, for as long as it makes sense."""
    units = []
    while stream:
        length = int.from_bytes(stream[4:8], "little")
        if not 8 <= length <= len(stream):
            length = len(stream)
        units.append(stream[:length])
        stream = stream[length:]
    return units
