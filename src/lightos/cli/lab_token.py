# SPDX-License-Identifier: Apache-2.0
"""`lightos lab token` and `renew-tokens`: API tokens, as a cluster's administrator makes them."""

from __future__ import annotations

from datetime import timedelta

import click

from lightos.cli.lab_folder import one_line_errors, running, state_dir
from lightos.lab.errors import LabError
from lightos.lab.state_folder import StateFolder

LONGEST_TOKEN_SECONDS = 100 * 365 * 86400


@click.command()
@state_dir
@click.option("--project", default="system", show_default=True, help="Whose credential signs it.")
@click.option(
    "--role",
    "roles",
    multiple=True,
    metavar="[PROJECT:]ROLE",
    help="cluster-admin (of system), admin or viewer; may be repeated.  "
    "[default: cluster-admin for system, else admin]",
)
@click.option(
    "--valid-seconds",
    type=click.IntRange(-LONGEST_TOKEN_SECONDS, LONGEST_TOKEN_SECONDS),
    default=86400,
    show_default=True,
    help="Until it expires; below 0 it has expired already.",
)
@click.option("--subject", default="lab", show_default=True, help="Who it is for.")
def token(
    folder: StateFolder, project: str, roles: tuple[str, ...], valid_seconds: int, subject: str
) -> None:
    """Print a new API token, for a project and roles of your choice."""
    from lightos.lab.auth import Authority, check_roles, default_role  # noqa: PLC0415
    from lightos.lab.process import now  # noqa: PLC0415
    from lightos.lab.tokens import key_file  # noqa: PLC0415

    with one_line_errors():
        key = key_file(folder.tokens)
        if not key.exists():
            raise LabError(f"{folder.path} holds no lab; start one with `lightos lab up`")
        named = [role if ":" in role else f"{project}:{role}" for role in roles]
        wanted = check_roles(project, named or [f"{project}:{default_role(project)}"])
        _check_projects(folder, {project, *(name for name, _ in wanted)})
        valid = timedelta(seconds=valid_seconds)
        authority = Authority.at(key)
        click.echo(authority.issue(project, wanted, now=now(), valid=valid, subject=subject))


def _check_projects(folder: StateFolder, names: set[str]) -> None:
    """LabError for a project that a running lab does not have; one that is down cannot say."""
    from lightos.lab.control import ControlClient  # noqa: PLC0415
    from lightos.lab.names import SYSTEM  # noqa: PLC0415

    if not folder.running_pid():
        return
    with ControlClient(folder) as control:
        known = {SYSTEM, *control.projects()}
    if unknown := names - known:
        raise LabError(
            f"there is no project {min(unknown)}; projects are {', '.join(sorted(known))}"
        )


@click.command("renew-tokens")
@state_dir
def renew_tokens(folder: StateFolder) -> None:
    """Write new tokens to the token files; those issued before stay good.

    To have those refused, too: `lightos lab fault add --token replace`.
    """
    with running(folder) as control:
        control.ask("POST", "tokens/renew")
    click.echo(f"The tokens in {folder.tokens} are new.")
