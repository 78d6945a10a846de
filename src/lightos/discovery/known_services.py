# SPDX-License-Identifier: Apache-2.0
"""The discovery services that each cluster had last, remembered across the machine's restarts.

A discovery file names the services of the day on which its volume was attached. When all nodes
have been replaced since then, none of these answers, and the cluster is found by what is here.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from lightos.discovery import json_file
from lightos.discovery.desired import Cluster, Endpoint
from lightos.discovery.entries import validated_address, validated_port

CLUSTERS_KEPT = 64
"""Those that were heard of last; a host has a few."""


class KnownServices:
    """Services by cluster, in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Without it there are the services that the discovery files name.
        self._services: dict[Cluster, tuple[Endpoint, ...]] = json_file.load(path, _parse, {})
        """The cluster that was heard of last comes first."""

    def of(self, cluster: Cluster) -> tuple[Endpoint, ...]:
        """The services that a cluster had last; none if it was never heard of."""
        return self._services.get(cluster, ())

    def learn(self, cluster: Cluster, services: Iterable[Endpoint]) -> None:
        """Remember these services of a cluster and no others. Raises OSError."""
        news = tuple(sorted(services))
        if news == self.of(cluster):
            return
        older = {each: known for each, known in self._services.items() if each != cluster}
        self._services = dict(islice({cluster: news, **older}.items(), CLUSTERS_KEPT))
        json_file.store(
            self._path,
            [
                {
                    "host_nqn": each.host_nqn,
                    "subsystem_nqn": each.subsystem_nqn,
                    "services": [[service.address, service.port] for service in known],
                }
                for each, known in self._services.items()
            ],
        )


def _parse(content: Any) -> dict[Cluster, tuple[Endpoint, ...]]:
    return {
        Cluster(entry["host_nqn"], entry["subsystem_nqn"]): tuple(
            Endpoint(validated_address(address), validated_port(port))
            for address, port in entry["services"]
        )
        for entry in content
    }
