# SPDX-License-Identifier: Apache-2.0
"""`lightos lab seed`: fill a cluster from a YAML file."""

from __future__ import annotations

from pathlib import Path

import click

from lightos.cli.lab_folder import one_line_errors, state_dir
from lightos.lab.state_folder import StateFolder

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
def seed(
    *,
    file: Path,
    folder: StateFolder,
    cluster: tuple[str, ...],
    api_port: int,
    jwt_file: Path | None,
    ca_file: str | None,
) -> None:
    """Make the projects, QoS policies, volumes and snapshots of FILE, if they are not there yet."""
    from lightos.api.client import LightOSClient  # noqa: PLC0415
    from lightos.api.errors import LightOSError  # noqa: PLC0415
    from lightos.seed.apply import Seeding  # noqa: PLC0415
    from lightos.seed.document import SeedError, parse  # noqa: PLC0415

    if cluster and jwt_file is None:
        raise click.UsageError("--cluster needs --jwt-file.")
    if not cluster and (jwt_file or ca_file):
        raise click.UsageError("--jwt-file and --ca-file go with --cluster.")
    with one_line_errors():
        try:
            wanted = parse(file.read_text(), str(file))
            if not cluster:
                lab = folder.require_running()
                cluster, api_port = tuple(lab["api_addresses"]), lab["api_port"]
                jwt_file, ca_file = Path(lab["jwt_file"]), lab["ca_file"]
            assert jwt_file is not None
            token = jwt_file.read_text().strip()
            client = LightOSClient.connect(cluster, api_port, token, verify=ca_file or True)
            try:
                Seeding(client, wanted, client.deadline(SECONDS), click.echo).run()
            finally:
                client.close()
        except (SeedError, LightOSError, UnicodeDecodeError) as error:
            raise click.ClickException(str(error)) from error
    click.echo(f"All of {file} is there.")
