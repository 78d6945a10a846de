# SPDX-License-Identifier: Apache-2.0
"""Which controllers this daemon made, remembered across its restarts but not the machine's.

A path is written down before its controller is made: a daemon killed in between must find it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path

from lightos.discovery import json_file
from lightos.discovery.desired import Cluster, ControllerPath, Endpoint

LOG = logging.getLogger(__name__)

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Ledger:
    """A set of paths in a file. Raises OSError when the file cannot be written."""

    def __init__(self, path: Path, boot_id_path: Path = _BOOT_ID) -> None:
        self._path = path
        self._boot_id = boot_id_path.read_text().strip()
        self._paths = self._load()

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

    def _load(self) -> frozenset[ControllerPath]:
        try:
            content = json.loads(self._path.read_text())
            if content["boot_id"] != self._boot_id:
                return frozenset()
            return frozenset(
                ControllerPath(Cluster(host, subsystem), Endpoint(address, port))
                for host, subsystem, address, port in content["controllers"]
            )
        except FileNotFoundError:
            return frozenset()
        except (ValueError, KeyError, TypeError) as error:
            # Without it the controllers count as somebody else's: left alone, never cut.
            LOG.warning("%s is damaged (%s); starting a new one", self._path, error)
            return frozenset()

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
