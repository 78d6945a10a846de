# SPDX-License-Identifier: Apache-2.0
"""Compare our OpenAPI document with another one, operation by operation and field by field.

`python -m tests.contract.parity CONTRACT.json` prints a line per operation of the contract:
exact (every fact is the same), partial (some are missing in ours), absent, or wrong (ours says
something else, or something more). The exit status is 1 when anything is wrong or partial.

What it came to is kept in parity.json, which the documentation has its table from: `--write` writes
it anew, and without that the exit status is 1 too when it does not say the same. Beside it stands a
hash of our document, so that where the contract is not at hand a change of ours shows all the same.

A fact is one keyword of one parameter, body field or reply field, with references followed.
Prose (descriptions, notes) and labels of the contract's own are no facts.
"""

from __future__ import annotations

import argparse
import enum
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lightos.api import openapi

Facts = Mapping[str, Any]

NO_FACTS = frozenset({"description", "x-note", "x-origin", "x-proto-message", "x-rpc"})
LINE = "method and path"
METHODS = ("get", "put", "post", "delete", "patch", "head", "options", "trace")


class Verdict(enum.Enum):
    """How one operation compares."""

    EXACT = "exact"
    PARTIAL = "partial"
    ABSENT = "absent"
    WRONG = "wrong"


KEPT = Path(__file__).with_name("parity.json")


@dataclass(frozen=True)
class Comparison:
    """One operation; `facts` counts the contract's, the tuples say what differs and how."""

    operation: str
    line: str
    """Its method and path."""
    verdict: Verdict
    facts: int
    missing: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()


def operations(document: Mapping[str, Any]) -> dict[str, Facts]:
    """Return the facts of every operation, by operation id."""
    found = {}
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                operation = item[method]
                facts = dict(_operation_facts(document, operation))
                facts[LINE] = f"{method.upper()} {path}"
                facts["security"] = operation.get("security", document.get("security"))
                found[operation["operationId"]] = facts
    return found


def _operation_facts(document: Mapping[str, Any], operation: Any) -> Iterator[tuple[str, Any]]:
    yield "tags", operation.get("tags")
    for given in operation.get("parameters", ()):
        parameter = _resolved(document, given)
        where = f"{parameter['in']} parameter {parameter['name']}"
        yield f"{where} required", parameter.get("required", False)
        yield from _schema_facts(document, parameter["schema"], where, ())
    if "requestBody" in operation:
        body = _resolved(document, operation["requestBody"])
        yield "body required", body.get("required", False)
        yield from _content_facts(document, body, "body")
    for status, reply in operation["responses"].items():
        yield f"reply {status}", True
        yield from _content_facts(document, _resolved(document, reply), f"reply {status}")


def _content_facts(
    document: Mapping[str, Any], holder: Mapping[str, Any], where: str
) -> Iterator[tuple[str, Any]]:
    for media_type, content in holder.get("content", {}).items():
        yield from _schema_facts(document, content["schema"], f"{where} {media_type}", ())


def _schema_facts(
    document: Mapping[str, Any], schema: Any, where: str, inside: tuple[str, ...]
) -> Iterator[tuple[str, Any]]:
    for keyword, value in schema.items():
        if keyword == "$ref":
            yield f"{where} is", value
            if value not in inside:
                target = _resolved(document, schema)
                yield from _schema_facts(document, target, where, (*inside, value))
        elif keyword == "allOf":
            for part in value:
                yield from _schema_facts(document, part, where, inside)
        elif keyword == "properties":
            for name, field in value.items():
                yield f"{where}.{name}", True
                yield from _schema_facts(document, field, f"{where}.{name}", inside)
        elif keyword == "items":
            yield from _schema_facts(document, value, f"{where}[]", inside)
        elif keyword == "required":
            for name in value:
                yield f"{where}.{name} required", True
        elif keyword not in NO_FACTS:
            yield f"{where} {keyword}", value


