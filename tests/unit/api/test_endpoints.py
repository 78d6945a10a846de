# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightos.api.endpoints import (
    FIRST_REST_SECONDS,
    LONGEST_REST_SECONDS,
    Endpoints,
    parse_address,
    url_host,
)

THREE = Endpoints.of(["a", "b", "c"])


@pytest.mark.parametrize(
    ("text", "address", "host"),
    [
        ("192.168.67.78", "192.168.67.78", "192.168.67.78"),
        (" 10.0.0.1 ", "10.0.0.1", "10.0.0.1"),
        ("[fd00::1]", "fd00::1", "[fd00::1]"),
        ("FD00:0:0::0001", "fd00::1", "[fd00::1]"),
        ("lightos-1.example.com", "lightos-1.example.com", "lightos-1.example.com"),
        ("3com.example", "3com.example", "3com.example"),
    ],
)
def test_addresses(text: str, address: str, host: str) -> None:
    assert parse_address(text) == address
    assert url_host(address) == host


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "10.0.0.1:443",
        "[::1]:443",
        "10.0.0.256",
        "10.0.0",
        "https://a",
        "a/b",
        "a b",
        "-a",
        "a..b",
        "a@b",
        "x" * 64,
        "é",
        "a\n.b",
    ],
)
def test_bad_addresses(text: str) -> None:
    with pytest.raises(ValueError, match="is not an IP address or host name"):
        parse_address(text)


def test_addresses_are_kept_once_and_in_order() -> None:
    assert Endpoints.of(["b", "a", "[::1]", "b", "::1"]).addresses == ("b", "a", "::1")
    with pytest.raises(ValueError, match="no API address"):
        Endpoints.of([])


def test_calls_stay_with_the_address_that_answered() -> None:
    assert THREE.best(0) == "a"
    assert THREE.after_success("b").best(0) == "b"
    assert THREE.after_success("a") is THREE


def test_a_failed_address_rests_and_the_next_is_asked() -> None:
    once = THREE.after_failure("a", now=10)
    assert once.best(10) == "b"
    twice = once.after_failure("b", now=10)
    assert twice.best(10) == "c"
    assert once.best(10 + FIRST_REST_SECONDS) == "a"


def test_after_a_failover_nobody_returns_to_the_failed_address() -> None:
    moved = THREE.after_failure("a", now=0).after_success("b")
    assert moved.best(1000) == "b"


def test_when_all_rest_the_first_to_wake_is_asked() -> None:
    tired = THREE.after_failure("b", 0).after_failure("c", 0.1).after_failure("a", 0.2)
    assert tired.best(0.5) == "b"
    assert tired.is_resting("b", 0.5)


def test_threads_that_fail_together_count_once() -> None:
    once = THREE.after_failure("a", now=5)
    assert once.after_failure("a", now=5.5) is once


def test_rests_grow_to_their_ceiling_and_an_answer_ends_them() -> None:
    state, now, rests = THREE, 0.0, []
    for _ in range(8):
        state = state.after_failure("a", now)
        rests.append(state.resting["a"].until - now)
        now = state.resting["a"].until
    assert rests == [1, 2, 4, 8, 16, 30, 30, 30]
    assert rests[-1] == LONGEST_REST_SECONDS
    assert state.after_success("a").resting == {}


def test_a_busy_address_gives_way_without_a_rest() -> None:
    assert THREE.after_busy("a").best(0) == "b"
    assert THREE.after_busy("c").best(0) == "a"
    assert THREE.after_busy("a").resting == {}
    assert Endpoints.of(["a"]).after_busy("a").best(0) == "a"


def test_a_busy_address_gives_way_to_one_that_is_well() -> None:
    """Not to one whose rest is over and that has not answered since."""
    failed = THREE.after_failure("b", 0)
    assert failed.after_busy("a").best(100) == "c"
    assert failed.after_failure("c", 0).after_busy("a").best(100) == "b"


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["success", "failure", "busy"]),
        st.sampled_from(THREE.addresses),
        st.floats(0, 10),
    ),
    max_size=30,
)


@given(_STEPS)
def test_an_awake_address_is_always_preferred_to_a_resting_one(
    steps: list[tuple[str, str, float]],
) -> None:
    state, now = THREE, 0.0
    for event, address, passed in steps:
        now += passed
        if event == "success":
            state = state.after_success(address)
        elif event == "failure":
            state = state.after_failure(address, now)
        else:
            state = state.after_busy(address)
        best = state.best(now)
        awake = [name for name in state.addresses if not state.is_resting(name, now)]
        assert best in state.addresses
        assert not awake or best in awake
        assert all(rest.until - now <= LONGEST_REST_SECONDS for rest in state.resting.values())
