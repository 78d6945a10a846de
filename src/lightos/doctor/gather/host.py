# SPDX-License-Identifier: Apache-2.0
"""What /sys, /etc, the folder of discovery files and the discovery client say of this host."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightos.discovery import kernel, users
from lightos.discovery.config import Config, ConfigError, load
from lightos.discovery.desired import ControllerPath, Endpoint
from lightos.discovery.entries import LineError, parse
from lightos.discovery.ledger import Ledger
from lightos.discovery.publish import TEMPORARY_PREFIX, is_discovery_file
from lightos.discovery.subsystems import Subsystem, read_subsystems
from lightos.discovery.sysfs import attribute
from lightos.discovery.watch import read_discovery_file
from lightos.doctor.checks.host import (
    MODULES,
    ClientFacts,
    FileFacts,
    FolderFacts,
    HostFacts,
    IdentityFacts,
    KernelFacts,
    TimeOuts,
)

ANSWER_SECONDS = 2.0
"""How long the discovery client may take to answer; os-brick waits as long."""


@dataclass(frozen=True)
class Places:
    """Where the kernel and the host's identity are found."""

    sysfs: Path = kernel.SYSFS_ROOT
    fabrics_device: Path = kernel.FABRICS_DEVICE
    host_nqn: Path = kernel.HOST_NQN_PATH


def host(
    config_path: Path | None, environment: Mapping[str, str], places: Places = Places()
) -> HostFacts:
    """Look at this host. `config_path` is the discovery client's configuration, None for the
    default one."""
    config, problem = Config(), ""
    try:
        config = load(config_path, environment).config
    except ConfigError as error:
        problem = str(error)
    subsystems = tuple(read_subsystems(places.sysfs))
    return HostFacts(
        kernel=_kernel(places),
        identity=IdentityFacts(
            host_nqn=kernel.read_host_nqn(places.host_nqn),
            host_id=attribute(config.host_id_path) or None,
            host_id_path=str(config.host_id_path),
            in_use=kernel.read_identities(places.sysfs),
        ),
        client=_client(config, problem),
        folder=_folder(config.discovery_dir),
        subsystems=subsystems,
        time_outs=_time_outs(subsystems, places.sysfs),
        made_here=_made_here(config),
    )


def _kernel(places: Places) -> KernelFacts:
    modules = places.sysfs / "module"
    return KernelFacts(
        release=os.uname().release,
        modules=frozenset(name for name in MODULES if (modules / name).is_dir()),
        has_fabrics_device=places.fabrics_device.exists(),
        native_multipath=attribute(modules / "nvme_core" / "parameters" / "multipath"),
        fabrics_options=kernel.supported_options(places.fabrics_device),
    )


def _client(config: Config, problem: str) -> ClientFacts:
    answers = False
    health = None
    if config.status_enabled:
        status, _ = _answer(config.status_endpoint, "/metrics")
        answers = status == http.HTTPStatus.OK
        _, health = _answer(config.status_endpoint, "/healthz")
    return ClientFacts(config, problem, answers, health)


def _answer(endpoint: Endpoint, path: str) -> tuple[int, Mapping[str, Any] | None]:
    """Status, 0 without an answer, and the JSON object that came with it, if one did."""
    connection = http.client.HTTPConnection(endpoint.address, endpoint.port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        body = reply.read()
    except (OSError, http.client.HTTPException):
        return 0, None
    finally:
        connection.close()
    try:
        content = json.loads(body)
    except ValueError:
        content = None
    return reply.status, content if isinstance(content, dict) else None


def _folder(path: Path) -> FolderFacts:
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        return FolderFacts(f"it cannot be read: {error.strerror}")
    return FolderFacts(
        "",
        tuple(filter(None, (_file(path / n) for n in names if is_discovery_file(n)))),
        tuple(n for n in names if n.startswith(TEMPORARY_PREFIX) and _is_abandoned(path / n)),
    )


def _file(path: Path) -> FileFacts | None:
    """None for a folder, and for a file that was removed meanwhile."""
    try:
        text = read_discovery_file(path)
    except (FileNotFoundError, IsADirectoryError):
        return None
    except OSError as error:
        why = LineError(path.name, 0, f"unreadable: {error.strerror}")
        return FileFacts(path.name, (), (why,))
    read = parse(text, path.name)
    named = users.users_of(text)
    gone = frozenset(user for user in named if not users.is_there(user))
    return FileFacts(path.name, read.entries, read.errors, named, gone)


def _is_abandoned(path: Path) -> bool:
    """Whether no writer holds a temporary file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _time_outs(subsystems: tuple[Subsystem, ...], sysfs: Path) -> dict[str, TimeOuts]:
    found = {}
    for subsystem in subsystems:
        for controller in subsystem.controllers:
            folder = sysfs / "class" / "nvme" / controller.name
            found[controller.name] = TimeOuts(
                *(_seconds(folder / name) for name in ("kato", "ctrl_loss_tmo", "reconnect_delay"))
            )
    return found


def _seconds(path: Path) -> int | None:
    text = attribute(path)
    if text == "off":
        return -1
    return int(text) if text and text.lstrip("-").isdigit() else None


def _made_here(config: Config) -> frozenset[ControllerPath]:
    try:
        return Ledger(config.ledger_path).paths
    except OSError:
        return frozenset()
