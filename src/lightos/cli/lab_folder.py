# SPDX-License-Identifier: Apache-2.0
"""What the commands of `lightos lab` share: the state folder, and the lab that runs on it."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lightos.lab.errors import Internal, LabError
from lightos.lab.state_folder import StateFolder

if TYPE_CHECKING:
    from lightos.lab.control import ControlClient

_NOT_ALLOWED = "run this as the user who started the lab, or choose another --state-dir"
_DAMAGED = "the state folder is damaged: restore it, or choose another --state-dir"
_FIXES = {
    errno.ENOSPC: "free space on that disk",
    errno.EDQUOT: "free space on that disk",
    errno.EROFS: "make that disk writable, or choose another --state-dir",
    errno.EACCES: _NOT_ALLOWED,
    errno.EPERM: _NOT_ALLOWED,
    errno.ENOTDIR: _DAMAGED,
    errno.EISDIR: _DAMAGED,
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
}


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    try:
        yield
    except (LabError, Internal) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        fix = _FIXES.get(error.errno or 0)
        raise click.ClickException(f"{error}; {fix}" if fix else str(error)) from error


def state_dir(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--state-dir",
        "folder",
        metavar="DIR",
        callback=lambda _context, _parameter, value: (
            StateFolder(Path(value).absolute()) if value else StateFolder.present()
        ),
        help="Where the cluster is kept.  [default: $XDG_STATE_HOME/lightos-lab; with --memory, "
        "/dev/shm/lightos-lab-UID]",
    )(function)


def is_default_folder() -> bool:
    """Whether the present command was given no --state-dir."""
    source = click.get_current_context().get_parameter_source("folder")
    return source is click.core.ParameterSource.DEFAULT


@contextlib.contextmanager
def running(folder: StateFolder) -> Iterator[ControlClient]:
    """The control client of a lab that runs."""
    from lightos.lab.control import ControlClient  # noqa: PLC0415

    with one_line_errors():
        folder.require_running()
        with ControlClient(folder) as control:
            yield control


def page_url(description: dict[str, Any], folder: StateFolder) -> str:
    """The address of the lab's web page, with the key that it asks for; empty where it has none."""
    address = description.get("page_address")
    return f"{address}#{folder.page_key.read_text().strip()}" if address else ""
