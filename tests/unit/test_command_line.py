# SPDX-License-Identifier: Apache-2.0
"""The commands that are imported only when they are called."""

import subprocess
import sys
from pathlib import Path

import click
import pytest

from lightos.cli import lab, main


@pytest.mark.parametrize("group", [main.lightos, lab.lab], ids=["lightos", "lightos lab"])
def test_a_command_says_of_itself_what_its_group_says(group: click.Group) -> None:
    context = click.Context(group)
    formatter = click.HelpFormatter(width=200)
    group.format_commands(context, formatter)
    listed = formatter.getvalue()
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        assert command.help is not None
        assert f"{name} " in listed
        assert command.help.splitlines()[0] in listed


def lightos(before: str, *words: str) -> subprocess.CompletedProcess[str]:
    """The command, after some Python in the same process."""
    code = f"import sys; {before}; from lightos.cli.main import main; main()"
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_an_unknown_command_gets_a_near_one_proposed() -> None:
    done = lightos("pass", "lab", "statsu")
    assert done.returncode == 2
    assert "lightos lab: No such command 'statsu'. Did you mean 'status'?" in done.stderr


def test_a_package_that_is_not_installed_is_named(tmp_path: Path) -> None:
    done = lightos("sys.modules['jwt'] = None", "lab", "up", "--state-dir", str(tmp_path / "lab"))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "needs the Python package jwt" in line
    assert "lightos-openstack[lab]" in line


@pytest.mark.parametrize("module", ["lab_state", "lab_up"])
def test_the_whole_api_is_not_loaded_for_a_command_that_does_not_call_it(module: str) -> None:
    code = f"import sys, lightos.cli.{module}; print('lightos.api.routes' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
