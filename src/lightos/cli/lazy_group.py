# SPDX-License-Identifier: Apache-2.0
"""A command of commands that imports one of them only when it is called."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click


class LazyGroup(click.Group):
    """A group that knows its commands by name: where each is, `module:attribute`, and its line."""

    def __init__(self, *, parts: Mapping[str, tuple[str, str]], **rest: Any) -> None:
        super().__init__(**rest)
        self._parts = parts

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self._parts)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._parts:
            return None
        module, _, attribute = self._parts[cmd_name][0].partition(":")
        try:
            command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as cause:
            path = f"{ctx.command_path} {cmd_name}"
            raise click.ClickException(
                f"`{path}` needs the package {cause.name}, which is not installed: "
                "pip install 'lightos-openstack[lab]'"
            ) from cause
        assert isinstance(command, click.Command)
        return command

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002
        formatter: click.HelpFormatter,
    ) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self._parts.items()])
