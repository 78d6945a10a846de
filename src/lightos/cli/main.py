# SPDX-License-Identifier: Apache-2.0
"""`lightos`: the command. Its parts are imported when they are used, so it starts at once."""

from __future__ import annotations

import sys

import click

from lightos.cli.lazy_group import LazyGroup

PARTS = {
    "lab": ("lightos.cli.lab:lab", "A LightOS-compatible cluster on this machine."),
    "discovery-client": (
        "lightos.cli.discovery_client:discovery_client",
        "Connect this host to the clusters that the files in discovery.d name.",
    ),
    "doctor": (
        "lightos.cli.doctor:doctor",
        "Say what is wrong here, and how to put it right; nothing is changed.",
    ),
}


@click.command(cls=LazyGroup, parts=PARTS, context_settings={"help_option_names": ["-h", "--help"]})
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
    except ModuleNotFoundError as error:
        click.echo(
            f"lightos: this needs the Python package {error.name}, which is not installed; "
            "`pip install 'lightos-openstack[lab]'` brings all that the lab needs",
            err=True,
        )
        sys.exit(1)
    except click.Abort:
        sys.exit(130)
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
