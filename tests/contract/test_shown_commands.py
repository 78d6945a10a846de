# SPDX-License-Identifier: Apache-2.0
"""The commands that the pages of the lab and of its faults show, typed one after the other."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.cluster import loopback_addresses
from tests.contract.lab import free_port, lightos
from tests.shown import ROOT, blocks, commands

LAB, FAULTS = (ROOT / "docs" / f"{name}.rst" for name in ("lab", "faults"))
PROGRAM = ".venv/bin/lightos lab "
LAST = (f"{PROGRAM}reset", f"{PROGRAM}down")
"""What takes away that which others are about."""


@pytest.fixture
def state_dir(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "lab"
    lightos("lab", "down", "--state-dir", str(tmp_path / "lab"))


def test_the_commands_of_the_lab_do_what_they_say(state_dir: Path, tmp_path: Path) -> None:
    first, second, third, fourth, fifth = loopback_addresses(5)
    plan = tmp_path / "plan.json"
    (shown_plan,) = blocks(FAULTS, "json")
    plan.write_text(shown_plan)

    def typed(command: str) -> None:
        """With addresses and a port of this test's own, and the name of the newest node."""
        words = shlex.split(command.removeprefix(PROGRAM))
        own = {"127.0.0.2": second, "127.0.0.4": fourth, "127.0.0.5": fifth}
        own |= {"plan.json": str(plan)}
        if "NAME" in words:
            nodes = json.loads((state_dir / "lab.json").read_text())["nodes"]
            own["NAME"] = nodes[-1]["name"]
        words = [own.get(word, word) for word in words]
        if words[0] == "up":
            addresses = ",".join((first, second, third))
            words += ["--addresses", addresses, "--api-port", str(free_port())]
            words += ["--projects", "blue"]
        lightos("lab", *words, "--state-dir", str(state_dir))

    shown = [*commands(LAB), *commands(FAULTS)]
    for command in shown:
        if command not in LAST:
            typed(command)
    described = json.loads((state_dir / "lab.json").read_text())
    assert [node["address"] for node in described["nodes"]] == [first, second, third]
    assert set(LAST) <= set(shown)
    for command in LAST:
        typed(command)
