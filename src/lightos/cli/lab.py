# SPDX-License-Identifier: Apache-2.0
"""`lightos lab`: the commands of a lab cluster, by name."""

from __future__ import annotations

import click

from lightos.cli.lazy_group import LazyGroup

PARTS = {
    "up": ("lightos.cli.lab_up:up", "Start a cluster, or resume the one in the state folder."),
    "status": (
        "lightos.cli.lab_state:status",
        "Show nodes, health and capacity of the running cluster.",
    ),
    "wait": (
        "lightos.cli.lab_state:wait",
        "Return once the cluster is ready: every active node answers on all its ports.",
    ),
    "down": (
        "lightos.cli.lab_state:down",
        "End the running cluster; its volumes stay in the state folder, but for one with --memory.",
    ),
    "reset": (
        "lightos.cli.lab_state:reset",
        "Take away all volumes, snapshots, projects, policies, credentials and faults, at once.",
    ),
    "node": ("lightos.cli.lab_node:node", "Stop, start, add, remove and move storage nodes."),
    "seed": (
        "lightos.cli.lab_seed:seed",
        "Make the projects, QoS policies, volumes and snapshots of FILE, unless they are there.",
    ),
    "fault": (
        "lightos.cli.lab_fault:fault",
        "Let the cluster misbehave on purpose, until `clear` or its end.",
    ),
    "token": (
        "lightos.cli.lab_token:token",
        "Print a new API token, for a project and roles of your choice.",
    ),
    "renew-tokens": (
        "lightos.cli.lab_token:renew_tokens",
        "Write new tokens to the token files; those issued before stay good.",
    ),
}


@click.command(cls=LazyGroup, parts=PARTS)
def lab() -> None:
    """A LightOS-compatible cluster on this machine."""
