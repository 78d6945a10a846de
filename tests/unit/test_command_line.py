# SPDX-License-Identifier: Apache-2.0
"""The commands that are imported only when they are called."""

import subprocess
import sys

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


def test_an_unknown_command_is_none() -> None:
    assert lab.lab.get_command(click.Context(lab.lab), "upp") is None


def test_ending_a_lab_loads_no_messages_of_the_api() -> None:
    code = "import sys, lightos.cli.lab_state; print('lightos.api.models.volumes' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
