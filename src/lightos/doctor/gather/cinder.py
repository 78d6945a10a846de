# SPDX-License-Identifier: Apache-2.0
"""Reads cinder.conf as cinder-volume does, asks each API address, the lock manager and Cinder's
database, and writes nothing to any of them."""

from __future__ import annotations

import functools
import json
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import tooz.coordination
from cinder import context, exception, objects
from cinder.db import models
from cinder.volume import configuration
from cinder.volume import driver as volume_driver
from oslo_config import cfg
from oslo_db import exception as db_exception
from sqlalchemy.exc import SQLAlchemyError

from lightos.api.client import LightOSClient
from lightos.api.credentials import FixedToken, TokenSource, expiry, roles
from lightos.api.errors import LightOSError
from lightos.api.models.policies import Policy
from lightos.doctor.checks.cinder import (
    AddressFacts,
    BackEndFacts,
    CinderFacts,
    ClusterFacts,
    LockFacts,
    RecordFacts,
    TokenFacts,
    TypeFacts,
    policies_of,
    policy_of,
    projects_of,
)
from lightos.openstack.cinder import grants, options, records, volume_types
from lightos.openstack.cinder.qos import InvalidQosSpecs
from lightos.waiting import utc_now

CONF = cfg.CONF
DRIVER = "LightOSVolumeDriver"
ANSWER_SECONDS = 10.0
"""How long an API address may take, its pauses and new tries included."""

REACH_SECONDS = 5.0
"""How long a lock manager may take to accept a connection."""

_LOCK_MANAGER_PORTS = {"redis": 6379, "etcd3+http": 2379, "etcd3+https": 2379}
"""Where tooz looks for one whose URL names no port."""
_PREFIX = "lightos_"
_MEMBER = b"lightos-doctor"
_NO_SUCH_NAME = "lightos-doctor"
"""Of a volume that is looked for only to see whether a project may be looked at."""

Answer = TypeVar("Answer")


def cinder(paths: Sequence[Path], now: Callable[[], datetime] = utc_now) -> CinderFacts:
    """Look at a configuration, and at all that it names. Once in a process: options are global."""
    files = ", ".join(map(str, paths))
    try:
        sections = _read(paths)
        enabled = CONF.enabled_backends or []
    except cfg.Error as error:
        # What follows a comma quotes the line, which may hold a secret.
        return CinderFacts(files, now(), problem=str(error).partition(", ")[0])
    ours = [name for name in enabled if _driver_of(name).rpartition(".")[2] == DRIVER]
    known, types = _records() if ours else (None, None)
    return CinderFacts(
        files,
        now(),
        back_ends=tuple(_back_end(name, sections, types, paths[-1]) for name in ours),
        locks=_locks(),
        records=known,
    )


def _read(paths: Sequence[Path]) -> dict[str, set[str]]:
    """Load the configuration; returns the names of the options in each section of the files."""
    objects.register_all()
    CONF.import_opt("enabled_backends", "cinder.common.config")
    CONF.register_opt(cfg.StrOpt("cluster"))
    words = [word for path in paths for word in ("--config-file", str(path.absolute()))]
    CONF(words, project="cinder")
    # A database that is away is no reason to ask it again for minutes.
    CONF.set_override("max_retries", 0, group="database")
    found: dict[str, set[str]] = {}
    for path in paths:
        sections: dict[str, dict[str, list[str]]] = {}
        cfg.ConfigParser(str(path), sections).parse()
        for name, values in sections.items():
            found.setdefault(name, set()).update(values)
    return found


def _configuration_of(section: str) -> Any:
    conf = configuration.Configuration(volume_driver.volume_opts, config_group=section)
    conf.append_config_values(options.lightos_opts)
    return conf


def _driver_of(section: str) -> str:
    CONF.register_opt(cfg.StrOpt("volume_driver", default=""), group=section)
    return str(CONF[section].volume_driver)


# --- one back end ------------------------------------------------------------------------------


def _back_end(
    section: str,
    written: Mapping[str, set[str]],
    all_types: Sequence[Any] | None,
    conf_path: Path,
) -> BackEndFacts:
    known = {option.name for option in options.lightos_opts}
    names = written.get(section, set()) | written.get(configuration.SHARED_CONF_GROUP, set())
    unknown = tuple(sorted(n for n in names if n.startswith(_PREFIX) and n not in known))
    conf = _configuration_of(section)
    try:
        options.check(conf)
        verify = options.tls_verification(conf.driver_ssl_cert_verify, conf.driver_ssl_cert_path)
    except exception.InvalidConfigurationValue as error:
        return BackEndFacts(section, unknown, str(error))
    tokens, token_facts = _token(conf, conf_path)
    types = None if all_types is None else _types(conf, all_types)

    def client_of(addresses: Sequence[str]) -> LightOSClient:
        return LightOSClient.connect(
            addresses,
            conf.lightos_api_port,
            tokens,
            verify=verify,
            request_timeout_seconds=min(ANSWER_SECONDS, conf.lightos_api_service_timeout),
        )

    def ask(address: str) -> AddressFacts:
        client = client_of([address])
        deadline = client.deadline(ANSWER_SECONDS)
        return AddressFacts(
            address, _answer_of(lambda: client.get_cluster_info(deadline, patient=False))
        )

    addresses: tuple[AddressFacts, ...] = ()
    if not token_facts.problem:
        with ThreadPoolExecutor(len(conf.lightos_api_address)) as pool:
            addresses = tuple(pool.map(ask, conf.lightos_api_address))
    good = [each.address for each in addresses if not isinstance(each.answer, LightOSError)]
    return BackEndFacts(
        section,
        unknown,
        port=conf.lightos_api_port,
        verify=bool(verify),
        replica_count=conf.lightos_default_num_replicas,
        token=token_facts,
        addresses=addresses,
        cluster=_cluster(client_of(good), types) if good else None,
        types=types,
    )


