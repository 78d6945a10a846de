# SPDX-License-Identifier: Apache-2.0
"""What a tempest run came to: one outcome per selected test, none forgotten."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.table import Column, Table

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"

_CLASS_FIXTURE = re.compile(r"(?P<fixture>\w+) \((?P<class>[\w.]+)\)")


@dataclass(frozen=True)
class Record:
    """One entry of the result stream: a test, or a class fixture such as `setUpClass (a.B)`."""

    id: str
    status: str
    seconds: float
    reason: str = ""


@dataclass(frozen=True)
class Outcome:
    """How one test ended; `reason` is why it was skipped, or the end of its failure."""

    test: str
    status: str
    seconds: float = 0.0
    reason: str = ""

    @property
    def group(self) -> str:
        """The module it is in, without `tempest.`."""
        return self.test.rpartition(".")[0].rpartition(".")[0].removeprefix("tempest.")


def outcomes(selected: Iterable[str], records: Sequence[Record]) -> list[Outcome]:
    """One outcome per selected test, in their order, then class fixtures that failed alone.

    A test of a class whose set-up was skipped or failed shares that end. A selected test of which
    the stream says nothing has failed: it did not run.
    """
    ended = {record.id: record for record in records}
    classes: dict[str, Record] = {}
    alone: list[Outcome] = []
    for record in records:
        if fixture := _CLASS_FIXTURE.fullmatch(record.id):
            if fixture["fixture"] == "setUpClass":
                classes[fixture["class"]] = record
            elif record.status == FAILED:
                alone.append(Outcome(record.id, FAILED, record.seconds, record.reason))
    found = []
    for test in selected:
        name = test.partition("[")[0]
        record = ended.get(test) or classes.get(name.rpartition(".")[0])
        if record is None:
            found.append(Outcome(name, FAILED, reason="it did not run"))
        else:
            seconds = record.seconds if record.id == test else 0.0
            found.append(Outcome(name, record.status, seconds, record.reason))
    return found + alone


def count(all_outcomes: Iterable[Outcome], status: str) -> int:
    return sum(each.status == status for each in all_outcomes)


def by_group(all_outcomes: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    groups: dict[str, list[Outcome]] = {}
    for outcome in all_outcomes:
        groups.setdefault(outcome.group, []).append(outcome)
    return groups


def skips(all_outcomes: Iterable[Outcome]) -> dict[str, list[str]]:
    """Skipped tests by their reason."""
    found: dict[str, list[str]] = {}
    for outcome in all_outcomes:
        if outcome.status == SKIPPED:
            found.setdefault(outcome.reason, []).append(outcome.test)
    return found


def summary(all_outcomes: Sequence[Outcome]) -> Table:
    """A row per module: ran, passed, failed, skipped, seconds."""
    table = Table("tests", "ran", "passed", "failed", "skipped", "seconds", title="Tempest")
    for column in table.columns[1:]:
        column.justify = "right"
    for group, members in sorted(by_group(all_outcomes).items()):
        table.add_row(group, *_figures(members))
    table.add_section()
    table.add_row("in all", *_figures(all_outcomes))
    return table


def skip_table(all_outcomes: Sequence[Outcome]) -> Table:
    """Every skipped test below the reason it gives."""
    table = Table(Column("skipped", overflow="fold"), "reason", title="Skipped")
    for reason, tests in sorted(skips(all_outcomes).items()):
        table.add_row("\n".join(sorted(tests)), reason)
        table.add_section()
    return table


def _figures(members: Sequence[Outcome]) -> list[str]:
    skipped = count(members, SKIPPED)
    seconds = sum(member.seconds for member in members)
    figures = (len(members) - skipped, count(members, PASSED), count(members, FAILED), skipped)
    return [*(str(figure) for figure in figures), f"{seconds:.0f}"]
