# SPDX-License-Identifier: Apache-2.0
"""Which rule a call meets: pure, and the same for the same plan and the same calls."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from lightos.lab.faults.rules import (
    AddressEffect,
    BadCertificate,
    Call,
    CertificateFault,
    Demote,
    Freeze,
    Hold,
    PlanDocument,
    RefuseConnections,
    Rule,
    Swallow,
)


class PlannedRule:
    """A rule in a plan: `seen` calls matched it, and it had its effect on `hits` of them."""

    def __init__(self, number: int, rule: Rule, seed: int) -> None:
        self.number = number
        self.rule = rule
        self.seen = self.hits = int(rule.at_once)
        # Its own generator: what other rules draw does not change what this one does.
        self._random = random.Random(f"{seed}:{number}")  # noqa: S311 - faults, not secrets

    def meets(self, call: Call) -> bool:
        """Count a call, and say whether the effect happens to it."""
        if not self.rule.matches(call):
            return False
        self.seen += 1
        spent = 0 < self.rule.count <= self.hits
        if spent or self.seen < self.rule.first:
            return False
        if self.rule.probability < 1 and self._random.random() >= self.rule.probability:
            return False
        self.hits += 1
        return True

    def to_json(self) -> dict[str, Any]:
        document = {"id": self.number, **self.rule.to_json()}
        if isinstance(self.rule.effect, AddressEffect):
            return document
        return {**document, "seen": self.seen, "hits": self.hits}


@dataclass(frozen=True)
class AddressFaults:
    """What happens to one address as a whole."""

    swallow: bool = False
    freeze: bool = False
    demote: bool = False
    hold_writes: bool = False
    refuse: bool = False
    certificate: CertificateFault | None = None


class FaultPlan:
    """Rules in order. A call meets at most one: the first that wants it."""

    def __init__(self, document: PlanDocument | None = None) -> None:
        document = document or PlanDocument()
        self.seed = document.seed
        self.rules: dict[int, PlannedRule] = {}
        self._last_number = 0
        for rule in document.rules:
            self.add(rule)

    def add(self, rule: Rule) -> PlannedRule:
        self._last_number += 1
        planned = PlannedRule(self._last_number, rule, self.seed)
        self.rules[planned.number] = planned
        return planned

    def decide(self, call: Call) -> PlannedRule | None:
        """The rule that a call meets; a rule behind it still counts the call as seen."""
        met: PlannedRule | None = None
        for planned in self.rules.values():
            if met is None:
                met = planned if planned.meets(call) else None
            elif planned.rule.matches(call):
                planned.seen += 1
        return met

    def at_address(self, address: str) -> AddressFaults:
        """The rules for a whole address together; of two certificates the first counts."""
        effects = [p.rule.effect for p in self.rules.values() if p.rule.address == address]
        certificates = [e.fault for e in effects if isinstance(e, BadCertificate)]
        return AddressFaults(
            swallow=Swallow() in effects,
            freeze=Freeze() in effects,
            demote=Demote() in effects,
            hold_writes=Hold() in effects,
            refuse=RefuseConnections() in effects,
            certificate=next(iter(certificates), None),
        )

    def to_json(self) -> dict[str, Any]:
        return {"seed": self.seed, "rules": [rule.to_json() for rule in self.rules.values()]}
