# SPDX-License-Identifier: Apache-2.0
"""Whether this host can attach LightOS volumes, and what is left of earlier ones."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from lightos.discovery.config import Config
from lightos.discovery.desired import LIGHTOS_DOMAIN, Cluster, ControllerPath, Demand, demands
from lightos.discovery.entries import DiscoveryEntry, InvalidEntry, LineError, validated_nqn
from lightos.discovery.host_identity import HostIdentity
from lightos.discovery.subsystems import Subsystem
from lightos.doctor.findings import Finding, Findings

OLDEST_LINUX = (5, 0)
"""The first with NVMe/TCP."""

MODULES = ("nvme_core", "nvme_fabrics", "nvme_tcp")

_LOAD = "`modprobe nvme-tcp`, and put nvme-tcp into /etc/modules-load.d/nvme-tcp.conf"
_START = "`systemctl enable --now lightos-discovery-client`"
_NEW_IDENTITY = (
    "`nvme gen-hostnqn > /etc/nvme/hostnqn`, its UUID into /etc/nvme/hostid, while no volume is "
    "attached here"
)
_PLACEHOLDERS = frozenset(
    {
        UUID(int=0),
        UUID(int=(1 << 128) - 1),
        # What mainboards bear whose maker gave them no number of their own.
        UUID("03000200-0400-0500-0006-000700080009"),
    }
)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_NAMED = 5
"""Of many alike, so many are named in one line."""


@dataclass(frozen=True)
class KernelFacts:
    """`modules` are those of MODULES that are there, built in or loaded. `native_multipath` is the
    parameter of nvme_core, and `fabrics_options` what the kernel knows to connect with; each None
    where it does not tell."""

    release: str
    modules: frozenset[str]
    has_fabrics_device: bool
    native_multipath: str | None
    fabrics_options: frozenset[str] | None


@dataclass(frozen=True)
class IdentityFacts:
    """What the two files hold, None for nothing, and the pairs that controllers use now."""

    host_nqn: str | None
    host_id: str | None
    host_id_path: str
    in_use: frozenset[HostIdentity]


@dataclass(frozen=True)
class ClientFacts:
    """The discovery client: its configuration (the defaults where that cannot be used, with the
    problem), whether it answers, and what it says of its health, None when it says nothing."""

    config: Config
    config_problem: str
    answers: bool
    health: Mapping[str, Any] | None


@dataclass(frozen=True)
class FileFacts:
    """A discovery file. `users` are those it names, and `users_gone` those that ended with their
    process."""

    name: str
    entries: tuple[DiscoveryEntry, ...]
    errors: tuple[LineError, ...] = ()
    users: frozenset[str] = frozenset()
    users_gone: frozenset[str] = frozenset()

    @property
    def volume_uuid(self) -> str:
        """The volume that a connector wrote it for; empty for a file of another kind."""
        stem = self.name.removesuffix(".conf")
        return stem.lower() if stem != self.name and _UUID.fullmatch(stem) else ""


@dataclass(frozen=True)
class FolderFacts:
    """The folder of discovery files, or why it cannot be read. `abandoned` are the temporary
    files that no writer holds."""

    problem: str
    files: tuple[FileFacts, ...] = ()
    abandoned: tuple[str, ...] = ()


@dataclass(frozen=True)
class TimeOuts:
    """Of one controller, in seconds, as sysfs shows them; None where the kernel does not. -1 as
    `ctrl_loss_seconds` is for ever."""

    keep_alive_seconds: int | None
    ctrl_loss_seconds: int | None
    reconnect_delay_seconds: int | None


@dataclass(frozen=True)
class HostFacts:
    """All that was looked at. `time_outs` is by controller; `made_here` what the client made."""

    kernel: KernelFacts
    identity: IdentityFacts
    client: ClientFacts
    folder: FolderFacts
    subsystems: tuple[Subsystem, ...]
    time_outs: Mapping[str, TimeOuts]
    made_here: frozenset[ControllerPath]


def findings(facts: HostFacts) -> list[Finding]:
    """Everything to say of a host."""
    wanted = demands({file.name: file.entries for file in facts.folder.files})
    ours = [each for each in facts.subsystems if _is_ours(each, wanted, facts.made_here)]
    found = Findings()
    _kernel(found, facts.kernel, facts.client.config)
    _identity(found, facts.identity)
    if facts.client.config_problem:
        # Where its files are, and what it connects with, is not known.
        fix = "correct it: no discovery client starts with it"
        found.critical("discovery-conf", "the discovery client", facts.client.config_problem, fix)
        return found.all
    _client(found, facts.client)
    _files(found, facts.folder, facts.client.config, facts.identity.host_nqn)
    _paths(found, ours, wanted)
    _ana(found, ours)
    _time_outs(found, ours, wanted, facts.client.config, facts.time_outs)
    _leftovers(found, ours, wanted, facts)
    return found.all


def _is_ours(
    subsystem: Subsystem, wanted: Mapping[Cluster, Demand], made_here: frozenset[ControllerPath]
) -> bool:
    return (
        LIGHTOS_DOMAIN in subsystem.nqn
        or any(cluster.subsystem_nqn == subsystem.nqn for cluster in wanted)
        or any(controller.path in made_here for controller in subsystem.controllers)
    )


# --- the kernel --------------------------------------------------------------------------------


def _kernel(found: Findings, kernel: KernelFacts, config: Config) -> None:
    subject = f"Linux {kernel.release}"
    version = tuple(map(int, re.findall(r"[0-9]+", kernel.release)[:2]))
    if version < OLDEST_LINUX:
        oldest = ".".join(map(str, OLDEST_LINUX))
        found.critical("kernel", subject, "it has no NVMe/TCP", f"use Linux {oldest} or later")
    else:
        found.ok("kernel", subject, "recent enough for NVMe/TCP")
    missing = [name for name in MODULES if name not in kernel.modules]
    if not kernel.has_fabrics_device:
        said = "there is no /dev/nvme-fabrics, so this host can connect to nothing"
        found.critical("module", ", ".join(missing) or "nvme_fabrics", said, _LOAD)
    elif missing:
        found.warning("module", ", ".join(missing), "not loaded", _LOAD)
    else:
        found.ok("module", ", ".join(MODULES), "there, and /dev/nvme-fabrics is")
    if "nvme_core" in kernel.modules:
        _multipath(found, kernel.native_multipath)
    for name, asked in (("tls", config.tls), ("dhchap_secret", bool(config.dhchap_secret))):
        if asked and kernel.fabrics_options is not None and name not in kernel.fabrics_options:
            said = f"the discovery client shall connect with {name}, which this kernel has not"
            found.critical("kernel", subject, said, "use a kernel that has, or change the client's")


def _multipath(found: Findings, parameter: str | None) -> None:
    check, subject = "multipath", "nvme_core.multipath"
    if parameter == "Y":
        found.ok(check, subject, "native multipath is on")
    elif parameter is None:
        said = "this kernel shows no native multipath, so a lost path is lost I/O"
        found.critical(check, subject, said, "use a kernel with CONFIG_NVME_MULTIPATH=y")
    else:
        said = f"native multipath is off ({parameter}), so a lost path is lost I/O"
        fix = "boot with nvme_core.multipath=Y, and see that nothing in modprobe.d says otherwise"
        found.critical(check, subject, said, fix)


# --- who this host is --------------------------------------------------------------------------


def _identity(found: Findings, identity: IdentityFacts) -> None:
    path = "/etc/nvme/hostnqn"
    own = identity.host_nqn
    if own is None:
        said = "this host has no host NQN, so nothing can be attached to it"
        found.critical("host-nqn", path, said, _NEW_IDENTITY)
    elif problem := _nqn_problem(own):
        found.critical("host-nqn", path, problem, _NEW_IDENTITY)
    elif _is_placeholder(own):
        said = f"{own} is a placeholder, and so that of other hosts, too"
        found.critical("host-nqn", path, said, _NEW_IDENTITY)
    else:
        found.ok("host-nqn", path, own)
    _host_id(found, identity)
    _pairs(found, identity)


def _nqn_problem(text: str) -> str:
    try:
        validated_nqn(text, "host NQN")
    except InvalidEntry as error:
        return str(error)
    return ""


def _is_placeholder(text: str) -> bool:
    match = _UUID.search(text)
    return match is not None and UUID(match[0]) in _PLACEHOLDERS


def _host_id(found: Findings, identity: IdentityFacts) -> None:
    path, text = identity.host_id_path, identity.host_id
    if text is None:
        said = "no host id: each tool that connects makes one up, and the kernel takes only one"
        found.warning("host-id", path, said, f"write the UUID of the host NQN to {path}")
    elif not _UUID.fullmatch(text):
        said = f"{text!r} is not a UUID"
        found.critical("host-id", path, said, f"write the UUID of the host NQN to {path}")
    elif _is_placeholder(text):
        said = f"{text} is a placeholder, and so that of other hosts, too"
        found.critical("host-id", path, said, _NEW_IDENTITY)
    else:
        found.ok("host-id", path, text)


def _pairs(found: Findings, identity: IdentityFacts) -> None:
    """An NQN and an id go together one to one (NVMe-oF 1.1, section 1.5.2)."""
    pairs = {(each.host_nqn, str(each.host_id)) for each in identity.in_use}
    if identity.host_nqn and identity.host_id:
        pairs.add((identity.host_nqn, identity.host_id.lower()))
    clashes = False
    for place, kind in ((0, "host NQN"), (1, "host id")):
        for value in sorted({pair[place] for pair in pairs}):
            partners = sorted(pair[1 - place] for pair in pairs if pair[place] == value)
            if len(partners) > 1:
                clashes = True
                said = f"{kind} {value} is paired with {' and '.join(partners)}"
                fix = (
                    "correct the two files and the -I of discovery files so that there is one "
                    "pair, then disconnect the controllers with the other: Linux 6.5 and later "
                    "refuses to connect with both"
                )
                found.critical("host-pair", "host NQN and host id", said, fix)
    if not clashes:
        number = len(identity.in_use)
        said = f"paired one to one, with {number} pair{'s' * (number != 1)} in use"
        found.ok("host-pair", "host NQN and host id", said)


# --- the discovery client ----------------------------------------------------------------------


def _client(found: Findings, client: ClientFacts) -> None:
    check, subject = "discovery-client", str(client.config.status_endpoint)
    if not client.config.status_enabled:
        said = "debug.metrics is false, so os-brick takes this host for one without a client"
        found.critical(check, subject, said, "remove debug.metrics from its configuration")
    elif not client.answers:
        found.critical(check, subject, "no discovery client answers", f"start it: {_START}")
    elif client.health is None:
        found.ok(check, subject, "a discovery client answers; it tells nothing of its health")
    else:
        _health(found, subject, client.health)


def _health(found: Findings, subject: str, health: Mapping[str, Any]) -> None:
    check = "discovery-client"
    clusters = health.get("clusters") or []
    if health.get("status") == "failed":
        said = f"it can connect nothing: {health.get('problem')}"
        found.critical(check, subject, said, "do what its message says, and look at its log")
        return
    lacking = [each for each in clusters if _lacks(each)]
    for each in lacking:
        said = (
            f"{each['subsystem_nqn']}: {each['controllers_connected']} of "
            f"{each['controllers_wanted']} controllers connected, discovery service "
            f"{each['discovery_service'] or 'none'}"
        )
        if each.get("last_error"):
            said += f"; last error: {each['last_error']}"
        fix = "check that the cluster's nodes are up, and ports 8009 and 4420 of each from here"
        if each["controllers_connected"]:
            found.warning(check, subject, said, fix)
        else:
            found.critical(check, subject, said, fix)
    if not lacking:
        found.ok(check, subject, f"it is up, with all of {len(clusters)} clusters connected")


def _lacks(cluster: Mapping[str, Any]) -> bool:
    connected, wanted = cluster["controllers_connected"], cluster["controllers_wanted"]
    return not cluster["discovery_service"] or not wanted or connected < wanted


def _files(found: Findings, folder: FolderFacts, config: Config, own_nqn: str | None) -> None:
    check, path = "discovery-files", str(config.discovery_dir)
    if folder.problem:
        fix = f"start the discovery client, which makes it, or `mkdir -p {path}`"
        found.critical(check, path, folder.problem, fix)
        return
    sane = True
    for file in folder.files:
        where = f"{path}/{file.name}"
        for error in file.errors:
            sane = False
            line = f"line {error.line_number}: " if error.line_number else ""
            said = f"{line}{error.reason}"
            fix = "correct or remove it: until then the client disconnects nothing"
            found.critical(check, where, said, fix)
        strangers = sorted({each.host_nqn for each in file.entries} - {own_nqn})
        if strangers and own_nqn:
            sane = False
            said = f"it names host NQN {', '.join(strangers)}, not this host's"
            fix = "remove it unless this host is meant to be that one, too; attach the volume anew"
            found.warning(check, where, said, fix)
        if not file.entries and not file.errors:
            sane = False
            found.warning(check, where, "it names no discovery service", "remove it")
    if sane:
        found.ok(check, path, f"{len(folder.files)} files, all in order")


# --- paths -------------------------------------------------------------------------------------


def _paths(
    found: Findings, subsystems: Sequence[Subsystem], wanted: Mapping[Cluster, Demand]
) -> None:
    check = "paths"
    for subsystem in subsystems:
        lost = [each for each in subsystem.controllers if each.state != "live"]
        alive = len(subsystem.controllers) - len(lost)
        if not lost:
            found.ok(check, subsystem.nqn, f"{alive} controllers, all live")
            continue
        said = f"{alive} of {len(subsystem.controllers)} controllers live; not " + ", ".join(
            f"{each.name} ({each.path.endpoint}, {each.state})" for each in lost
        )
        fix = "check that these nodes are up, and that their port is reached from here"
        (found.warning if alive else found.critical)(check, subsystem.nqn, said, fix)
    present = {subsystem.nqn for subsystem in subsystems}
    for nqn in sorted({cluster.subsystem_nqn for cluster in wanted} - present):
        said = "a discovery file asks for it, but no controller of it is connected"
        fix = "check the discovery services that the file names, and the discovery client's log"
        found.critical(check, nqn, said, fix)


def _ana(found: Findings, subsystems: Sequence[Subsystem]) -> None:
    check = "ana"
    for subsystem in subsystems:
        good = []
        for namespace in subsystem.namespaces:
            states = dict(namespace.ana_states)
            shown = ", ".join(f"{name} {state or 'none'}" for name, state in states.items())
            subject = f"/dev/{namespace.device} ({namespace.uuid})"
            if "optimized" in states.values():
                good.append(f"/dev/{namespace.device}")
            elif not any(states.values()):
                said = f"the kernel shows no ANA state on any path: {shown}"
                fix = "switch native multipath on, see the check multipath"
                found.critical(check, subject, said, fix)
            elif "non-optimized" in states.values():
                fix = "check the node that serves the volume: its path is the fast one"
                found.warning(check, subject, f"no optimized path: {shown}", fix)
            else:
                fix = "check the cluster: the volume's primary node is away, or not reached"
                found.critical(check, subject, f"no path with access: {shown}", fix)
        if len(good) == len(subsystem.namespaces):
            said = f"an optimized path to each of {len(good)} volumes"
            if good:
                said += f": {_some(good)}"
            found.ok(check, subsystem.nqn, said)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" * (len(names) > _NAMED)
    return f"{', '.join(names[:_NAMED])}{more}"


def _time_outs(
    found: Findings,
    subsystems: Sequence[Subsystem],
    wanted: Mapping[Cluster, Demand],
    config: Config,
    time_outs: Mapping[str, TimeOuts],
) -> None:
    check = "time-outs"
    for subsystem in subsystems:
        in_force: dict[str, list[str]] = {}
        for controller in subsystem.controllers:
            actual = time_outs.get(controller.name)
            if actual is None:
                continue
            demand = wanted.get(controller.path.cluster)
            asked = _asked(config, demand.ctrl_loss_timeout_seconds if demand else None)
            if actual == _agreeing(actual, asked):
                in_force.setdefault(_shown(actual), []).append(controller.name)
                continue
            said = f"{_shown(actual)}, where the configuration says {_shown(asked)}"
            fix = (
                "it was connected with these, and keeps them: let the discovery client connect "
                f"it anew, e.g. `nvme disconnect -d {controller.name}` while other paths are live"
            )
            found.warning(check, controller.name, said, fix)
        for shown, names in in_force.items():
            found.ok(check, subsystem.nqn, f"{shown} on {', '.join(names)}")


def _asked(config: Config, file_loss_seconds: int | None) -> TimeOuts:
    """What the discovery client connects with now; None is the kernel's default."""
    options = config.connect_options(file_loss_seconds)
    loss, delay = options.ctrl_loss_timeout_seconds, options.reconnect_delay_seconds
    if loss is not None and loss > 0 and delay:
        # The kernel counts tries, so it is a multiple of the pause between them.
        loss = -(-loss // delay) * delay
    return TimeOuts(options.keep_alive_timeout_seconds, loss, delay)


def _agreeing(actual: TimeOuts, asked: TimeOuts) -> TimeOuts:
    """What was asked for, where it was and the kernel shows it; else what there is."""

    def pick(asked_seconds: int | None, actual_seconds: int | None) -> int | None:
        return actual_seconds if None in (asked_seconds, actual_seconds) else asked_seconds

    return TimeOuts(
        pick(asked.keep_alive_seconds, actual.keep_alive_seconds),
        pick(asked.ctrl_loss_seconds, actual.ctrl_loss_seconds),
        pick(asked.reconnect_delay_seconds, actual.reconnect_delay_seconds),
    )


def _shown(time_outs: TimeOuts) -> str:
    words = {
        "kato": time_outs.keep_alive_seconds,
        "ctrl_loss_tmo": time_outs.ctrl_loss_seconds,
        "reconnect_delay": time_outs.reconnect_delay_seconds,
    }
    return ", ".join(
        f"{name} {'never' if value == -1 else f'{value} s'}"
        for name, value in words.items()
        if value is not None
    )


# --- what is left ------------------------------------------------------------------------------


def _leftovers(
    found: Findings,
    subsystems: Sequence[Subsystem],
    wanted: Mapping[Cluster, Demand],
    facts: HostFacts,
) -> None:
    check, folder = "leftover", str(facts.client.config.discovery_dir)
    none = True
    for name in facts.folder.abandoned:
        none = False
        found.warning(check, f"{folder}/{name}", "a writer that died left it", "remove it")
    devices = {each.uuid.lower() for subsystem in subsystems for each in subsystem.namespaces}
    for file in facts.folder.files:
        where = f"{folder}/{file.name}"
        if file.users and file.users == file.users_gone:
            none = False
            said = f"the processes that attached it have ended ({', '.join(sorted(file.users))})"
            fix = "remove it, unless the volume is used by something else"
            found.warning(check, where, said, fix)
        elif file.volume_uuid and file.volume_uuid not in devices:
            none = False
            said = "this host has the file of a volume, and not its device"
            fix = (
                "if Cinder has no attachment of it here, remove the file; else see the check paths"
            )
            found.warning(check, where, said, fix)
    if not facts.folder.problem:
        for subsystem in subsystems:
            unwanted = [c for c in subsystem.controllers if c.path.cluster not in wanted]
            if not unwanted:
                continue
            none = False
            names = ", ".join(each.name for each in unwanted)
            by = "the client" if all(c.path in facts.made_here for c in unwanted) else "others"
            said = f"no discovery file asks for {names}, which {by} made"
            if subsystem.namespaces:
                has = _some([f"/dev/{each.device}" for each in subsystem.namespaces])
                said += f"; it has {has}"
            fix = f"`nvme disconnect -n {subsystem.nqn}` once none of its devices is in use"
            found.warning(check, subsystem.nqn, said, fix)
    if none:
        found.ok(check, folder, "none: each file has its device, and each controller its file")
