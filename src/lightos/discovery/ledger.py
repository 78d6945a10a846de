# SPDX-License-Identifier: Apache-2.0
"""Which controllers this daemon made, remembered across its restarts but not the machine's.

A path is written down before its controller is made: a daemon killed in between must find it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightos.discovery import json_file
from lightos.discovery.desired import Cluster, ControllerPath, Endpoint

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Ledger:
    """A set of paths in a file. Raises OSError when the file cannot be written."""

    def __init__(self, path: Path, boot_id_path: Path = _BOOT_ID) -> None:
        self._path = path
        self._boot_id = boot_id_path.read_text().strip()
        # Without it the controllers count as somebody else's: left alone, never cut.
        self._paths: frozenset[ControllerPath] = json_file.load(path, self._parse, frozenset())

    @property
    def paths(self) -> frozenset[ControllerPath]:
        return self._paths

    def add(self, path: ControllerPath) -> None:
        if path not in self._paths:
            self._store(self._paths | {path})

    def discard(self, paths: Iterable[ControllerPath]) -> None:
        remaining = self._paths.difference(paths)
        if remaining != self._paths:
            self._store(remaining)

    def _parse(self, content: Any) -> frozenset[ControllerPath]:
        if content["boot_id"] != self._boot_id:
            return frozenset()
        return frozenset(
            ControllerPath(Cluster(host, subsystem), Endpoint(address, port))
            for host, subsystem, address, port in content["controllers"]
        )

    def _store(self, paths: frozenset[ControllerPath]) -> None:
        content = {
            "boot_id": self._boot_id,
            "controllers": [
                [
                    path.cluster.host_nqn,
                    path.cluster.subsystem_nqn,
                    path.endpoint.address,
                    path.endpoint.port,
                ]
                for path in sorted(paths)
            ],
        }
        json_file.store(self._path, content)
        self._paths = paths
