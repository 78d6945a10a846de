# SPDX-License-Identifier: Apache-2.0
"""What the commands of `lightos discovery-client` print: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lightos.discovery.reconcile import KernelController
from lightos.discovery.subsystems import Namespace, Subsystem

Command = TypeVar("Command", bound=Callable[..., Any])
Row = dict[str, Any]

_LONG = frozenset({"subsysnqn", "hostnqn", "outcome"})
"""Columns that give way where a terminal is narrow."""
_PIPE_COLUMNS = 300
"""Where nobody looks, a line is a row: two NQNs and more, unfolded."""

_STYLES = {
    "live": "green",
    "optimized": "green",
    "connected": "green",
    "already connected": "green",
    "connecting": "yellow",
    "non-optimized": "yellow",
    "inaccessible": "yellow",
}
_HEADS = {
    "controller": "Controller",
    "state": "State",
    "traddr": "Address",
    "trsvcid": "Port",
    "subsysnqn": "Subsystem NQN",
    "hostnqn": "Host NQN",
    "hostid": "Host id",
    "made_here": "Made by",
    "subtype": "Kind",
    "outcome": "Outcome",
    "device": "Device",
    "nsid": "NSID",
    "uuid": "UUID",
    "size": "Size",
    "paths": "Paths",
}


def as_json(command: Command) -> Command:
    """The option `--json` of a command."""
    return click.option("--json", "json_wanted", is_flag=True, help="Print JSON, no table.")(
        command
    )


def show_json(content: object) -> None:
    click.echo(json.dumps(content, indent=2))


def show(rows: Sequence[Row], columns: Sequence[str], *, nothing: str, title: str = "") -> None:
    """Print a table of some columns of rows, or say that there is nothing."""
    console = Console()
    if not console.is_terminal:
        console.width = _PIPE_COLUMNS
    if not rows:
        console.print(nothing)
        return
    if title:
        console.print(escape(title), soft_wrap=True)
    table = Table()
    for column in columns:
        long = column in _LONG
        table.add_column(_HEADS[column], no_wrap=not long, overflow="fold" if long else "ellipsis")
    for row in rows:
        table.add_row(*(_styled(row[column]) for column in columns))
    console.print(table)


def controller_row(controller: KernelController, *, made_here: bool) -> Row:
    path = controller.path
    return {
        "controller": controller.name,
        "state": controller.state,
        "traddr": path.endpoint.address,
        "trsvcid": path.endpoint.port,
        "subsysnqn": path.cluster.subsystem_nqn,
        "hostnqn": path.cluster.host_nqn,
        "hostid": str(controller.host_id) if controller.host_id else None,
        "made_here": made_here,
    }


def namespace_row(namespace: Namespace) -> Row:
    return {
        "device": f"/dev/{namespace.device}",
        "nsid": namespace.nsid,
        "uuid": namespace.uuid,
        "size_bytes": namespace.size_bytes,
        "ana_states": dict(namespace.ana_states),
    }


def show_subsystem(subsystem: Subsystem, controllers: Sequence[Row]) -> None:
    """Print a subsystem's paths and namespaces as two tables below its NQN."""
    show(
        controllers,
        ("controller", "state", "traddr", "trsvcid", "made_here"),
        nothing="",
        title=f"{subsystem.name} {subsystem.nqn}",
    )
    rows = [
        {
            **namespace_row(each),
            "size": f"{each.size_bytes / 2**30:.2f} GiB",
            "paths": dict(each.ana_states),
        }
        for each in subsystem.namespaces
    ]
    show(rows, ("device", "nsid", "uuid", "size", "paths"), nothing="It has no namespace here.")


def _styled(value: object) -> str:
    if isinstance(value, Mapping):
        return "\n".join(f"{name} {_styled(state or '-')}" for name, state in value.items())
    if isinstance(value, bool):
        return "the daemon" if value else "somebody else"
    text = "" if value is None else str(value)
    style = _STYLES.get(text)
    return f"[{style}]{text}[/]" if style else escape(text)
