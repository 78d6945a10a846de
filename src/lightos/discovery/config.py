# SPDX-License-Identifier: Apache-2.0
"""The daemon's configuration: YAML with the vendor's keys, each overridable as `DC_...`.

`debug.endpoint` in the file is `DC_DEBUG_ENDPOINT` in the environment. Durations are numbers
with units as the vendor's daemon reads them (`5s`, `1m30s`, `250ms`). Keys that tune only the
vendor's implementation are accepted, so its file works unchanged, and named as ignored.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lightos.discovery.desired import Endpoint
from lightos.discovery.entries import validated_port
from lightos.discovery.kernel import ConnectOptions
from lightos.discovery.publish import validated_name

DEFAULT_PATH = Path("/etc/discovery-client/discovery-client.yaml")
ENVIRONMENT_PREFIX = "DC_"

_UNUSED_KEYS = frozenset(
    {
        "auxSuffix",
        "cores",
        "debug.enablepprof",
        "logPagePaginationEnabled",
        "logging.maxAge",
        "logging.maxSize",
        "logging.reportCaller",
    }
)
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 1e-6, "ns": 1e-9}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|us|ns|h|m|s)")
LOG_FORMATS = ("text", "json")
_LOG_LEVELS = {
    "debug": "DEBUG",
    "info": "INFO",
    "warn": "WARNING",
    "warning": "WARNING",
    "error": "ERROR",
    "fatal": "CRITICAL",
}


class ConfigError(Exception):
    """One key that cannot be used; the message names it, where it came from, and why."""


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("is not a text")
    return value


def _secret(value: object) -> str:
    """In the form of `nvme gen-dhchap-key`; a comma in it would start another option."""
    if not re.fullmatch(r"DHHC-1:0[0-3]:[A-Za-z0-9+/]+=*:", _text(value)):
        raise ValueError("is no secret of the form DHHC-1:00:BASE64:")
    return str(value)


def _path(value: object) -> Path:
    path = Path(_text(value))
    if not path.is_absolute():
        raise ValueError("is not an absolute path")
    return path


def _whole(value: object) -> int:
    if isinstance(value, bool) or not re.fullmatch(r"-?[0-9]{1,9}", str(value)):
        raise ValueError("is not a whole number")
    return int(str(value))


def _natural(value: object) -> int:
    if (number := _whole(value)) < 0:
        raise ValueError("is negative")
    return number


def _port(value: object) -> int:
    return validated_port(_whole(value))


def _file_name(value: object) -> str:
    return validated_name(_text(value))


def _loss_timeout(value: object) -> int:
    if (number := _whole(value)) < -1:
        raise ValueError("is below -1 (never give a lost controller up)")
    return number


def _truth(value: object) -> bool:
    if str(value).lower() not in ("true", "false"):
        raise ValueError("is neither true nor false")
    return str(value).lower() == "true"


def _duration(value: object) -> float:
    text = str(value)
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError("is not a duration such as 5s or 1m30s")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _log_level(value: object) -> str:
    try:
        return _LOG_LEVELS[str(value).lower()]
    except KeyError:
        raise ValueError(f"is none of {', '.join(_LOG_LEVELS)}") from None


def _log_format(value: object) -> str:
    if value not in LOG_FORMATS:
        raise ValueError(f"is none of {', '.join(LOG_FORMATS)}")
    return str(value)


def _listen_endpoint(value: object) -> Endpoint:
    host, separator, port = _text(value).rpartition(":")
    if not separator or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ValueError("is not ADDRESS:PORT")
    host = host.removeprefix("[").removesuffix("]")
    if host == "localhost":
        host = "127.0.0.1"
    try:
        return Endpoint(str(ipaddress.ip_address(host or "::")), int(port))
    except ValueError:
        raise ValueError("is not ADDRESS:PORT with an IP address") from None


@dataclass(frozen=True)
class Config:
    """Every setting, checked. Times are seconds; 0 leaves a kernel setting at its default."""

    discovery_dir: Path = Path("/etc/discovery-client/discovery.d")
    internal_dir: Path = Path("/etc/discovery-client/internal")
    host_id_path: Path = Path("/etc/nvme/hostid")
    reconnect_interval_seconds: float = 5.0
    """Longest pause between two tries to reach one cluster."""
    disconnect_delay_seconds: float = 2.0
    """How long a subsystem stays connected after the last file that wanted it went."""
    io_queue_count: int = 0
    keep_alive_timeout_seconds: int = 5
    """The kernel's own default, too: I/O on a path that fell silent waits for up to twice this."""
    ctrl_loss_timeout_seconds: int = 600
    """-1 never gives a lost controller up."""
    reconnect_delay_seconds: int = 2
    """Pause between the kernel's own tries to reconnect a lost controller."""
    dhchap_secret: str | None = field(default=None, repr=False)
    dhchap_controller_secret: str | None = field(default=None, repr=False)
    tls: bool = False
    """I/O controllers are reached by TLS, with a pre-shared key that the kernel holds."""
    tls_keyring: int | None = None
    """Serial number of the keyring to look in, instead of the kernel's `.nvme`."""
    tls_key: int | None = None
    """Serial number of the key, instead of the one that bears both NQNs."""
    auto_detect: bool = False
    """At start, where there is no discovery file, one is made of what is connected."""
    auto_detect_file_name: str = "detected-io-controllers"
    auto_detect_port: int = 8009
    status_enabled: bool = True
    status_endpoint: Endpoint = Endpoint("127.0.0.1", 6060)  # noqa: RUF009 - it is frozen
    log_level: str = "INFO"
    log_format: str = "text"
    log_path: Path | None = None

    def __post_init__(self) -> None:
        if self.discovery_dir == self.internal_dir:
            raise ConfigError(f"clientConfigDir and internalDir are both {self.internal_dir}")
        if self.dhchap_controller_secret and not self.dhchap_secret:
            raise ConfigError("dhChapCtrlSecret needs dhChapSecret")
        if (self.tls_keyring or self.tls_key) and not self.tls:
            raise ConfigError("tlsKeyring and tlsKey need tls: true")
        if self.reconnect_interval_seconds <= 0:
            raise ConfigError("reconnectInterval must be more than 0")

    @property
    def ledger_path(self) -> Path:
        """File of the controllers that the daemon made."""
        return self.internal_dir / "controllers.json"

    @property
    def known_services_path(self) -> Path:
        """File of the discovery services that each cluster had last."""
        return self.internal_dir / "services.json"

    def connect_options(self, ctrl_loss_timeout_seconds: int | None = None) -> ConnectOptions:
        """What the kernel is asked for; a loss time-out given here goes before this one's."""
        loss = ctrl_loss_timeout_seconds
        return ConnectOptions(
            ctrl_loss_timeout_seconds=(
                loss if loss is not None else self.ctrl_loss_timeout_seconds or None
            ),
            reconnect_delay_seconds=self.reconnect_delay_seconds or None,
            keep_alive_timeout_seconds=self.keep_alive_timeout_seconds or None,
            io_queue_count=self.io_queue_count or None,
            dhchap_secret=self.dhchap_secret,
            dhchap_controller_secret=self.dhchap_controller_secret,
            tls=self.tls,
            tls_keyring=self.tls_keyring,
            tls_key=self.tls_key,
        )


