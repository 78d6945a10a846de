# SPDX-License-Identifier: Apache-2.0
"""`lightos lab up`: start a lab cluster, or resume one, here or in the background."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import click

from lightos.cli.lab_folder import is_default_folder, one_line_errors, page_url, state_dir
from lightos.lab.addresses import address_violation
from lightos.lab.errors import LabError
from lightos.lab.names import SYSTEM, valid_project_name
from lightos.lab.placement import DEFAULT_NODES, MAX_NODES
from lightos.lab.state_folder import StateFolder

PORT = click.IntRange(1, 65535)
DEFAULT_TRANSITION_MS = 200
DEFAULT_FAILBACK_SECONDS = 12.0


def _split(value: str | None) -> tuple[str, ...]:
    return tuple(word for word in (value or "").replace(",", " ").split() if word)


def _addresses(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> tuple[str, ...] | None:
    if value is None:
        return None
    addresses = []
    for word in _split(value):
        try:
            addresses.append(str(ipaddress.ip_address(word)))
        except ValueError:
            raise click.BadParameter(f"{word!r} is not an IP address.") from None
    if not 1 <= len(addresses) <= MAX_NODES:
        raise click.BadParameter(f"give 1 to {MAX_NODES} addresses, one per node.")
    if len(set(addresses)) != len(addresses):
        raise click.BadParameter("every node needs an address of its own.")
    return tuple(addresses)


def _number(_context: click.Context, _parameter: click.Parameter, value: float) -> float:
    if math.isnan(value):  # which no range excludes
        raise click.BadParameter("nan is no number of seconds.")
    return value


def _projects(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> tuple[str, ...]:
    for name in _split(value):
        if not valid_project_name(name):
            raise click.BadParameter(
                f"{name!r} is not a project name: lower-case letters, digits, dots and dashes."
            )
        if name == SYSTEM:
            raise click.BadParameter(f"{name!r} is the cluster itself; choose another name.")
    return _split(value)


def _check_reach(addresses: tuple[str, ...] | None, allow_public: bool) -> None:
    for text in addresses or ():
        parsed = ipaddress.ip_address(text)
        if violation := address_violation(parsed, allow_public=allow_public):
            raise click.UsageError(f"{violation}.")


@click.command()
@click.option(
    "--nodes",
    "node_count",
    type=click.IntRange(1, MAX_NODES),
    help=f"How many storage nodes.  [default: {DEFAULT_NODES}]",
)
@click.option(
    "--addresses",
    metavar="A,B,C",
    callback=_addresses,
    help="One address per node.  [default: 127.0.0.1, 127.0.0.2, ...]",
)
@state_dir
@click.option("--api-port", type=PORT, default=443, show_default=True)
@click.option("--discovery-port", type=PORT, default=8009, show_default=True)
@click.option("--nvme-port", type=PORT, default=4420, show_default=True)
@click.option(
    "--transition-ms",
    type=click.IntRange(0, 3_600_000),
    default=DEFAULT_TRANSITION_MS,
    show_default=True,
    help="How long a change of state takes.",
)
@click.option(
    "--failback-seconds",
    type=click.FloatRange(0, 3600),
    callback=_number,
    default=DEFAULT_FAILBACK_SECONDS,
    show_default=True,
    help="After its start, how long a node waits for hosts before it is primary again.",
)
@click.option(
    "--projects",
    metavar="A,B",
    callback=_projects,
    help="Projects to have beside `default`.",
)
@click.option(
    "--page-port",
    type=PORT,
    help="Port of the web page on 127.0.0.1.  [default: 4480, or another if it is in use]",
)
@click.option(
    "--memory",
    "memory_only",
    is_flag=True,
    help="Keep everything in memory, and nothing once it ends.",
)
@click.option("--allow-public-addresses", is_flag=True, help="Listen on open networks, too.")
@click.option("--detach", is_flag=True, help="Return once it is ready; it goes on by itself.")
@click.option("--ready-fd", type=int, hidden=True)
def up(
    *,
    node_count: int | None,
    addresses: tuple[str, ...] | None,
    folder: StateFolder,
    api_port: int,
    discovery_port: int,
    nvme_port: int,
    transition_ms: int,
    failback_seconds: float,
    projects: tuple[str, ...],
    page_port: int | None,
    memory_only: bool,
    allow_public_addresses: bool,
    detach: bool,
    ready_fd: int | None,
) -> None:
    """Start a cluster, or resume the one in the state folder."""
    if addresses and node_count not in (None, len(addresses)):
        raise click.UsageError(f"{len(addresses)} --addresses do not fit --nodes {node_count}.")
    if len({api_port, discovery_port, nvme_port}) < 3:
        raise click.UsageError("--api-port, --discovery-port and --nvme-port must differ.")
    _check_reach(addresses, allow_public_addresses)
    if is_default_folder():
        folder = StateFolder.default_in_memory() if memory_only else StateFolder.default()
    if detach:
        with one_line_errors():
            _say_ready(_start_detached(folder, memory_only=memory_only), folder)
        return
    with _heard_by(ready_fd) as tell, one_line_errors():
        from lightos.lab.process import LabOptions, run_lab  # noqa: PLC0415

        options = LabOptions(
            folder=folder,
            node_count=node_count,
            addresses=addresses,
            projects=projects,
            api_port=api_port,
            discovery_port=discovery_port,
            nvme_port=nvme_port,
            transition_seconds=transition_ms / 1000,
            failback_seconds=failback_seconds,
            allow_public_addresses=allow_public_addresses,
            page_port=page_port,
            memory_only=memory_only,
        )
        logging.basicConfig(
            level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
        )

        logging.getLogger("uvicorn").setLevel(logging.WARNING)

        def ready(description: dict[str, Any]) -> None:
            if tell is None:
                _say_ready(description, folder)
            else:
                tell(description)

        asyncio.run(run_lab(options, ready))


@contextlib.contextmanager
def _heard_by(ready_fd: int | None) -> Iterator[Callable[[dict[str, Any]], None] | None]:
    """Tell whoever started this process, once, that it is ready or why it is not.

    The log says it too, but not on a full disk.
    """
    if ready_fd is None:
        yield None
        return
    with open(ready_fd, "w", encoding="utf-8") as pipe:

        def tell(said: dict[str, Any]) -> None:
            with pipe:
                json.dump(said, pipe)

        try:
            yield tell
        except click.ClickException as error:
            if not pipe.closed:
                tell({"failed": error.message})
            raise


def _start_detached(folder: StateFolder, *, memory_only: bool) -> dict[str, Any]:
    """Run this same command in a session of its own, and wait until it is ready or fails."""
    folder.make(memory_only=memory_only)
    if pid := folder.running_pid():
        raise LabError(
            f"a lab already runs on {folder.path} (pid {pid}): "
            f"end it with `lightos lab down --state-dir {folder.path}`"
        )
    reading, writing = os.pipe()
    arguments = [word for word in sys.argv[1:] if word != "--detach"]
    command = [sys.executable, "-m", "lightos.cli.main", *arguments, f"--ready-fd={writing}"]
    with open(folder.log, "ab") as log:
        begin = log.tell()
        child = subprocess.Popen(  # noqa: S603 - this very command
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=(writing,),
        )
    os.close(writing)
    with open(reading, encoding="utf-8") as pipe:
        said = pipe.read()
    if said:
        description: dict[str, Any] = json.loads(said)
        if "failed" not in description:
            return description
        child.wait()
        raise LabError(description["failed"])
    status = child.wait()
    if memory_only and not folder.log.exists():
        raise LabError(f"the lab ended at start with status {status}")
    with open(folder.log, encoding="utf-8", errors="replace") as log_text:
        log_text.seek(begin)
        last = (log_text.read().strip().splitlines() or [""])[-1].removeprefix("lightos: ")
    raise LabError(last or f"the lab ended at start with status {status}; see {folder.log}")


def _say_ready(description: dict[str, Any], folder: StateFolder) -> None:
    nodes = ", ".join(node["address"] for node in description["nodes"])
    click.echo(
        f"Lab is ready: {len(description['nodes'])} nodes ({nodes}), API port "
        f"{description['api_port']}, pid {description['pid']}; {folder.description}"
    )
    if url := page_url(description, folder):
        click.echo(f"Web page: {url}")
