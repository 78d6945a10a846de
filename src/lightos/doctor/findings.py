# SPDX-License-Identifier: Apache-2.0
"""What the doctor has to say, one line each, and what it comes to in all."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


class Severity(enum.IntEnum):
    """How bad a finding is. The number is the exit status of a Nagios plug-in that reports it."""

    OK = 0
    WARNING = 1
    CRITICAL = 2


UNKNOWN_STATUS = 3
"""Exit status of a Nagios plug-in that did not look: its command line made no sense."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    `check` says what was checked, in a word that stays the same (`token`); `subject` of what
    (`[lightos] lightos_jwt_file`); `said` what was found, and `fix` what to do about it, which is
    nothing where all is well.
    """

    severity: Severity
    check: str
    subject: str
    said: str
    fix: str = ""

    def as_dict(self) -> dict[str, str]:
        """For programs."""
        return {
            "severity": self.severity.name.lower(),
            "check": self.check,
            "subject": self.subject,
            "said": self.said,
            "fix": self.fix,
        }


class Findings:
    """Findings of one subject after the other, as checks make them."""

    def __init__(self) -> None:
        self._found: list[Finding] = []

    def ok(self, check: str, subject: str, said: str) -> None:
        self._found.append(Finding(Severity.OK, check, subject, said))

    def warning(self, check: str, subject: str, said: str, fix: str) -> None:
        self._found.append(Finding(Severity.WARNING, check, subject, said, fix))

    def critical(self, check: str, subject: str, said: str, fix: str) -> None:
        self._found.append(Finding(Severity.CRITICAL, check, subject, said, fix))

    @property
    def all(self) -> list[Finding]:
        return list(self._found)


def worst(findings: Sequence[Finding]) -> Severity:
    """The severity of them all."""
    return max((finding.severity for finding in findings), default=Severity.OK)


def summary(findings: Sequence[Finding]) -> str:
    """The line that a monitoring system shows."""
    counts = Counter(finding.severity for finding in findings)
    numbers = ", ".join(f"{counts[each]} {each.name.lower()}" for each in reversed(Severity))
    return f"LIGHTOS {worst(findings).name} - {numbers}"


def worst_first(findings: Sequence[Finding]) -> list[Finding]:
    """What needs doing before what is well, else in the order in which it was found."""
    return sorted(findings, key=lambda finding: -finding.severity)
