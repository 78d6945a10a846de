# SPDX-License-Identifier: Apache-2.0
"""`lightos lab`: start, look at and end a lab cluster, and change its nodes and tokens."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import math
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from lightos.cli.lab_fault import fault
from lightos.cli.lab_folder import one_line_errors, page_url, running, state_dir
from lightos.cli.lab_seed import seed
from lightos.lab.errors import LabError
from lightos.lab.founding import DEFAULT_NODES
from lightos.lab.placement import MAX_NODES
from lightos.lab.state_folder import NotRunning, StateFolder
from lightos.lab.validation import address_violation, valid_project_name
from lightos.waiting import Deadline, DeadlineExpired, poll_until

if TYPE_CHECKING:
    from lightos.lab.control import ControlClient

PORT = click.IntRange(1, 65535)
POLL_SECONDS = 0.1
CONNECT_SECONDS = 2.0
DOWN_SECONDS = 60.0
NODE_SECONDS = 60.0
DEFAULT_TRANSITION_MS = 200
DEFAULT_FAILBACK_SECONDS = 12.0
LONGEST_TOKEN_SECONDS = 100 * 365 * 86400


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
    return _split(value)


def _check_reach(addresses: tuple[str, ...] | None, allow_public: bool) -> None:
    for text in addresses or ():
        parsed = ipaddress.ip_address(text)
        if violation := address_violation(parsed, allow_public=allow_public):
            raise click.UsageError(f"{violation}.")


def _is_default_folder() -> bool:
    """Whether the present command was given no --state-dir."""
    source = click.get_current_context().get_parameter_source("folder")
    return source is click.core.ParameterSource.DEFAULT


@click.group()
def lab() -> None:
    """A LightOS-compatible cluster on this machine."""


lab.add_command(fault)
lab.add_command(seed)


@lab.command()
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
    if _is_default_folder():
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


@lab.command()
@state_dir
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(folder: StateFolder, as_json: bool) -> None:
    """Show nodes, health and capacity of the running cluster."""
    from lightos.lab.control import ControlClient  # noqa: PLC0415

    with one_line_errors():
        description = folder.require_running()
        with ControlClient(folder) as control:
            nodes, cluster = control.nodes(), control.cluster()
    if as_json:
        reply = {
            "lab": description,
            "nodes": [node.to_wire() for node in nodes],
            "cluster": cluster.to_wire(),
        }
        click.echo(json.dumps(reply, indent=2))
        return
    from lightos.cli.lab_table import print_status  # noqa: PLC0415

    print_status(description, nodes, cluster, page_url(description, folder))


@lab.command()
@state_dir
def down(folder: StateFolder) -> None:
    """End the running cluster; its volumes stay in the state folder, but for one with --memory.

    Without --state-dir, what a killed lab with --memory left is taken away, too.
    """
    with one_line_errors():
        if _is_default_folder() and (left := StateFolder.left_in_memory()):
            left.erase()
            click.echo(f"What a killed lab left in {left.path} is gone.")
        memory_only = folder.is_memory_only
        pid = folder.running_pid()
        if pid is None:
            if memory_only:
                folder.erase()
            else:
                folder.clear()
            click.echo(f"No lab runs on {folder.path}.")
            return
        if not pid:
            raise LabError(f"the lab on {folder.path} is only starting; try again")
        _end_process(pid, folder)
    if memory_only:
        click.echo("Lab ended; nothing of it is left.")
    else:
        click.echo(f"Lab ended; `lightos lab up --state-dir {folder.path}` resumes it.")


@lab.command()
@state_dir
def reset(folder: StateFolder) -> None:
    """Take away all volumes, snapshots, projects, policies, credentials and faults, at once.

    Nodes that were stopped start. Addresses, certificates and the lab's key stay, so the tokens of
    the cluster and of the default project stay good.

    With a lab in each of the default folders, on disk and in memory, --state-dir must say which.
    """
    with one_line_errors():
        if _is_default_folder():
            folder = StateFolder.only()
    with running(folder) as control:
        control.ask("POST", "reset")
    click.echo(f"The lab on {folder.path} is empty.")


@lab.command()
@state_dir
@click.option("--timeout", "timeout_seconds", type=click.FloatRange(0), default=60.0)
def wait(folder: StateFolder, timeout_seconds: float) -> None:
    """Return once the cluster is ready: every active node answers on all its ports."""
    from lightos.lab.control import ControlClient  # noqa: PLC0415

    def ready() -> bool:
        try:
            description = folder.require_running()
        except NotRunning:
            return False
        with ControlClient(folder) as control:
            active = {node.uuid for node in control.nodes() if node.state.wire_name == "Active"}
        return all(
            _answers(node["address"], description[port])
            for node in description["nodes"]
            if node["uuid"] in active
            for port in ("api_port", "discovery_port", "nvme_port")
        )

    with one_line_errors():
        _wait(ready, timeout_seconds, f"the lab on {folder.path} is not ready; see {folder.log}")
    click.echo("Lab is ready.")


@lab.group()
def node() -> None:
    """Stop, start, add, remove and move storage nodes."""


@node.command("stop")
@click.argument("name")
@state_dir
def stop_node(name: str, folder: StateFolder) -> None:
    """End a node's services; its volumes go on at their next replica."""
    _change_node(name, folder, "Inactive")
    click.echo(f"Node {name} is stopped.")


