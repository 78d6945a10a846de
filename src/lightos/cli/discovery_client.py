# SPDX-License-Identifier: Apache-2.0
"""`lightos discovery-client`: the host's discovery client, and what helps to run it."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from uuid import UUID

import click

from lightos.cli import discovery_host
from lightos.cli.discovery_output import as_json, show_json
from lightos.discovery import logs, publish
from lightos.discovery.config import ConfigError, LoadedConfig, load
from lightos.discovery.daemon import StartError, serve
from lightos.discovery.desired import Endpoint
from lightos.discovery.entries import DiscoveryEntry, InvalidEntry, format_file

LOG = logging.getLogger(__name__)

UNIT = "discovery-client.service"
"""The systemd unit, beside the modules of `lightos.discovery`."""


@click.group("discovery-client", invoke_without_command=True)
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="YAML file with the vendor's keys. [default: /etc/discovery-client/discovery-client.yaml "
    "if it exists]",
)
@click.option(
    "--discovery-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to watch, instead of the configuration's clientConfigDir.",
)
@click.pass_context
def discovery_client(
    context: click.Context, config_path: Path | None, discovery_dir: Path | None
) -> None:
    """Connect this host to the clusters that the files in discovery.d name.

    Without a command it is `serve`. Every configuration key can be given in the environment too:
    debug.endpoint is DC_DEBUG_ENDPOINT.
    """
    try:
        loaded = load(config_path, os.environ)
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
    if discovery_dir is not None:
        config = dataclasses.replace(loaded.config, discovery_dir=discovery_dir.absolute())
        loaded = dataclasses.replace(loaded, config=config)
    context.obj = loaded
    if context.invoked_subcommand is None:
        context.invoke(serve_command)


@click.command("serve")
@click.pass_obj
def serve_command(loaded: LoadedConfig) -> None:
    """Run the daemon in the foreground.

    SIGTERM stops it and leaves the kernel's connections up; SIGHUP makes it ask every cluster
    again.
    """
    try:
        logs.set_up(loaded.config)
        for key in loaded.ignored_keys:
            LOG.warning("configuration key %s has no effect here", key)
        serve(loaded.config)
    except (ConfigError, StartError) as error:
        raise click.ClickException(str(error)) from None


@click.command("add-hostnqn")
@click.option("--name", required=True, help="Name of the discovery file.")
@click.option(
    "-a",
    "--addresses",
    required=True,
    multiple=True,
    help="Discovery services, ADDRESS or ADDRESS:PORT, separated by commas. [default port: 8009]",
)
@click.option("-n", "--nqn", required=True, help="NQN of the subsystem that is wanted.")
@click.option("-q", "--hostnqn", help="Host NQN. [default: the one in /etc/nvme/hostnqn]")
@click.option("-I", "--hostid", type=click.UUID, help="Host id to pair with the host NQN.")
@click.option(
    "-l",
    "--ctrl-loss-tmo",
    type=int,
    help="Seconds until a lost controller is given up; -1: never.",
)
@click.option("-t", "--transport", type=click.Choice(["tcp"]), default="tcp", show_default=True)
@as_json
@click.pass_obj
def add_host_nqn(
    loaded: LoadedConfig,
    *,
    name: str,
    addresses: tuple[str, ...],
    nqn: str,
    hostnqn: str | None,
    hostid: UUID | None,
    ctrl_loss_tmo: int | None,
    transport: str,  # noqa: ARG001 - there is only one
    json_wanted: bool,
) -> None:
    """Write a discovery file: from then on the daemon keeps this host connected."""
    folder = loaded.config.discovery_dir
    host_nqn = discovery_host.host_nqn_or_own(hostnqn)
    with _file_errors():
        services = [
            Endpoint.parse(word.strip(), discovery_host.DISCOVERY_PORT)
            for words in addresses
            for word in words.split(",")
        ]
        entries = [
            DiscoveryEntry(each.address, each.port, host_nqn, nqn, hostid, ctrl_loss_tmo)
            for each in services
        ]
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        outcome = publish.publish_as(str(folder), name, format_file(entries))
    _tell(folder / name, outcome.value, json_wanted=json_wanted)


@click.command("remove-hostnqn")
@click.option("-n", "--name", required=True, help="Name of the discovery file.")
@as_json
@click.pass_obj
def remove_host_nqn(loaded: LoadedConfig, *, name: str, json_wanted: bool) -> None:
    """Remove a discovery file: what only it wanted is disconnected, unless it is in use."""
    folder = loaded.config.discovery_dir
    with _file_errors():
        removed = publish.remove_as(str(folder), name)
    _tell(folder / name, "removed" if removed else "absent", json_wanted=json_wanted)


@click.command("systemd-unit")
def systemd_unit() -> None:
    """Print a systemd unit that runs this very command."""
    unit = resources.files("lightos.discovery").joinpath(UNIT).read_text(encoding="utf-8")
    own_path = Path(sys.executable).with_name("lightos")
    unit = unit.replace("ExecStart=lightos ", f"ExecStart={own_path} ")
    installed = (Path(sys.prefix), Path(sys.executable).resolve())
    # systemd.exec(5) lists what each of the two hides.
    if _is_any_below(installed, "/home", "/root", "/run/user"):
        unit = unit.replace("ProtectHome=yes", "ProtectHome=read-only")
    if _is_any_below(installed, "/tmp", "/var/tmp"):  # noqa: S108 - no file is made there
        unit = unit.replace("PrivateTmp=yes", "PrivateTmp=no")
    click.echo(unit, nl=False)


def _is_any_below(paths: Iterable[Path], *folders: str) -> bool:
    return any(path.is_relative_to(folder) for path in paths for folder in folders)


@contextmanager
def _file_errors() -> Iterator[None]:
    try:
        yield
    except (InvalidEntry, ValueError) as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None


def _tell(path: Path, outcome: str, *, json_wanted: bool) -> None:
    if json_wanted:
        show_json({"name": str(path), "outcome": outcome})
    else:
        click.echo(f"{path}: {outcome}")


for command in (
    serve_command,
    add_host_nqn,
    remove_host_nqn,
    discovery_host.discover,
    discovery_host.connect_all,
    discovery_host.list_controllers,
    discovery_host.list_subsystems,
    systemd_unit,
):
    discovery_client.add_command(command)
