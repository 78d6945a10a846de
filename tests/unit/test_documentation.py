# SPDX-License-Identifier: Apache-2.0
"""The documentation builds, and what it tells people to type or to configure exists."""

from __future__ import annotations

import configparser
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import click
import pytest
from cinder.volume import driver as volume_driver

from lightos.cli.main import lightos
from lightos.openstack.cinder.options import lightos_opts
from tests.kernel.test_compatibility import COMBINATIONS, SWITCHES
from tests.nova.test_compatibility import COMBINATIONS as NOVA_COMBINATIONS

ROOT = Path(__file__).parents[2]
PAGES = sorted([*(ROOT / "docs").glob("*.rst"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
COMMAND = re.compile(r"(?:\.venv/bin/|[#$] )(lightos [a-z][^\n`>]*)")
MAKE = re.compile(r"(?:`|^)make ([a-z-]+[a-z])", re.MULTILINE)


def commands() -> list[str]:
    found = {match for page in PAGES for match in COMMAND.findall(page.read_text())}
    return sorted(found)


def test_there_are_commands_to_check() -> None:
    assert len(commands()) >= 5


@pytest.mark.parametrize("command", commands())
def test_a_command_shown_is_one_that_parses(command: str) -> None:
    arguments = shlex.split(command)[1:]
    group: click.Command = lightos
    context = click.Context(lightos)
    while isinstance(group, click.Group):
        name, subcommand, arguments = group.resolve_command(context, arguments)
        assert subcommand is not None, f"no such command: {name}"
        group, context = subcommand, click.Context(subcommand, parent=context, info_name=name)
    group.parse_args(context, arguments)


def test_make_targets_shown_exist() -> None:
    rules = re.findall(r"^([a-z][a-z -]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    known = {target for rule in rules for target in rule.split()}
    pages = [page.read_text() for page in PAGES if page.suffix == ".md"]
    shown = {target for page in pages for target in MAKE.findall(page)}
    assert shown <= known


def test_the_guide_configures_options_that_exist() -> None:
    guide = (ROOT / "docs" / "driver_guide.rst").read_text()
    block = re.search(r"code-block:: ini\n\n((?:   .*\n|\n)+)", guide)
    assert block is not None
    section = configparser.ConfigParser(default_section="")
    section.read_string(textwrap.dedent(block.group(1)))
    known = {option.name for option in (*lightos_opts, *volume_driver.volume_opts)}
    assert set(section["lightos"]) <= known | {"volume_driver"}


def test_the_combinations_shown_are_those_that_are_tested() -> None:
    page = (ROOT / "docs" / "compatibility.rst").read_text()
    combinations, switches, with_nova = (
        tuple(
            row.split("\n     - ")
            for row in re.findall(r"^   \* - (.+(?:\n     - .+)+)", table, re.M)[1:]
        )
        for table in page.split(".. list-table::")[1:]
    )
    assert [tuple(row[:2]) for row in combinations] == list(COMBINATIONS)
    assert [tuple(row[:2]) for row in switches] == list(SWITCHES)
    assert [tuple(row) for row in with_nova] == list(NOVA_COMBINATIONS)


def test_the_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", str(ROOT / "docs")]
    built = subprocess.run([*build, str(tmp_path)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    page = (tmp_path / "driver_guide.html").read_text()
    assert all(option.name in page for option in lightos_opts)
