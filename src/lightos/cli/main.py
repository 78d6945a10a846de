# SPDX-License-Identifier: Apache-2.0
"""`lightos`: the command. Its parts are imported when they are used, so it starts at once."""

from __future__ import annotations

import importlib
import sys

import click

PARTS = {
    "lab": ("lightos.cli.lab:lab", "A LightOS-compatible cluster on this machine."),
    "discovery-client": (
        "lightos.cli.discovery_client:discovery_client",
        "Connect this host to every LightOS cluster it has volumes on.",
    ),
    "doctor": ("lightos.cli.doctor:doctor", "Say what is wrong here, and how to put it right."),
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(PARTS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in PARTS:
            return None
        module, _, attribute = PARTS[cmd_name][0].partition(":")
        try:
            command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as cause:
            raise click.ClickException(
                f"`lightos {cmd_name}` needs the package {cause.name}, which is not installed: "
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
            formatter.write_dl([(name, text) for name, (_, text) in PARTS.items()])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lightos-openstack")
def lightos() -> None:
    """LightOS storage for OpenStack: host side, lab cluster and checks."""


def main() -> None:
    """Run the command; whatever is wrong with its input is one line on stderr."""
    try:
        status = lightos.main(prog_name="lightos", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "lightos"
        click.echo(f"{path}: {error.format_message()} See `{path} --help`.", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        click.echo(f"lightos: {error.format_message()}", err=True)
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
