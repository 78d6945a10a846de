# SPDX-License-Identifier: Apache-2.0
"""Any sequence of reservation commands of four hosts, against a small model of its own.

The model keeps a key per host and the set of holders, and knows nothing of the rules' types.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lightos.lab.reservations import rules
from lightos.lab.reservations.rules import Access, Host, Reservation, ReservationCommand
from lightos.nvme_tcp.constants import ReservationType

HOSTS = st.sampled_from("abcd")
KEYS = st.integers(0, 3)
GIVEN_KEYS = st.one_of(st.none(), KEYS)
SLIPS = st.sampled_from([0] * 9 + [1])
"""By how much a host's idea of its own key, or of the type held, is off."""
TYPES = st.integers(1, 6)
PERSISTENCE = st.sampled_from([None, None, False, True])
OK, CONFLICT, INVALID = 0x000, 0x083, 0x002
PREEMPTED, RELEASED, CLEARED = 1, 2, 3


def host(name: str) -> Host:
    return Host(name.encode() * 16, f"nqn.{name}")


class ReservationMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.real = Reservation()
        self.keys: dict[str, int] = {}
        self.holders: set[str] = set()
        self.type = 0
        self.generation = 0
        self.persists = False

    # ---- the model

    def shared(self) -> bool:
        return self.type in (5, 6)

    def give(self, name: str, held: int) -> None:
        self.type = held
        self.holders = set(self.keys) if held in (5, 6) else {name}

    def forget(self, names: set[str]) -> None:
        for name in names:
            self.keys.pop(name, None)
        self.holders -= names
        if not self.holders:
            self.type = 0

    def compare(
        self,
        name: str,
        command: ReservationCommand,
        status: int,
        told: set[tuple[str, int]] | None = None,
        aborted: set[str] | None = None,
    ) -> None:
        decision = rules.decide(self.real, host(name), command)
        assert decision.status == status
        assert {(n.host_id[:1].decode(), n.type) for n in decision.notices} == (told or set())
        assert {host_id[:1].decode() for host_id in decision.aborted} == (aborted or set())
        self.real = decision.reservation

    # ---- commands

    @initialize(keys=st.tuples(*[st.integers(1, 3)] * 4), name=HOSTS, held=TYPES)
    def form_cluster(self, keys: tuple[int, ...], name: str, held: int) -> None:
        for each, key in zip("abcd", keys, strict=True):
            self.register(each, key, None)
        self.acquire(name, 0, held)

    @rule(keys=st.tuples(*[st.integers(1, 3)] * 4), name=HOSTS, held=TYPES)
    @precondition(lambda self: len(self.keys) < 2)
    def form_cluster_again(self, keys: tuple[int, ...], name: str, held: int) -> None:
        self.form_cluster(keys, name, held)

    @rule(name=HOSTS, key=KEYS, persists=PERSISTENCE)
    def register(self, name: str, key: int, persists: bool | None) -> None:
        status = INVALID if key == 0 else OK if self.keys.get(name, key) == key else CONFLICT
        if status == OK:
            self.registered(name, key, persists)
        self.compare(name, rules.Register(key, persists), status)

    @rule(name=HOSTS, key=GIVEN_KEYS, new=KEYS, persists=PERSISTENCE)
    def replace(self, name: str, key: int | None, new: int, persists: bool | None) -> None:
        known = key is None or (name in self.keys and self.keys[name] == key)
        status = INVALID if new == 0 else OK if known else CONFLICT
        if status == OK:
            self.registered(name, new, persists)
        self.compare(name, rules.ReplaceKey(key, new, persists), status)

    def registered(self, name: str, key: int, persists: bool | None) -> None:
        self.keys[name] = key
        if self.shared():
            self.holders.add(name)
        self.counted(persists)

    def counted(self, persists: bool | None = None) -> None:
        self.generation += 1
        if persists is not None:
            self.persists = persists

    @rule(name=HOSTS, key=GIVEN_KEYS, persists=PERSISTENCE)
    def unregister(self, name: str, key: int | None, persists: bool | None) -> None:
        if name not in self.keys or key not in (None, self.keys[name]):
            self.compare(name, rules.Unregister(key, persists), CONFLICT)
            return
        before = self.type
        self.forget({name})
        self.counted(persists)
        ended = before in (3, 4) and self.type == 0
        told = {(other, RELEASED) for other in self.keys} if ended else set()
        self.compare(name, rules.Unregister(key, persists), OK, told)

    @rule(name=HOSTS, slip=SLIPS, held=TYPES)
    def acquire(self, name: str, slip: int, held: int) -> None:
        key = self.keys.get(name, 1) + slip
        status = CONFLICT
        if self.keys.get(name) == key:
            if self.type == 0:
                self.give(name, held)
                status = OK
            elif self.type == held and name in self.holders:
                status = OK
        self.compare(name, rules.Acquire(key, ReservationType(held)), status)

    @rule(name=HOSTS, victim=KEYS, held=TYPES, aborts=st.booleans(), slip=SLIPS)
    def preempt(self, name: str, victim: int, held: int, aborts: bool, slip: int) -> None:
        key = self.keys.get(name, 1) + slip
        command = rules.Preempt(key, victim, ReservationType(held), aborts)
        if self.keys.get(name) != key:
            self.compare(name, command, CONFLICT)
            return
        before = self.type
        gone = {other for other, theirs in self.keys.items() if theirs == victim}
        takes = False
        if victim == 0 and self.shared():
            gone, takes = set(self.keys) - {name}, True
        elif victim == 0 and before:
            self.compare(name, command, INVALID)
            return
        elif before and not self.shared() and self.holders <= gone:
            gone, takes = gone - {name}, True
        elif not gone:
            self.compare(name, command, CONFLICT)
            return
        if takes:
            for other in gone:
                del self.keys[other]
            self.give(name, held)
        else:
            self.forget(gone)
        self.counted()
        told = {(other, PREEMPTED) for other in gone - {name}}
        if takes and before != held:
            told |= {(other, RELEASED) for other in set(self.keys) - {name}}
        self.compare(name, command, OK, told, gone - {name} if aborts else set())

    @rule(name=HOSTS, slip=SLIPS, type_slip=SLIPS)
    def release(self, name: str, slip: int, type_slip: int) -> None:
        key = self.keys.get(name, 1) + slip
        held = (self.type + type_slip) % 6 or 6
        command = rules.Release(key, ReservationType(held))
        if self.keys.get(name) != key:
            self.compare(name, command, CONFLICT)
        elif name not in self.holders:
            self.compare(name, command, OK)
        elif self.type != held:
            self.compare(name, command, INVALID)
        else:
            self.type, self.holders = 0, set()
            told = {(o, RELEASED) for o in self.keys if o != name} if held > 2 else set()
            self.compare(name, command, OK, told)

    @rule(name=HOSTS, slip=SLIPS)
    def clear(self, name: str, slip: int) -> None:
        key = self.keys.get(name, 1) + slip
        if self.keys.get(name) != key:
            self.compare(name, rules.Clear(key), CONFLICT)
            return
        told = {(other, CLEARED) for other in self.keys if other != name}
        self.keys, self.holders, self.type = {}, set(), 0
        self.counted()
        self.compare(name, rules.Clear(key), OK, told)

    @rule(name=HOSTS, persists=st.booleans())
    def set_persistence(self, name: str, persists: bool) -> None:
        self.persists = persists
        self.compare(name, rules.SetPersistence(persists), OK)

    @rule(barred=st.frozensets(HOSTS, max_size=2))
    def change_acl(self, barred: frozenset[str]) -> None:
        gone = set(self.keys) & barred
        before = self.type
        self.forget(gone)
        if gone:
            self.counted()
        decision = rules.leave_out(self.real, lambda nqn: nqn.removeprefix("nqn.") not in barred)
        told = {(other, PREEMPTED) for other in gone}
        if before in (3, 4) and self.type == 0:
            told |= {(other, RELEASED) for other in self.keys}
        assert {(n.host_id[:1].decode(), n.type) for n in decision.notices} == told
        self.real = decision.reservation

    @rule()
    def lose_power(self) -> None:
        if not self.persists:
            self.keys, self.holders, self.type, self.generation = {}, set(), 0, 0
        self.real = rules.after_power_loss(self.real)

    # ---- what both say

    @invariant()
    def both_say_the_same(self) -> None:
        real = self.real
        assert {r.host.host_id[:1].decode(): r.key for r in real.registrants} == self.keys
        assert (real.type or 0) == self.type
        assert (real.generation, real.persists) == (self.generation, self.persists)
        for name in "abcd":
            assert real.holds(host(name).host_id) == (name in self.holders)

    @invariant()
    def nobody_is_kept_out_wrongly(self) -> None:
        for name in "abcd":
            outside = name not in self.holders
            stranger = name not in self.keys
            writes = outside and (self.type in (1, 2) or (self.type > 2 and stranger))
            reads = writes and self.type in (2, 4, 6)
            host_id = host(name).host_id
            assert rules.conflicts(self.real, host_id, Access.WRITE) == writes
            assert rules.conflicts(self.real, host_id, Access.READ) == reads


TestReservations = ReservationMachine.TestCase
TestReservations.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
