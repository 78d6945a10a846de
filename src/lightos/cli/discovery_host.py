# SPDX-License-Identifier: Apache-2.0
"""The commands of `lightos discovery-client` that ask discovery services and the kernel."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from uuid import UUID

import click

from lightos.cli.discovery_output import (
    Row,
    as_json,
    controller_row,
    namespace_row,
    show,
    show_json,
    show_subsystem,
)
from lightos.discovery import kernel
from lightos.discovery.config import Config, LoadedConfig
from lightos.discovery.controller import SessionError, SessionSettings
from lightos.discovery.controller import discover as read_log
from lightos.discovery.desired import Cluster, ControllerPath, Endpoint, Record, RecordKind
from lightos.discovery.entries import InvalidEntry, validated_address, validated_nqn
from lightos.discovery.ledger import Ledger
from lightos.discovery.reconcile import KernelController
from lightos.discovery.subsystems import read_subsystems
from lightos.nvme_tcp.constants import DISCOVERY_NQN

Command = TypeVar("Command", bound=Callable[..., Any])

DISCOVERY_PORT = 8009
_CONNECTS_AT_ONCE = 16

ctrl_loss_option = click.option(
    "-l",
    "--ctrl-loss-tmo",
    type=click.IntRange(-1),
    help="Seconds until a lost controller is given up; -1: never.",
)

_SERVICE_OPTIONS = (
    click.option("-a", "--traddr", required=True, help="Address of a discovery service."),
    click.option(
        "-s",
        "--trsvcid",
        type=click.IntRange(1, 65535),
        default=DISCOVERY_PORT,
        show_default=True,
        help="Its port.",
    ),
    click.option("-q", "--hostnqn", help="Host NQN. [default: the one in /etc/nvme/hostnqn]"),
    click.option("-I", "--hostid", type=click.UUID, help="Host id to pair with the host NQN."),
    click.option("-t", "--transport", type=click.Choice(["tcp"]), default="tcp", show_default=True),
)


def _service_options(command: Command) -> Command:
    for option in reversed(_SERVICE_OPTIONS):
        command = option(command)
    return command


@click.command("discover")
@_service_options
@as_json
@click.pass_obj
def discover(
    loaded: LoadedConfig,
    *,
    traddr: str,
    trsvcid: int,
    hostnqn: str | None,
    hostid: UUID | None,
    transport: str,  # noqa: ARG001 - there is only one
    json_wanted: bool,
) -> None:
    """Print the discovery log that a service has for this host."""
    settings = _identity(loaded.config, hostnqn, hostid)
    rows = [
        {
            "subtype": record.kind.value,
            "traddr": record.endpoint.address,
            "trsvcid": record.endpoint.port,
            "subsysnqn": record.subsystem_nqn,
        }
        for record in _log_of(traddr, trsvcid, settings)
    ]
    if json_wanted:
        show_json(rows)
    else:
        show(rows, ("subtype", "traddr", "trsvcid", "subsysnqn"), nothing="The log is empty.")


@click.command("connect-all")
@_service_options
@click.option("-n", "--nqn", help="Connect to this subsystem only.")
@click.option("-m", "--max-queues", type=click.IntRange(0), help="I/O queues; 0: one per CPU.")
@click.option("-k", "--kato", type=click.IntRange(0), help="Keep-alive time-out in seconds.")
@ctrl_loss_option
@as_json
@click.pass_obj
def connect_all(
    loaded: LoadedConfig,
    *,
    traddr: str,
    trsvcid: int,
    hostnqn: str | None,
    hostid: UUID | None,
    transport: str,  # noqa: ARG001 - there is only one
    nqn: str | None,
    max_queues: int | None,
    kato: int | None,
    ctrl_loss_tmo: int | None,
    json_wanted: bool,
) -> None:
    """Connect to every I/O controller that a service lists, once.

    The daemon adopts them and never disconnects them. What is not given here is taken from the
    configuration. Ends with 1 when a connect failed.
    """
    settings = _identity(loaded.config, hostnqn, hostid)
    config = loaded.config
    if max_queues is not None:
        config = dataclasses.replace(config, io_queue_count=max_queues)
    if kato is not None:
        config = dataclasses.replace(config, keep_alive_timeout_seconds=kato)
    options = config.connect_options(ctrl_loss_tmo)

    def connect(record: Record) -> Row:
        path = ControllerPath(Cluster(settings.host_nqn, record.subsystem_nqn), record.endpoint)
        return _connect(path, settings.host_id, options)

    wanted = [
        record
        for record in _log_of(traddr, trsvcid, settings)
        if record.kind is RecordKind.IO and nqn in (None, record.subsystem_nqn)
    ]
    with ThreadPoolExecutor(_CONNECTS_AT_ONCE) as pool:
        rows = list(pool.map(connect, wanted))
    if json_wanted:
        show_json(rows)
    else:
        columns = ("traddr", "trsvcid", "subsysnqn", "controller", "outcome")
        show(rows, columns, nothing="The service lists no I/O controller for this host.")
    if not all(row["controller"] for row in rows):
        raise SystemExit(1)


def _connect(path: ControllerPath, host_id: UUID, options: kernel.ConnectOptions) -> Row:
    name = None
    try:
        name = kernel.connect(path, host_id, options)
        outcome = "connected"
    except kernel.AlreadyConnected:
        name = next((c.name for c in kernel.read_controllers() if c.path == path), None)
        outcome = "already connected"
    except (kernel.KernelError, OSError) as error:
        outcome = str(error)
    return {
        "traddr": path.endpoint.address,
        "trsvcid": path.endpoint.port,
        "subsysnqn": path.cluster.subsystem_nqn,
        "controller": name,
        "outcome": outcome,
    }


@click.command("list")
@click.argument("what", type=click.Choice(["ctrl"]), default="ctrl")
@click.option("-d", "--discovery", is_flag=True, help="Only discovery controllers.")
@as_json
@click.pass_obj
def list_controllers(
    loaded: LoadedConfig,
    *,
    what: str,  # noqa: ARG001 - as the vendor's command has it
    discovery: bool,
    json_wanted: bool,
) -> None:
    """List the NVMe/TCP controllers of this host, and who made them."""
    rows = _controller_rows(
        loaded.config,
        [
            controller
            for controller in kernel.read_controllers()
            if not discovery or controller.path.cluster.subsystem_nqn == DISCOVERY_NQN
        ],
    )
    if json_wanted:
        show_json(rows)
    else:
        columns = ("controller", "state", "traddr", "trsvcid", "subsysnqn", "hostnqn", "made_here")
        show(rows, columns, nothing="This host has no NVMe/TCP controller.")


@click.command("list-subsys")
@as_json
@click.pass_obj
def list_subsystems(loaded: LoadedConfig, *, json_wanted: bool) -> None:
    """List the NVMe/TCP subsystems of this host with their paths, namespaces and ANA states."""
    subsystems = read_subsystems()
    rows = [_controller_rows(loaded.config, subsystem.controllers) for subsystem in subsystems]
    if json_wanted:
        show_json(
            [
                {
                    "name": subsystem.name,
                    "subsysnqn": subsystem.nqn,
                    "controllers": controllers,
                    "namespaces": [namespace_row(each) for each in subsystem.namespaces],
                }
                for subsystem, controllers in zip(subsystems, rows, strict=True)
            ]
        )
    elif subsystems:
        for subsystem, controllers in zip(subsystems, rows, strict=True):
            show_subsystem(subsystem, controllers)
    else:
        click.echo("This host has no NVMe/TCP subsystem.")


def _controller_rows(config: Config, controllers: Iterable[KernelController]) -> list[Row]:
    made_here = Ledger(config.ledger_path).paths
    return [controller_row(each, made_here=each.path in made_here) for each in controllers]


def host_nqn_or_own(given: str | None) -> str:
    """The host NQN that was given, else the machine's own."""
    try:
        if given is not None:
            return validated_nqn(given, "host NQN")
        own = kernel.read_host_nqn()
        if own is None:
            raise click.ClickException("/etc/nvme/hostnqn holds no host NQN: give one with -q")
        return validated_nqn(own, "host NQN of /etc/nvme/hostnqn")
    except InvalidEntry as error:
        raise click.ClickException(str(error)) from None


def _identity(config: Config, host_nqn: str | None, host_id: UUID | None) -> SessionSettings:
    name = host_nqn_or_own(host_nqn)
    return SessionSettings(name, kernel.choose_host_id(name, host_id, config.host_id_path))


def _log_of(address: str, port: int, settings: SessionSettings) -> tuple[Record, ...]:
    try:
        endpoint = Endpoint(validated_address(address), port)
        return asyncio.run(read_log(endpoint, settings))
    except InvalidEntry as error:
        raise click.ClickException(str(error)) from None
    except SessionError as error:
        raise click.ClickException(f"discovery service {endpoint}: {error}") from None
