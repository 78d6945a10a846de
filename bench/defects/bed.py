# SPDX-License-Identifier: Apache-2.0
"""What a scenario works with: one driver in Cinder's volume manager, one lab, plain HTTP to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from bench.defects.evidence import error_of, shortened
from testbed.cinder.volume_manager import VolumeManager
from testbed.cluster import Cluster, allowed, connector
from testbed.faults import Fault, Faults

REQUEST_SECONDS = 1
"""lightos_api_service_timeout: the least that both drivers take."""
OPERATION_SECONDS = 3 * REQUEST_SECONDS + 10
"""What both drivers make of it: the time for one operation."""
OTHER_PROJECT = "other"
"""A project that the lab has beside `default`."""

HOST_A = connector("compute-a", number=1)
HOST_B = connector("compute-b", number=2)

_ERROR = re.compile(r" (?:ERROR|CRITICAL) [\w.]+ (?:\[[^]]*\] )?(.*\S)\s*$", re.MULTILINE)
_WRAPPERS = re.compile(
    r"Bad or unexpected response from the storage volume backend API: |"
    r" from LocationInfo\(.*?\)(?= is)|"
    r"Driver initialize connection failed \(error: |Terminate volume connection failed: "
)


@dataclass
class Bed:
    """The cluster is judged by its lists, which no driver reads and no fault disturbs."""

    incumbent: bool
    lab: dict[str, Any]
    cinder: VolumeManager
    faults: Faults = field(init=False)
    _log_start: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.faults = Faults(self.lab)

    # --- the driver ----------------------------------------------------------------------------

    def start(self, **options: object | None) -> None:
        """A new driver; `options` as in cinder.conf, None for one that is not there."""
        self._log_start = self.log_size()
        defaults = {
            "lightos_api_address": self.address,
            "lightos_api_service_timeout": REQUEST_SECONDS,
            "lightos_default_num_replicas": 2,
        }
        self.cinder.start({**defaults, **options})

    def start_error(self, **options: object | None) -> str:
        """The error that a start ends with, in one line; empty when it succeeds."""
        error = error_of(self.start, **options)
        # Cinder only logs why a driver did not initialise: the last line of a traceback.
        return self.errors_logged().rpartition("\n")[2] if "not initialise" in error else error

    def reset(self) -> None:
        """End what a scenario left of its faults."""
        self.faults.clear()

    def log_size(self) -> int:
        return self.cinder.log_file.stat().st_size if self.cinder.log_file.exists() else 0

    def log_since(self, size: int) -> str:
        with self.cinder.log_file.open("rb") as log:
            log.seek(size)
            return log.read().decode(errors="replace")

    def errors_logged(self) -> str:
        """What was logged as errors since the driver was started, without time and logger."""
        return "\n".join(_ERROR.findall(self.log_since(self._log_start)))

    def token_options(self) -> dict[str, object | None]:
        """How to give this driver a token that may be replaced while it runs."""
        if self.incumbent:
            return {}
        return {"lightos_jwt": None, "lightos_jwt_file": self.lab["jwt_file"]}

    # --- faults --------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        return str(self.lab["api_addresses"][0])

    @property
    def two_addresses(self) -> list[str]:
        return list(self.lab["api_addresses"][:2])

    @property
    def second_node(self) -> tuple[str, str]:
        """Name and address."""
        node = self.lab["nodes"][1]
        return str(node["name"]), str(node["address"])

    @property
    def spare_address(self) -> str:
        """An address of this machine that no node has."""
        return self.second_node[1].rpartition(".")[0] + ".250"

    @contextmanager
    def fault(self, operation: str, *, met: bool = True, **rule: object) -> Iterator[Fault]:
        """Disturb calls; RuntimeError when none was (unless not `met`)."""
        with self.faults.during(operation=operation, **rule) as fault:
            yield fault
            if met and fault.in_force and not fault.hits:
                raise RuntimeError(f"no {operation} call met the fault {rule}")

    def address_in_use(self) -> str:
        """Which of two addresses the driver asks now."""
        one, other = self.two_addresses
        calls = self.faults.watch(address=one)
        self.cinder.create_volume()
        return one if calls.seen else other

    def replace_token(self) -> None:
        """As when a token expires: the old one is refused, the token file holds a new one."""
        self.faults.add(token="replace")  # noqa: S106 - the name of the effect

    # --- the cluster ---------------------------------------------------------------------------

    def volume(self, volume_id: str) -> dict[str, Any] | None:
        """The cluster's volume of a Cinder volume, in whatever state; None when there is none."""
        return self._named("volumes", f"volume-{volume_id}")

    def snapshot(self, name: str) -> dict[str, Any] | None:
        return self._named("snapshots", name)

    def snapshots(self) -> list[dict[str, Any]]:
        return self._all("snapshots")

    def _named(self, kind: str, name: str) -> dict[str, Any] | None:
        return next((found for found in self._all(kind) if found["name"] == name), None)

    def _all(self, kind: str) -> list[dict[str, Any]]:
        cluster = Cluster(self.lab)  # reads the token, which may have been replaced
        return [
            found
            for project in ("default", OTHER_PROJECT)
            for found in cluster.get(f"/projects/{project}/{kind}", showAll="true").get(kind, [])
        ]

    def policy_of(self, volume_id: str) -> str:
        volume = self.volume(volume_id) or {}
        return str(volume.get("qosPolicyName") or volume.get("qosPolicyUUID") or "")

    def host_nqns(self, volume_id: str) -> set[str]:
        volume = self.volume(volume_id)
        return allowed(volume["acl"]) if volume else set()

    def ip_acl(self, volume_id: str) -> set[str]:
        volume = self.volume(volume_id)
        return set(volume["IPAcl"]["values"]) if volume else set()


def outcome(error: str) -> str:
    if not error:
        return "Cinder was told that it is done"
    return f"Cinder was told: {shortened(_WRAPPERS.sub('', error))}"


def state_of(found: dict[str, Any] | None) -> str:
    return str(found["state"]) if found else "gone"