KEYS: dict[str, tuple[str, Callable[[object], Any]]] = {
    "clientConfigDir": ("discovery_dir", _path),
    "internalDir": ("internal_dir", _path),
    "nvmeHostIDPath": ("host_id_path", _path),
    "reconnectInterval": ("reconnect_interval_seconds", _duration),
    "disconnectDelay": ("disconnect_delay_seconds", _duration),
    "maxIOQueues": ("io_queue_count", _natural),
    "kato": ("keep_alive_timeout_seconds", _natural),
    "ctrlLossTMO": ("ctrl_loss_timeout_seconds", _loss_timeout),
    "reconnectDelay": ("reconnect_delay_seconds", _natural),
    "dhChapSecret": ("dhchap_secret", _secret),
    "dhChapCtrlSecret": ("dhchap_controller_secret", _secret),
    "tls": ("tls", _truth),
    "tlsKeyring": ("tls_keyring", _natural),
    "tlsKey": ("tls_key", _natural),
    "autoDetectEntries.enabled": ("auto_detect", _truth),
    "autoDetectEntries.filename": ("auto_detect_file_name", _file_name),
    "autoDetectEntries.discoveryServicePort": ("auto_detect_port", _port),
    "debug.metrics": ("status_enabled", _truth),
    "debug.endpoint": ("status_endpoint", _listen_endpoint),
    "logging.level": ("log_level", _log_level),
    "logging.format": ("log_format", _log_format),
    "logging.filename": ("log_path", _path),
}
"""Key in the file -> field of `Config` and how its value is read."""

_SECRET_KEYS = frozenset({"dhChapSecret", "dhChapCtrlSecret"})

_KEY_BY_LOWER_CASE = {key.lower(): key for key in (*KEYS, *_UNUSED_KEYS)}
"""The vendor's daemon (viper) does not tell upper from lower case in keys."""


@dataclass(frozen=True)
class LoadedConfig:
    """A configuration, and the keys that were given but have no effect here."""

    config: Config
    ignored_keys: tuple[str, ...] = ()


def variable(key: str) -> str:
    """Name of the environment variable that overrides a key."""
    return ENVIRONMENT_PREFIX + key.replace(".", "_").upper()


def load(path: Path | None, environment: Mapping[str, str]) -> LoadedConfig:
    """Read the YAML file, if any, and let `DC_...` variables override it.

    With `path` None the default file is read if it exists. Raises `ConfigError`.
    """
    given: dict[str, tuple[str, object]] = {}
    if path or DEFAULT_PATH.exists():
        source = str(path or DEFAULT_PATH)
        for name, value in _flatten(_read_yaml(path or DEFAULT_PATH)).items():
            key = _KEY_BY_LOWER_CASE.get(name.lower())
            if key is None:
                raise ConfigError(f"{source}: unknown key {name}")
            given[key] = (source, value)
    for key in (*KEYS, *_UNUSED_KEYS):
        if (name := variable(key)) in environment:
            given[key] = (name, environment[name])
    values = {}
    for key in given.keys() & KEYS.keys():
        source, value = given[key]
        name, read = KEYS[key]
        try:
            values[name] = read(value)
        except ValueError as error:
            shown = "its value" if key in _SECRET_KEYS else repr(value)
            raise ConfigError(f"{source}: {key}: {shown} {error}") from None
        if key in _SECRET_KEYS and source != variable(key):
            _check_private(Path(source))
    return LoadedConfig(Config(**values), tuple(sorted(given.keys() & _UNUSED_KEYS)))


def _check_private(path: Path) -> None:
    if path.stat().st_mode & 0o077:
        raise ConfigError(
            f"{path}: it holds a secret, and others than its owner may read it: `chmod 600 {path}`"
        )


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML: {_yaml_problem(error)}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: not a mapping of keys to values")
    return content


def _yaml_problem(error: Exception) -> str:
    """What is wrong and where; PyYAML's own text quotes the line, which may hold a secret."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{error.problem} (line {mark.line + 1}, column {mark.column + 1})"
    return " ".join(str(error).split())


def _flatten(content: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            flat.update(_flatten(value, f"{name}."))
        elif value is not None:
            flat[name] = value
    return flat
