# SPDX-License-Identifier: Apache-2.0
"""`lightos lab seed`: fill a cluster from a YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lightos.cli.lab_folder import one_line_errors, state_dir
from lightos.lab.state_folder import StateFolder

if TYPE_CHECKING:
    from lightos.api.client import LightOSClient

SECONDS = 300.0


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@state_dir
@click.option(
    "--cluster",
    metavar="ADDRESS",
    multiple=True,
    help="Fill this cluster, which need not be a lab, and not the lab of the state folder; "
    "may be repeated, with an address of each node.",
)
@click.option("--api-port", type=click.IntRange(1, 65535), default=443, show_default=True)
@click.option(
    "--jwt-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="With --cluster: a token with the role system:cluster-admin.",
)
@click.option(
    "--ca-file",
    type=click.Path(exists=True, dir_okay=False),
    help="With --cluster: who signs its certificates.  [default: those the machine trusts]",
)
@click.option(
    "--change",
    is_flag=True,
    help="With --cluster: bring objects that exist to what FILE gives, so that hosts which an ACL "
    "in FILE does not name lose their volume. Without it, a difference is an error.",
)
def seed(
    *,
    file: Path,
    folder: StateFolder,
    cluster: tuple[str, ...],
    api_port: int,
    jwt_file: Path | None,
    ca_file: str | None,
    change: bool,
) -> None:
    """Make the projects, QoS policies, volumes and snapshots of FILE, unless they are there.

    In a lab, those that are there are changed to what FILE gives: size, ACL, IP ACL, policy and
    labels of volumes, limits of policies, default policies of projects. In another cluster they are
    changed only with --change. Nothing is deleted.
    """
    from lightos.api.errors import LightOSError  # noqa: PLC0415
    from lightos.seed.apply import Seeding  # noqa: PLC0415
    from lightos.seed.document import SeedError, parse  # noqa: PLC0415

    if cluster and jwt_file is None:
        raise click.UsageError("--cluster needs --jwt-file.")
    if not cluster and (jwt_file or ca_file or change):
        raise click.UsageError("--jwt-file, --ca-file and --change go with --cluster.")
    with one_line_errors():
        try:
            wanted = parse(file.read_text(), str(file))
            if jwt_file is None:
                lab = folder.require_running()
                cluster, api_port = tuple(lab["api_addresses"]), lab["api_port"]
                jwt_file, ca_file, change = Path(lab["jwt_file"]), lab["ca_file"], True
            client = _client(cluster, api_port, jwt_file, ca_file)
            try:
                deadline = client.deadline(SECONDS)
                Seeding(client, wanted, deadline, click.echo, change=change).run()
            finally:
                client.close()
        except (SeedError, LightOSError, UnicodeDecodeError) as error:
            raise click.ClickException(str(error)) from error
    click.echo(f"All of {file} is there.")


def _client(
    addresses: tuple[str, ...], port: int, jwt_file: Path, ca_file: str | None
) -> LightOSClient:
    from lightos.api.client import LightOSClient  # noqa: PLC0415
    from lightos.api.credentials import TokenFile  # noqa: PLC0415

    try:
        token = TokenFile(jwt_file, "--jwt-file")
        return LightOSClient.connect(addresses, port, token, verify=ca_file or True)
    except ValueError as error:  # TokenUnusable is one
        raise click.UsageError(f"{error}.") from error
