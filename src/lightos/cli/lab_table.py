# SPDX-License-Identifier: Apache-2.0
"""What `lightos lab status` and `lightos lab fault list` print for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lightos.api.models.cluster import Cluster, ClusterHealth, ClusterStatistics
from lightos.api.models.nodes import Node
from lightos.lab.faults.rules import EFFECTS

_EFFECT_FIELDS = {name for effect in EFFECTS for name in (effect.key, *effect.parameters)}
_COUNTS = ("id", "seen", "hits")
STYLES = {"Active": "green", "Activating": "yellow", "OK": "green", "Warning": "yellow"}


def print_status(
    description: dict[str, Any],
    nodes: Sequence[Node],
    cluster: Cluster,
    page_url: str,
) -> None:
    """Print one table of nodes, and the cluster in a few lines."""
    console = Console()
    table = Table("Node", "Address", "State", "UUID")
    addresses = {node["uuid"]: node["address"] for node in description["nodes"]}
    for node in nodes:
        table.add_row(node.name, addresses[node.uuid], _styled(node.state.wire_name), node.uuid)
    console.print(table)
    health = cluster.health or ClusterHealth()
    statistics = cluster.statistics or ClusterStatistics()
    volumes = health.healthy_volumes + health.degraded_volumes + health.not_available_volumes
    console.print(
        f"health {_styled(health.state.wire_name)}, {volumes} volumes "
        f"({health.degraded_volumes} degraded, {health.not_available_volumes} not available), "
        f"{statistics.logical_used_bytes / 2**20:.1f} MiB used, "
        f"{statistics.free_physical_bytes / 2**30:.1f} GiB free"
    )
    console.print(f"subsystem {cluster.subsystem_nqn}", soft_wrap=True)
    console.print(
        f"API port {description['api_port']}, discovery {description['discovery_port']}, "
        f"NVMe/TCP {description['nvme_port']}, pid {description['pid']}"
    )
    if page_url:
        console.print(f"web page {page_url}", soft_wrap=True, highlight=False)


def print_faults(plan: dict[str, Any]) -> None:
    """Print one table of the rules of a fault plan."""
    console = Console()
    if not plan["rules"]:
        console.print("There are no faults.")
        return
    table = Table("ID", "Effect", "Picks", "Seen", "Hits", title=f"seed {plan['seed']}")
    for rule in plan["rules"]:
        effect = {name: rule[name] for name in rule if name in _EFFECT_FIELDS}
        picks = {name: rule[name] for name in rule if name not in {*effect, *_COUNTS}}
        counts = [str(rule.get(name, "")) for name in ("seen", "hits")]
        table.add_row(str(rule["id"]), _worded(effect), _worded(picks), *counts)
    console.print(table)


def _worded(fields: dict[str, Any]) -> str:
    words = (name if value is True else f"{name} {value}" for name, value in fields.items())
    return escape(", ".join(words))


def _styled(word: str) -> str:
    return f"[{STYLES.get(word, 'red')}]{word}[/]"
