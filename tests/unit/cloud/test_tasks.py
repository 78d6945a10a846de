# SPDX-License-Identifier: Apache-2.0
"""Tasks run side by side, in the order that they need, and end together when one fails."""

from __future__ import annotations

import threading

import pytest

from testbed.cloud.tasks import Silent, Task, run_all

SECONDS = 10.0


class Recorder(Silent):
    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def begun(self, title: str) -> None:
        self.events.append(("begun", title))

    def done(self, title: str, seconds: float, evidence: str) -> None:
        self.events.append(("done", f"{title}: {evidence}"))

    def failed(self, title: str, seconds: float) -> None:
        self.events.append(("failed", title))


def nothing() -> None:
    """What there is to give up."""


def test_a_task_starts_when_what_it_needs_has_ended() -> None:
    order: list[str] = []
    tasks = [
        Task("roof", lambda: order.append("roof"), after=("walls", "beams")),
        Task("walls", lambda: order.append("walls"), after=("floor",)),
        Task("beams", lambda: order.append("beams")),
        Task("floor", lambda: order.append("floor")),
    ]
    run_all(tasks, Silent(), nothing)
    assert order[-1] == "roof"
    assert order.index("floor") < order.index("walls")


def test_tasks_that_need_nothing_run_at_the_same_time() -> None:
    meeting = threading.Barrier(2)
    tasks = [Task(name, lambda: meeting.wait(SECONDS) and None) for name in ("one", "other")]
    run_all(tasks, Silent(), nothing)
    assert not meeting.broken


def test_progress_is_told_what_was_seen() -> None:
    progress = Recorder()
    run_all([Task("count", lambda: "3 nodes")], progress, nothing)
    assert progress.events == [("begun", "count"), ("done", "count: 3 nodes")]


def test_a_failure_gives_up_the_rest_and_is_raised() -> None:
    unwanted = threading.Event()
    gave_up: list[bool] = []
    progress = Recorder()

    def fail() -> None:
        raise OSError("no space")

    tasks = [
        Task("fails", fail),
        Task("runs", lambda: gave_up.append(unwanted.wait(SECONDS))),
        Task("never starts", lambda: gave_up.append(False), after=("runs",)),
    ]
    with pytest.raises(OSError, match="no space"):
        run_all(tasks, progress, unwanted.set)
    assert gave_up == [True]
    assert ("failed", "fails") in progress.events


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        ([Task("a", nothing, after=("b",))], r"\['b'\], which is no task"),
        (
            [Task("a", nothing, after=("b",)), Task("b", nothing, after=("a",))],
            r"each other: \['a', 'b'\]",
        ),
    ],
)
def test_tasks_that_can_never_start_are_refused(tasks: list[Task], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        run_all(tasks, Silent(), nothing)
