# SPDX-License-Identifier: Apache-2.0
"""Who wants to know what requests are made, and what came of them."""

from __future__ import annotations

UNREACHABLE = "unreachable"
"""Outcome of a request that did not reach the address."""
REPLY_LOST = "reply lost"
"""Outcome of one that may have reached it, and had no whole reply."""


class Observer:
    """Does nothing of what it is told; one that wants to know overrides this.

    Its methods are called from any thread, beside the requests themselves: they must return at
    once, and not raise. Neither the token nor anything else of a request is told.
    """

    def request_ended(self, operation: str, address: str, outcome: str, seconds: float) -> None:
        """One request to one address. `outcome` is its HTTP status, or one of those above."""

    def asked_again(self, operation: str, after: str) -> None:
        """A call sends a further request, after one with this outcome."""