def _token(conf: Any, conf_path: Path) -> tuple[TokenSource, TokenFacts]:
    """Where the token comes from, and what may be told of it."""
    file = conf.lightos_jwt_file
    option = "lightos_jwt_file" if file else "lightos_jwt"
    path = Path(file or conf_path)
    try:
        mode = path.stat().st_mode & 0o7777
    except OSError:
        mode = 0
    try:
        source = options.token_source(conf.lightos_jwt, file)
    except exception.InvalidConfigurationValue as error:
        return FixedToken(""), TokenFacts(option, True, str(path), mode, str(error))
    token = source.current()
    return source, TokenFacts(
        option, bool(token), str(path), mode, expires=expiry(token), roles=roles(token)
    )


def _answer_of(ask: Callable[[], Answer]) -> Answer | LightOSError:
    try:
        return ask()
    except LightOSError as error:
        return error
    except ValueError as error:
        # Of a token that no request can carry; says so without it.
        return LightOSError("a request", "the cluster", str(error))


def _cluster(client: LightOSClient, types: tuple[TypeFacts, ...] | None) -> ClusterFacts:
    def project(name: str) -> None:
        list(client.list_volumes(name, client.deadline(ANSWER_SECONDS), name=_NO_SUCH_NAME))

    def policy(specs: volume_types.VolumeSpecs) -> Policy:
        deadline = client.deadline(ANSWER_SECONDS)
        if specs.qos_policy_uuid:
            return client.get_policy(specs.qos_policy_uuid, deadline)
        return client.get_policy_by_name(policy_of(specs), deadline)

    return ClusterFacts(
        _answer_of(lambda: client.list_nodes(client.deadline(ANSWER_SECONDS))),
        {name: _answer_of(functools.partial(project, name)) for name in projects_of(types)},
        {
            policy_of(specs): _answer_of(functools.partial(policy, specs))
            for specs in policies_of(types)
        },
    )


# --- the deployment ----------------------------------------------------------------------------


def _locks() -> LockFacts:
    CONF.import_opt("backend_url", "cinder.coordination", group="coordination")
    url = CONF.coordination.backend_url
    parts = urlsplit(url)
    is_shared = bool(parts.hostname)
    where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if is_shared else url
    cluster = CONF.cluster or ""
    problem = _lock_manager_problem(url) if cluster and is_shared else ""
    return LockFacts(cluster, where, is_shared, problem)


def _lock_manager_problem(url: str) -> str:
    """Why it cannot be used; empty when it can."""
    try:
        reach_lock_manager(url)
        coordinator = tooz.coordination.get_coordinator(url, _MEMBER)
        coordinator.start()
        coordinator.stop()
    except Exception as error:  # noqa: BLE001 - tooz's drivers each fail in a way of their own
        words = " ".join(str(error).replace(url, "[URL]").split()) or type(error).__name__
        secret = urlsplit(url).password
        return words.replace(secret, "[password]") if secret else words
    return ""


def reach_lock_manager(url: str) -> None:
    """Connect, where the URL names one address; tooz would try Redis for a minute. OSError.

    One of Sentinel's may be away: its URL names others in `sentinel_fallback`.
    """
    parts = urlsplit(url)
    if parts.scheme in _LOCK_MANAGER_PORTS and "sentinel" not in parse_qs(parts.query):
        address = (parts.hostname, parts.port or _LOCK_MANAGER_PORTS[parts.scheme])
        socket.create_connection(address, REACH_SECONDS).close()


def _records() -> tuple[RecordFacts, Sequence[Any] | None]:
    """What the database says beside volume types, and these, None when it cannot be read."""
    url = CONF.database.connection or ""
    file = re.fullmatch(r"sqlite:////?(?P<path>/[^?]+)(\?.*)?", url)
    if file and not Path(file["path"]).exists():
        return RecordFacts(f"there is no {file['path']}"), None
    try:
        types = list(objects.VolumeTypeList.get_all(context.get_admin_context()))
        return RecordFacts("", _connectors()), types
    except (db_exception.DBError, SQLAlchemyError, exception.CinderException) as error:
        # Its words may quote the URL, with the password.
        return RecordFacts(f"it cannot be read: {type(error).__name__}"), None
    except ImportError as error:
        return RecordFacts(f"it cannot be read: Python has no {error.name} here"), None


def _types(conf: Any, all_types: Sequence[Any]) -> tuple[TypeFacts, ...]:
    """Those whose volumes may be made on this back end."""
    own_name = conf.safe_get("volume_backend_name")
    return tuple(
        _type(each, conf)
        for each in all_types
        if (each.extra_specs or {}).get("volume_backend_name", own_name) == own_name
    )


def _type(volume_type: Any, conf: Any) -> TypeFacts:
    try:
        specs = volume_types.parse(
            volume_type.extra_specs,
            records.qos_limit(volume_type),
            default_replica_count=conf.lightos_default_num_replicas,
            default_compression=conf.lightos_default_compression_enabled,
        )
    except (volume_types.InvalidSpec, InvalidQosSpecs) as error:
        return TypeFacts(volume_type.name, None, str(error))
    return TypeFacts(volume_type.name, specs)


def _connectors() -> tuple[Mapping[str, Any], ...]:
    row = models.VolumeAttachment
    with grants.reading() as session:
        rows = session.query(row.connector).filter(
            row.deleted.is_(False), row.connector.is_not(None)
        )
        found = [json.loads(text) for (text,) in rows]
    return tuple(each for each in found if isinstance(each, dict) and each.get("nqn"))
