# SPDX-License-Identifier: Apache-2.0
"""`lightos lab node`: stop, start, add, remove and move storage nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from lightos.cli.lab_folder import running, state_dir
from lightos.cli.lab_waiting import NODE_PORTS, answers, wait_until
from lightos.lab.state_folder import StateFolder

if TYPE_CHECKING:
    from lightos.lab.control import ControlClient

NODE_SECONDS = 60.0


@click.group()
def node() -> None:
    """Stop, start, add, remove and move storage nodes."""


@node.command("stop")
@click.argument("name")
@state_dir
def stop_node(name: str, folder: StateFolder) -> None:
    """End a node's services; its volumes go on at their next replica."""
    _change_node(name, folder, "Inactive")
    click.echo(f"Node {name} is stopped.")


@node.command("start")
@click.argument("name")
@state_dir
def start_node(name: str, folder: StateFolder) -> None:
    """Start a stopped node."""
    _change_node(name, folder, "Active")
    click.echo(f"Node {name} is active.")


@node.command("add")
@click.argument("address")
@state_dir
def add_node(address: str, folder: StateFolder) -> None:
    """Have one more node, on ADDRESS; new volumes go there, too."""
    with running(folder) as control:
        name = control.ask("POST", "nodes", {"address": address})["name"]
        _see_node(control, folder, name, "Active")
    click.echo(f"Node {name} is active on {address}.")


@node.command("remove")
@click.argument("name")
@state_dir
def remove_node(name: str, folder: StateFolder) -> None:
    """Have a node less; its replicas are rebuilt on the others at once.

    Refused where the other nodes are too few for some volume's replicas.
    """
    with running(folder) as control:
        control.ask("DELETE", f"nodes/{quote(name, safe='')}")
    click.echo(f"Node {name} is removed.")


@node.command("move")
@click.argument("name")
@click.argument("address")
@state_dir
def move_node(name: str, address: str, folder: StateFolder) -> None:
    """Give a node another ADDRESS; hosts and API clients have to find it there."""
    with running(folder) as control:
        control.ask("PUT", f"nodes/{quote(name, safe='')}", {"address": address})
        _see_node(control, folder, name, control.node_named(name).state.wire_name)
    click.echo(f"Node {name} is on {address}.")


def _change_node(name: str, folder: StateFolder, wanted: str) -> None:
    """Stop or start a node, and see that its ports say the same."""
    with running(folder) as control:
        uuid = control.node_named(name).uuid
        (control.start_node if wanted == "Active" else control.stop_node)(uuid)
        _see_node(control, folder, name, wanted)


def _see_node(control: ControlClient, folder: StateFolder, name: str, wanted: str) -> None:
    """Wait until a node has a state, and its ports say the same."""
    description = folder.require_running()
    address = next((n["address"] for n in description["nodes"] if n["name"] == name), "")

    def done() -> bool:
        return control.node_named(name).state.wire_name == wanted and all(
            answers(address, description[port]) is (wanted == "Active") for port in NODE_PORTS
        )

    wait_until(done, NODE_SECONDS, f"node {name} did not become {wanted}; see {folder.log}")
