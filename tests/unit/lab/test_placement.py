# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightos.lab.placement import (
    PlacementGroup,
    choose_group,
    placement_groups,
    primary_of,
    regrouped,
    successors,
)

A, B, C, D = (UUID(int=number) for number in range(1, 5))


def test_groups_are_the_rotations_for_each_replica_count() -> None:
    assert [(group.group_id, group.node_uuids) for group in placement_groups([A, B, C])] == [
        (1, (A,)),
        (2, (B,)),
        (3, (C,)),
        (4, (A, B)),
        (5, (B, C)),
        (6, (C, A)),
        (7, (A, B, C)),
        (8, (B, C, A)),
        (9, (C, A, B)),
    ]


@given(st.integers(1, 15))
def test_there_are_at_most_three_groups_per_node(nodes: int) -> None:
    groups = placement_groups([UUID(int=number + 1) for number in range(nodes)])
    assert len(groups) == nodes * min(3, nodes)
    assert [group.group_id for group in groups] == list(range(1, len(groups) + 1))
    assert all(len(set(group.node_uuids)) == group.replica_count for group in groups)


def listed(groups: Sequence[PlacementGroup]) -> list[tuple[int, tuple[UUID, ...]]]:
    return [(group.group_id, group.node_uuids) for group in groups]


def test_a_node_that_joins_heads_groups_of_its_own() -> None:
    before = placement_groups([A, B])
    after = regrouped(before, [A, B, C])
    assert listed(after) == [
        *listed(before),
        (5, (C,)),
        (6, (C, A)),
        (7, (A, B, C)),  # three replicas were too many before
        (8, (B, C, A)),
        (9, (C, A, B)),
    ]
    assert successors(before, after) == {}


def test_a_node_that_leaves_is_replaced_in_its_groups_and_heads_none() -> None:
    before = placement_groups([A, B, C, D])
    after = regrouped(before, [A, C, D])
    assert listed(after) == [
        (1, (A,)),
        (3, (C,)),
        (4, (D,)),
        (5, (A, C)),  # was A, B
        (7, (C, D)),
        (8, (D, A)),
        (9, (A, C, D)),  # was A, B, C
        (11, (C, D, A)),
        (12, (D, A, C)),  # was D, A, B
    ]
    assert successors(before, after) == {2: 1, 6: 7, 10: 11}


def test_a_cluster_too_small_for_a_replica_count_has_no_such_group() -> None:
    before = placement_groups([A, B, C])
    after = regrouped(before, [A, C])
    assert listed(after) == [(1, (A,)), (3, (C,)), (4, (A, C)), (6, (C, A))]
    assert successors(before, after) == {2: 1, 5: 6}


def test_free_group_ids_are_used_again() -> None:
    groups = regrouped(placement_groups([A, B, C]), [A, C])
    assert {group.group_id for group in regrouped(groups, [A, C, D])} == set(range(1, 10))


@pytest.mark.parametrize(
    ("serving", "settled", "expected"),
    [
        ({A, B, C}, {A, B, C}, A),
        ({B, C}, {B, C}, B),
        ({C}, {C}, C),
        (set(), set(), None),
        ({A, B, C}, {B, C}, B),  # A came back, hosts may not have
        ({A}, set(), A),  # none is settled, but one serves
        ({D}, {D}, None),
    ],
)
def test_primary(serving: set[UUID], settled: set[UUID], expected: UUID | None) -> None:
    group = placement_groups([A, B, C])[6]
    assert primary_of(group, serving, settled) == expected


@pytest.mark.parametrize(
    ("replicas", "serving", "volumes", "expected"),
    [
        (3, {A, B, C}, {}, (A, B, C)),
        (3, {A, B, C}, {7: 2, 8: 1, 9: 1}, (B, C, A)),
        (2, {A, B}, {4: 9}, (A, B)),  # the only one with both replicas up
        (1, {B}, {2: 5}, (B,)),
        (3, {C}, {}, (C, A, B)),  # the preferred node is up
        (1, set(), {}, None),
        (4, {A, B, C}, {}, None),
    ],
)
def test_choice_of_a_group(
    replicas: int, serving: set[UUID], volumes: dict[int, int], expected: tuple[UUID, ...] | None
) -> None:
    group = choose_group(placement_groups([A, B, C]), replicas, serving, volumes)
    assert (group.node_uuids if group else None) == expected
