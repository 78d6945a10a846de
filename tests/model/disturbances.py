# SPDX-License-Identifier: Apache-2.0
"""What can go wrong around one operation, as strategies: rules for the lab's fault plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

_STATUSES = (400, 401, 403, 412, 429, 500, 501, 502, 503, 504)
_EFFECTS: tuple[tuple[str, object], ...] = (
    *(("status", status) for status in _STATUSES),
    ("delay_seconds", 0.05),
    ("lose_reply", True),
    ("reset", True),
    ("stale_etag", True),
    *(("stay", state) for state in ("Creating", "Updating", "Migrating", "Deleting", "Rollback")),
    ("end", "Failed"),
)
_TOKEN = ("token", "replace")
_STOP = ("stop", True)


@dataclass(frozen=True)
class Disturbance:
    """An effect on some of the calls that an operation makes, or on all of one node's address."""

    effect: tuple[str, object]
    first: int = 1
    count: int = 1
    node: int | None = None

    @property
    def stops_node(self) -> bool:
        """Whether it is not the fault plan's: the node is stopped, and started again."""
        return self.effect == _STOP

    @property
    def name(self) -> str:
        return " ".join(map(str, self.effect))

    @property
    def excuses(self) -> bool:
        """Whether the operation may end in an error; a token or a node is not all there is."""
        return self.node is None and self.effect != _TOKEN

    def rule(self, addresses: Sequence[str]) -> Mapping[str, object]:
        """In the form of the lab's fault plan; `addresses` are those of the nodes."""
        effect = dict([self.effect])
        if self.node is not None:
            return {"address": addresses[self.node], **effect}
        return {"operation": "*", "first": self.first, "count": self.count, **effect}

    def __str__(self) -> str:
        if self.node is not None:
            return f"{self.name} at node {self.node + 1}"
        return f"{self.name} from call {self.first} on, {self.count or 'any number of'} times"


_calls = st.sampled_from((1, 1, 2, 2, 3, 3, 4, 5, 6))
_on_calls = st.builds(
    Disturbance,
    effect=st.sampled_from(_EFFECTS),
    first=_calls,
    count=st.sampled_from((1, 1, 1, 2, 4, 0)),
)
_token = st.builds(Disturbance, effect=st.just(_TOKEN), first=_calls)
_node = st.builds(
    Disturbance,
    effect=st.sampled_from((("refuse", True), ("refuse", True), ("swallow", True), _STOP)),
    node=st.integers(0, 1),  # the last node is the tests' own way to the cluster
)
maybe_disturbed: st.SearchStrategy[Disturbance | None] = st.sampled_from(
    (*[st.none()] * 6, *[_on_calls] * 12, _token, _node)
).flatmap(lambda strategy: strategy)
"""None for an operation that nothing disturbs."""
