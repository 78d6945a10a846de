# SPDX-License-Identifier: Apache-2.0
"""Rules of a fault plan, and which rule a call meets: tables of literals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lightos.api.errors import GrpcCode
from lightos.lab.faults.plan import AddressFaults, FaultPlan
from lightos.lab.faults.rules import (
    EFFECTS,
    AddressEffect,
    BadRule,
    Call,
    CertificateFault,
    Delay,
    End,
    LoseReply,
    PlanDocument,
    RefuseConcurrentSnapshots,
    ReplaceToken,
    Reset,
    Rule,
    StaleEtag,
    Status,
    Stay,
    Swallow,
    parse_plan,
    parse_rule,
)
from lightos.lab.records import SnapshotState, VolumeState
from tests.unit.lab.harness import Harness

ADDRESSES = ("10.0.0.1", "10.0.0.2")
UPDATE = Call("UpdateVolume", "PUT", "10.0.0.1", frozenset({"volume-1", "1111"}))
CREATE = Call("CreateVolume", "POST", "10.0.0.2", frozenset({"volume-2"}))
SNAPSHOT = Call("CreateSnapshot", "POST", "10.0.0.1", frozenset({"snapshot-1"}))
GET = Call("GetVolume", "GET", "10.0.0.1", frozenset({"volume-1"}))


@pytest.mark.parametrize(
    ("document", "rule"),
    [
        (
            {"operation": "UpdateVolume", "status": 503},
            Rule(effect=Status(503), operation="UpdateVolume"),
        ),
        ({"status": 503, "message": "busy"}, Rule(effect=Status(503, "busy"))),
        ({"delay_seconds": 2}, Rule(effect=Delay(2.0))),
        ({"lose_reply": True, "count": 0}, Rule(effect=LoseReply(), count=0)),
        ({"lose_reply": True, "status": 504}, Rule(effect=LoseReply(Status(504)))),
        ({"reset": True, "method": "PUT"}, Rule(effect=Reset(), method="PUT")),
        ({"stale_etag": True, "first": 3}, Rule(effect=StaleEtag(), first=3)),
        ({"stay": "Migrating", "object": "v*"}, Rule(effect=Stay("Migrating"), object_glob="v*")),
        ({"end": "Failed", "probability": 0.5}, Rule(effect=End(), probability=0.5)),
        ({"reset": True, "address": "10.0.0.2"}, Rule(effect=Reset(), address="10.0.0.2")),
        ({"swallow": True, "address": "10.0.0.2"}, Rule(effect=Swallow(), address="10.0.0.2")),
        (
            {"snapshots": "refuse_concurrent", "status": 500, "count": 2},
            Rule(
                effect=RefuseConcurrentSnapshots(
                    Status(500, "another snapshot is being made; try again")
                ),
                operation="CreateSnapshot",
                count=2,
            ),
        ),
        ({"token": "replace"}, Rule(effect=ReplaceToken(), at_once=True)),
        ({"token": "replace", "first": 2}, Rule(effect=ReplaceToken(), first=2)),
    ],
)
def test_a_rule_is_read_and_written(document: dict[str, Any], rule: Rule) -> None:
    assert parse_rule(document, ADDRESSES) == rule
    assert parse_rule(rule.to_json(), ADDRESSES) == rule


@pytest.mark.parametrize("effect", EFFECTS)
def test_the_example_of_each_effect_is_legal(effect: Any) -> None:
    where = {"address": "10.0.0.1"} if issubclass(effect, AddressEffect) else {}
    rule = parse_rule({effect.key: effect.example, **where}, ADDRESSES)
    assert type(rule.effect) is effect
    assert parse_rule(rule.to_json(), ADDRESSES) == rule
    assert rule.effect.to_json()[effect.key] == effect.example


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "must be a JSON object"),
        ({}, "needs one effect: status, delay_seconds, lose_reply"),
        ({"operation": "*", "message": "x"}, "needs one effect"),
        ({"status": 503, "reset": True}, "not status and reset"),
        ({"statsu": 503}, "'statsu' is no field of a rule; effects are status"),
        ({"status": 503, "cuont": 2}, "'cuont' is no field of a rule with status; legal are add"),
        ({"reset": True, "message": "x"}, "'message' is no field of a rule with reset"),
        ({"lose_reply": True, "message": "x"}, "status must be a whole number from 400 to 599"),
        ({"reset": False}, "reset must be true"),
        ({"status": 200}, "status must be a whole number from 400 to 599, not 200"),
        ({"status": "503"}, "not '503'"),
        ({"status": True}, "not True"),
        ({"status": 503, "message": 5}, "message must be a text"),
        ({"delay_seconds": 0}, "delay_seconds must be above 0 and at most 3600, not 0"),
        ({"delay_seconds": float("nan")}, "not nan"),
        ({"stay": "Available"}, "legal are Creating, Deleting, Migrating, Rollback, Updating"),
        ({"end": "Available"}, "end 'Available' is not known; legal are Failed"),
        ({"reset": True, "operation": "Update"}, "operation 'Update' is not known; legal are *, "),
        ({"reset": True, "operation": None}, "operation None is not known"),
        (
            {"stay": "Creating", "operation": "UpdateVolume"},
            "operation UpdateVolume does not go with stay Creating: use CreateSnapshot, Create",
        ),
        ({"stale_etag": True, "operation": "GetVolume"}, "does not go with stale_etag"),
        ({"reset": True, "method": "PATCH"}, "method 'PATCH' is not known; legal are DELETE, GET"),
        ({"swallow": True}, "a rule with swallow needs the address of a node"),
        ({"swallow": True, "address": "10.0.0.9"}, "legal are 10.0.0.1, 10.0.0.2"),
        ({"refuse": True, "address": "10.0.0.1", "count": 1}, "'count' is no field of a rule with"),
        ({"tls": "old", "address": "10.0.0.1"}, "legal are expired, other_name, untrusted"),
        ({"snapshots": "refuse", "status": 503}, "legal are refuse_concurrent"),
        ({"snapshots": "refuse_concurrent", "operation": "GetVolume"}, "use CreateSnapshot"),
        ({"token": "renew"}, "token 'renew' is not known; legal are replace"),
        ({"status": 503, "code": 17}, "code must be a whole number from 1 to 16"),
        ({"reset": True, "address": "10.0.0.9"}, "legal are 10.0.0.1, 10.0.0.2"),
        ({"reset": True, "object": ""}, "object must be a text that is not empty"),
        ({"reset": True, "first": 0}, "first must be a whole number from 1"),
        ({"reset": True, "count": -1}, "count must be a whole number from 0"),
        ({"reset": True, "count": 1.5}, "not 1.5"),
        ({"reset": True, "probability": 1.1}, "probability must be above 0 and at most 1, not 1.1"),
    ],
)
def test_a_bad_rule_is_refused_with_what_is_legal(document: object, said: str) -> None:
    with pytest.raises(BadRule) as refused:
        parse_rule(document, ADDRESSES)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (5, "a plan must be a JSON object"),
        ({"rules": {}}, "rules must be a list"),
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"sed": 1}, "'sed' is no field of a plan; legal are rules, seed"),
        ({"rules": [{"reset": True}, {"reset": 1}]}, "rule 2: reset must be true"),
    ],
)
def test_a_bad_plan_is_refused(document: object, said: str) -> None:
    with pytest.raises(BadRule) as refused:
        parse_plan(document, ADDRESSES)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("rule", "call", "matches"),
    [
        (Rule(effect=Reset()), GET, True),
        (Rule(effect=Reset(), operation="UpdateVolume"), UPDATE, True),
        (Rule(effect=Reset(), operation="UpdateVolume"), GET, False),
        (Rule(effect=Reset(), method="PUT"), UPDATE, True),
        (Rule(effect=Reset(), method="PUT"), GET, False),
        (Rule(effect=Reset(), address="10.0.0.1"), UPDATE, True),
        (Rule(effect=Reset(), address="10.0.0.1"), CREATE, False),
        (Rule(effect=Reset(), object_glob="volume-*"), UPDATE, True),
        (Rule(effect=Reset(), object_glob="111?"), UPDATE, True),
        (Rule(effect=Reset(), object_glob="Volume-1"), UPDATE, False),
        (Rule(effect=StaleEtag()), UPDATE, False),
        (Rule(effect=StaleEtag()), replace(UPDATE, sends_if_match=True), True),
        (Rule(effect=StaleEtag()), replace(GET, sends_if_match=True), False),
        (Rule(effect=Stay("Creating")), CREATE, True),
        (Rule(effect=Stay("Creating")), UPDATE, False),
        (Rule(effect=Stay("Migrating")), UPDATE, True),
        (Rule(effect=End()), GET, False),
        (parse_rule({"snapshots": "refuse_concurrent"}, ()), SNAPSHOT, False),
        (
            parse_rule({"snapshots": "refuse_concurrent"}, ()),
            replace(SNAPSHOT, snapshots_under_way=True),
            True,
        ),
        (parse_rule({"token": "replace"}, ()), GET, False),
        (parse_rule({"token": "replace", "operation": "*"}, ()), GET, True),
        (Rule(effect=Swallow(), address="10.0.0.1"), GET, False),
    ],
)
def test_which_calls_a_rule_matches(rule: Rule, call: Call, matches: bool) -> None:
    assert rule.matches(call) is matches


@pytest.mark.parametrize(
    ("first", "count", "hits"),
    [(1, 1, "x...."), (1, 2, "xx..."), (3, 1, "..x.."), (2, 3, ".xxx."), (4, 0, "...xx")],
)
def test_the_first_call_and_how_many(first: int, count: int, hits: str) -> None:
    plan = FaultPlan()
    planned = plan.add(Rule(effect=Reset(), operation="UpdateVolume", first=first, count=count))
    met = []
    for _ in hits:
        plan.decide(GET)  # another operation does not count
        met.append("x" if plan.decide(UPDATE) is planned else ".")
    assert "".join(met) == hits
    assert (planned.seen, planned.hits) == (len(hits), hits.count("x"))


def test_a_call_meets_the_first_rule_that_wants_it_and_the_others_see_it() -> None:
    plan = FaultPlan()
    first = plan.add(Rule(effect=Status(503), operation="UpdateVolume"))
    second = plan.add(Rule(effect=Reset(), first=2, count=0))
    assert [plan.decide(UPDATE) for _ in range(3)] == [first, second, second]
    assert (first.seen, first.hits) == (3, 1)
    assert (second.seen, second.hits) == (3, 2)


@pytest.mark.parametrize(
    ("rules", "address", "faults"),
    [
        ([], "10.0.0.1", AddressFaults()),
        ([{"swallow": True}], "10.0.0.1", AddressFaults(swallow=True)),
        ([{"swallow": True}], "10.0.0.2", AddressFaults()),
        (
            [{"freeze": True}, {"demote": True}, {"hold": "writes"}],
            "10.0.0.1",
            AddressFaults(freeze=True, demote=True, hold_writes=True),
        ),
        ([{"refuse": True}], "10.0.0.1", AddressFaults(refuse=True)),
        (
            [{"tls": "untrusted"}, {"tls": "expired"}, {"swallow": True}],
            "10.0.0.1",
            AddressFaults(swallow=True, certificate=CertificateFault.UNTRUSTED),
        ),
        ([{"status": 503}], "10.0.0.1", AddressFaults()),
    ],
)
def test_what_happens_to_an_address(
    rules: list[dict[str, Any]], address: str, faults: AddressFaults
) -> None:
    plan = FaultPlan()
    for rule in rules:
        plan.add(parse_rule({"address": "10.0.0.1", **rule}, ADDRESSES))
    assert plan.at_address(address) == faults


def test_one_seed_gives_one_course_of_events() -> None:
    rules = tuple(
        Rule(effect=effect, probability=0.5, count=0) for effect in (Reset(), LoseReply())
    )

    def course(seed: int, rules: tuple[Rule, ...]) -> list[int]:
        plan = FaultPlan(PlanDocument(seed, rules))
        return [met.number if (met := plan.decide(UPDATE)) else 0 for _ in range(64)]

    assert course(7, rules) == course(7, rules)
    assert course(7, rules) != course(8, rules)
    assert set(course(7, rules)) == {0, 1, 2}
    alone = [number == 1 for number in course(7, rules[:1])]
    assert alone == [number == 1 for number in course(7, rules)], "rules do not share draws"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, GrpcCode.INVALID_ARGUMENT),
        (401, GrpcCode.UNAUTHENTICATED),
        (404, GrpcCode.NOT_FOUND),
        (409, GrpcCode.ALREADY_EXISTS),
        (412, GrpcCode.FAILED_PRECONDITION),
        (418, GrpcCode.UNKNOWN),
        (429, GrpcCode.RESOURCE_EXHAUSTED),
        (500, GrpcCode.INTERNAL),
        (501, GrpcCode.UNIMPLEMENTED),
        (503, GrpcCode.UNAVAILABLE),
        (504, GrpcCode.DEADLINE_EXCEEDED),
    ],
)
def test_the_grpc_code_of_a_status(status: int, code: GrpcCode) -> None:
    assert Status(status).code is code


def test_a_held_object_settles_when_it_is_released(lab: Harness) -> None:
    volume = lab.volume()
    lab.cluster.lifecycle.hold(volume.uuid, "Creating")
    lab.cluster.take(lab.cluster.touch(volume.uuid))
    lab.wait(100)
    assert lab.cluster.volumes[volume.uuid].state is VolumeState.CREATING
    lab.cluster.release([volume.uuid])
    lab.wait()
    assert lab.cluster.volumes[volume.uuid].state is VolumeState.AVAILABLE


def test_a_volume_held_in_migrating_goes_back_there_after_an_update(lab: Harness) -> None:
    volume = lab.ready_volume()
    lab.cluster.lifecycle.hold(volume.uuid, "Migrating")
    lab.update(volume.uuid, size_bytes=2 * volume.size_bytes)
    assert lab.cluster.volumes[volume.uuid].state is VolumeState.UPDATING
    lab.wait(100)
    assert lab.cluster.volumes[volume.uuid].state is VolumeState.MIGRATING
    lab.delete_volume(volume.uuid)
    lab.wait()
    assert volume.uuid not in lab.cluster.volumes


def test_a_start_of_the_lab_settles_what_was_held(lab: Harness) -> None:
    volume = lab.ready_volume()
    lab.cluster.lifecycle.hold(volume.uuid, "Migrating")
    lab.update(volume.uuid, labels=[("a", "b")])
    lab.wait()
    lab.restart()
    lab.wait()
    assert lab.cluster.volumes[volume.uuid].state is VolumeState.AVAILABLE


def test_what_is_let_fail_ends_failed_and_goes(lab: Harness) -> None:
    volume = lab.volume()
    lab.cluster.lifecycle.let_fail(volume.uuid)
    other = lab.ready_volume("other")
    assert lab.cluster.volumes[volume.uuid].state is VolumeState.FAILED
    snapshot = lab.snapshot(other)
    lab.cluster.lifecycle.let_fail(snapshot.uuid)
    lab.wait()
    assert lab.cluster.snapshots[snapshot.uuid].state is SnapshotState.FAILED
    lab.wait(100)
    assert snapshot.uuid not in lab.cluster.snapshots
    assert lab.store.uuids() == {other.uuid}
