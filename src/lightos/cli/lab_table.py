# SPDX-License-Identifier: Apache-2.0
"""What `lightos lab status` prints for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from lightos.api import models

STYLES = {"Active": "green", "Activating": "yellow", "OK": "green", "Warning": "yellow"}


def print_status(
    description: dict[str, Any], nodes: Sequence[models.Node], cluster: models.Cluster
) -> None:
    """Print one table of nodes, and the cluster in a few lines."""
    console = Console()
    table = Table("Node", "Address", "State", "UUID")
    addresses = {node["uuid"]: node["address"] for node in description["nodes"]}
    for node in nodes:
        table.add_row(node.name, addresses[node.uuid], _styled(node.state.wire_name), node.uuid)
    console.print(table)
    health = cluster.health or models.ClusterHealth()
    statistics = cluster.statistics or models.ClusterStatistics()
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


def _styled(word: str) -> str:
    return f"[{STYLES.get(word, 'red')}]{word}[/]"