def _resolved(document: Mapping[str, Any], value: Any) -> Any:
    while "$ref" in value:
        target: Any = document
        for part in value["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        value = target
    return value


def compare(ours: Mapping[str, Any], contract: Mapping[str, Any]) -> list[Comparison]:
    """Compare two documents; operations of the contract first, in its order."""
    known, wanted = operations(ours), operations(contract)
    found = [_compared(name, known.get(name), facts) for name, facts in wanted.items()]
    return found + [
        Comparison(
            name, facts[LINE], Verdict.WRONG, 0, wrong=("the contract has no such operation",)
        )
        for name, facts in known.items()
        if name not in wanted
    ]


def _compared(operation: str, ours: Facts | None, wanted: Facts) -> Comparison:
    if ours is None:
        return Comparison(operation, wanted[LINE], Verdict.ABSENT, len(wanted))
    missing = tuple(f"{fact}: {value!r}" for fact, value in wanted.items() if fact not in ours)
    wrong = tuple(
        f"{fact}: ours {value!r}, contract {wanted.get(fact, 'has none')!r}"
        for fact, value in ours.items()
        if fact not in wanted or wanted[fact] != value
    )
    verdict = Verdict.WRONG if wrong else Verdict.PARTIAL if missing else Verdict.EXACT
    return Comparison(operation, wanted[LINE], verdict, len(wanted), missing, wrong)


def report(comparisons: list[Comparison], console: Console) -> None:
    """Print the parity table, what differs, and the totals."""
    table = Table("operation", "facts", "missing", "wrong", "verdict", title="Contract parity")
    for column in table.columns[1:4]:
        column.justify = "right"
    for each in comparisons:
        counts = (
            ("", "")
            if each.verdict is Verdict.ABSENT
            else (str(len(each.missing)), str(len(each.wrong)))
        )
        table.add_row(each.operation, str(each.facts), *counts, each.verdict.value)
    console.print(table)
    for each in comparisons:
        for fact in each.missing:
            console.print(f"{each.operation} misses {fact}", markup=False)
        for fact in each.wrong:
            console.print(f"{each.operation} contradicts {fact}", markup=False)
    totals = (
        f"{sum(each.verdict is verdict for each in comparisons)} {verdict.value}"
        for verdict in Verdict
    )
    console.print(f"{len(comparisons)} operations: {', '.join(totals)}")


def digest(document: Mapping[str, Any]) -> str:
    """SHA-256 of a document, whatever the order of its keys."""
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def kept(ours: Mapping[str, Any], comparisons: list[Comparison]) -> str:
    """What parity.json says of our document and them: line by line, in the contract's order."""
    rows = [
        json.dumps({"operation": c.operation, "line": c.line, "parity": c.verdict.value})
        for c in comparisons
    ]
    listed = ",\n".join(rows)
    return f'{{"document": "{digest(ours)}",\n"operations": [\n{listed}\n]}}\n'


def main(arguments: list[str], keep: Path = KEPT) -> int:
    """Compare the generated document with the file named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.contract.parity")
    parser.add_argument("contract", type=Path, metavar="CONTRACT.json")
    parser.add_argument("--write", action="store_true", help=f"write {keep.name} anew")
    options = parser.parse_args(arguments)
    try:
        contract = json.loads(options.contract.read_text())
    except (OSError, ValueError) as cause:
        print(f"cannot read the contract {options.contract}: {cause}", file=sys.stderr)
        return 2
    ours = openapi.document()
    comparisons = compare(ours, contract)
    found = kept(ours, comparisons)
    report(comparisons, Console())
    if options.write:
        keep.write_text(found)
    elif not keep.exists() or keep.read_text() != found:
        print(f"{keep} is not what was found; write it anew with --write", file=sys.stderr)
        return 1
    bad = (Verdict.WRONG, Verdict.PARTIAL)
    return 1 if any(each.verdict in bad for each in comparisons) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
