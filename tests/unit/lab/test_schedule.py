# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lightos.lab.schedule import Schedule


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.integers(0, 20)), max_size=30),
    st.integers(0, 20),
)
def test_a_schedule_is_a_dict_sorted_by_time(steps: list[tuple[str, int | None]], now: int) -> None:
    schedule: Schedule[str] = Schedule()
    expected: dict[str, int] = {}
    for key, due in steps:
        if due is None:
            schedule.cancel(key)
            expected.pop(key, None)
        else:
            schedule.set(key, due)
            expected[key] = due
    assert schedule.next_due() == min(expected.values(), default=None)
    taken = schedule.pop_due(now)
    assert sorted(taken) == sorted(key for key, due in expected.items() if due <= now)
    assert [expected[key] for key in taken] == sorted(expected[key] for key in taken)
    assert schedule.next_due() == min((d for d in expected.values() if d > now), default=None)
