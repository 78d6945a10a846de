# SPDX-License-Identifier: Apache-2.0
"""The fault plan and the nodes of a running lab, over plain HTTPS."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from testbed.polling import wait_until

REQUEST_TIMEOUT_SECONDS = 60
HELD_SECONDS = 60.0
NEVER = 1 << 62
"""The number of a call that does not come."""


@dataclass(frozen=True)
class Fault:
    """A rule that is in force."""

    faults: Faults
    id: str

    @property
    def hits(self) -> int:
        """How many calls it has met."""
        return int(self._rule["hits"])

    @property
    def seen(self) -> int:
        """How many calls it has picked, whether it met them or not."""
        return int(self._rule["seen"])

    @property
    def in_force(self) -> bool:
        return any(str(rule["id"]) == self.id for rule in self.faults.rules())

    @property
    def _rule(self) -> dict[str, Any]:
        return next(rule for rule in self.faults.rules() if str(rule["id"]) == self.id)


class Faults:
    """Talks to the last node, so that rules for the first one's address do not meet it."""

    def __init__(self, lab: Mapping[str, Any]) -> None:
        self._lab = lab
        self._session = requests.Session()
        self._base = f"https://{lab['api_addresses'][-1]}:{lab['api_port']}/lab/v1"

    def add(self, **rule: object) -> Fault:
        """Put a rule in force, in the form of the lab's fault plan."""
        return Fault(self, str(self._call("POST", "/faults", rule)["id"]))

    def watch(self, **picked: object) -> Fault:
        """Count calls, as `Fault.seen`, and disturb none."""
        return self.add(reset=True, first=NEVER, **picked)

    def rules(self) -> list[dict[str, Any]]:
        return list(self._call("GET", "/faults")["rules"])

    def clear(self, fault: Fault | None = None) -> None:
        """End one rule, or all."""
        self._call("DELETE", f"/faults/{fault.id}" if fault else "/faults")

    @contextmanager
    def during(self, **rule: object) -> Iterator[Fault]:
        """A rule in force for a while."""
        fault = self.add(**rule)
        try:
            yield fault
        finally:
            if fault.in_force:
                self.clear(fault)

    @contextmanager
    def just_before(self, act: Callable[[], object], **picked: object) -> Iterator[None]:
        """Hold a call that comes meanwhile, do something, and let it go on.

        Raises `TimeoutError` when no such call comes, and what `act` raises.
        """

        def act_once_held() -> None:
            wait_until(lambda: held.hits, f"a call of {picked}", HELD_SECONDS, pause=0.01)
            try:
                act()
            finally:
                self.clear(held)

        with (
            self.during(delay_seconds=HELD_SECONDS, **picked) as held,
            ThreadPoolExecutor(1) as beside,
        ):
            acted = beside.submit(act_once_held)
            yield
            acted.result()

    def traffic(self) -> dict[str, Any]:
        """What the lab has counted since its start."""
        return self._call("GET", "/traffic")

    def add_node(self, address: str) -> str:
        """A new node's name."""
        return str(self._call("POST", "/nodes", {"address": address})["name"])

    def remove_node(self, name: str) -> None:
        self._call("DELETE", f"/nodes/{name}")

    def move_node(self, name: str, address: str) -> None:
        """Give a node another address."""
        self._call("PUT", f"/nodes/{name}", {"address": address})

    def _call(
        self, method: str, path: str, body: Mapping[str, object] | None = None
    ) -> dict[str, Any]:
        token = Path(self._lab["jwt_file"]).read_text().strip()
        reply = self._session.request(
            method,
            f"{self._base}{path}",
            json=body,
            headers={"Authorization": f"Bearer {token}"},
            verify=self._lab["ca_file"],
            timeout=REQUEST_TIMEOUT_SECONDS,
        )
        if not reply.ok:
            raise RuntimeError(f"{method} {path} {body}: {reply.status_code} {reply.text}")
        return dict(reply.json()) if reply.content else {}
