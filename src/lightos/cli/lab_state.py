# SPDX-License-Identifier: Apache-2.0
"""`lightos lab status`, `wait`, `reset` and `down`: the lab on a state folder as a whole."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal

import click

from lightos.cli.lab_folder import is_default_folder, one_line_errors, page_url, running, state_dir
from lightos.cli.lab_waiting import NODE_PORTS, answers, wait_until
from lightos.lab.errors import LabError
from lightos.lab.state_folder import NotRunning, StateFolder

DOWN_SECONDS = 60.0


@click.command()
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
            "nodes": [each.to_wire() for each in nodes],
            "cluster": cluster.to_wire(),
        }
        click.echo(json.dumps(reply, indent=2))
        return
    from lightos.cli.lab_table import print_status  # noqa: PLC0415

    print_status(description, nodes, cluster, page_url(description, folder))


@click.command()
@state_dir
def down(folder: StateFolder) -> None:
    """End the running cluster; its volumes stay in the state folder, but for one with --memory.

    Without --state-dir, what a killed lab with --memory left is taken away, too.
    """
    with one_line_errors():
        if is_default_folder() and (left := StateFolder.left_in_memory()):
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


@click.command()
@state_dir
def reset(folder: StateFolder) -> None:
    """Take away all volumes, snapshots, projects, policies, credentials and faults, at once.

    Nodes that were stopped start. Addresses, certificates and the lab's key stay, so the tokens of
    the cluster and of the default project stay good.

    With a lab in each of the default folders, on disk and in memory, --state-dir must say which.
    """
    with one_line_errors():
        if is_default_folder():
            folder = StateFolder.only()
    with running(folder) as control:
        control.ask("POST", "reset")
    click.echo(f"The lab on {folder.path} is empty.")


@click.command()
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
            answers(node["address"], description[port])
            for node in description["nodes"]
            if node["uuid"] in active
            for port in NODE_PORTS
        )

    with one_line_errors():
        not_ready = f"the lab on {folder.path} is not ready; see {folder.log}"
        wait_until(ready, timeout_seconds, not_ready)
    click.echo("Lab is ready.")


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