@node.command("start")
@click.argument("name")
@state_dir
def start_node(name: str, folder: StateFolder) -> None:
    """Start a stopped node."""
    _change_node(name, folder, "Active")
    click.echo(f"Node {name} is active.")


@node.command("add")
@click.argument("address")
@state_dir
def add_node(address: str, folder: StateFolder) -> None:
    """Have one more node, on ADDRESS; new volumes go there, too."""
    with running(folder) as control:
        name = control.ask("POST", "nodes", {"address": address})["name"]
        _see_node(control, folder, name, "Active")
    click.echo(f"Node {name} is active on {address}.")


@node.command("remove")
@click.argument("name")
@state_dir
def remove_node(name: str, folder: StateFolder) -> None:
    """Have a node less; its replicas are rebuilt on the others at once.

    Refused where the other nodes are too few for some volume's replicas.
    """
    with running(folder) as control:
        control.ask("DELETE", f"nodes/{quote(name, safe='')}")
    click.echo(f"Node {name} is removed.")


@node.command("move")
@click.argument("name")
@click.argument("address")
@state_dir
def move_node(name: str, address: str, folder: StateFolder) -> None:
    """Give a node another ADDRESS; hosts and API clients have to find it there."""
    with running(folder) as control:
        control.ask("PUT", f"nodes/{quote(name, safe='')}", {"address": address})
        _see_node(control, folder, name, control.node_named(name).state.wire_name)
    click.echo(f"Node {name} is on {address}.")


def _change_node(name: str, folder: StateFolder, wanted: str) -> None:
    """Stop or start a node, and see that its ports say the same."""
    with running(folder) as control:
        uuid = control.node_named(name).uuid
        (control.start_node if wanted == "Active" else control.stop_node)(uuid)
        _see_node(control, folder, name, wanted)


def _see_node(control: ControlClient, folder: StateFolder, name: str, wanted: str) -> None:
    """Wait until a node has a state, and its ports say the same."""
    description = folder.require_running()
    address = next((n["address"] for n in description["nodes"] if n["name"] == name), "")

    def done() -> bool:
        return control.node_named(name).state.wire_name == wanted and all(
            _answers(address, description[port]) is (wanted == "Active")
            for port in ("api_port", "discovery_port", "nvme_port")
        )

    _wait(done, NODE_SECONDS, f"node {name} did not become {wanted}; see {folder.log}")


@lab.command()
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
    from lightos.lab.auth import SYSTEM  # noqa: PLC0415
    from lightos.lab.control import ControlClient  # noqa: PLC0415

    if not folder.running_pid():
        return
    with ControlClient(folder) as control:
        known = {SYSTEM, *control.projects()}
    if unknown := names - known:
        raise LabError(
            f"there is no project {min(unknown)}; projects are {', '.join(sorted(known))}"
        )


@lab.command("renew-tokens")
@state_dir
def renew_tokens(folder: StateFolder) -> None:
    """Write new tokens to the token files; those issued before stay good.

    To have those refused, too: `lightos lab fault add --token replace`.
    """
    with running(folder) as control:
        control.ask("POST", "tokens/renew")
    click.echo(f"The tokens in {folder.tokens} are new.")


def _end_process(pid: int, folder: StateFolder) -> None:
    """Send SIGTERM and return once the process has ended."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        with contextlib.suppress(ProcessLookupError):
            try:
                signal.pidfd_send_signal(process, signal.SIGTERM)
            except PermissionError:
                raise LabError(
                    f"the lab on {folder.path} (pid {pid}) is another user's: run this as that "
                    "user or root"
                ) from None
        # A pidfd is readable once its process has ended (pidfd_open(2)).
        if not select.select([process], [], [], DOWN_SECONDS)[0]:
            raise LabError(
                f"the lab (pid {pid}) did not end within {DOWN_SECONDS:g} s; see {folder.log}"
            )
    finally:
        os.close(process)


def _answers(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def _wait(reached: Callable[[], bool], seconds: float, failure: str) -> None:
    try:
        poll_until(
            lambda: True if reached() else None,
            deadline=Deadline(seconds),
            intervals=[POLL_SECONDS],
        )
    except DeadlineExpired:
        raise LabError(f"{failure} (waited {seconds:g} s)") from None
