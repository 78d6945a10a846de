# SPDX-License-Identifier: Apache-2.0
"""The configuration folder of one Cinder deployment: cinder.conf and the files it points to."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from testbed.cinder.database import connection_url
from testbed.cinder.paths import SHIPPED_CONFIG_DIR

Section = Mapping[str, object]

DRIVER = "cinder.volume.drivers.lightos.LightOSVolumeDriver"
HOST = "cinder"


@dataclass(frozen=True)
class Deployment:
    """What one cinder.conf says.

    ``backends`` maps each enabled backend's name to its section. ``database_options``
    is the section of the database's name; without it, the database is a file in the folder, and
    without ``coordination``, the ``backend_url`` of the locks, so are these.
    """

    config_dir: Path
    api_address: str
    api_port: int
    backends: Mapping[str, Section]
    debug: bool = True
    default: Section = field(default_factory=dict)
    database_options: Section = field(default_factory=dict)
    coordination: str | None = None

    @property
    def conf_file(self) -> Path:
        return self.config_dir / "cinder.conf"

    @property
    def log_file(self) -> Path:
        return self.config_dir / "cinder.log"

    @property
    def database(self) -> Path:
        return self.config_dir / "cinder.sqlite"


def lightos_backend(lab: Mapping[str, Any]) -> dict[str, object]:
    """The driver guide's ``[lightos]`` section for the cluster that ``lab`` (lab.json) describes.

    The two TLS options are the guide's answer to a cluster whose certificates come from a private
    CA. An implementation that has no CA option cannot verify such a cluster: see
    ``unverified_tls``.
    """
    return {
        "volume_driver": DRIVER,
        "volume_backend_name": "lightos",
        "lightos_api_address": ",".join(lab["api_addresses"]),
        "lightos_api_port": lab["api_port"],
        "lightos_jwt": Path(lab["jwt_file"]).read_text().strip(),
        "lightos_default_num_replicas": 3,
        "lightos_default_compression_enabled": False,
        "lightos_api_service_timeout": 30,
        "driver_ssl_cert_verify": True,
        "driver_ssl_cert_path": lab["ca_file"],
    }


def unverified_tls(backend: Section) -> dict[str, object]:
    """The same backend for cinder 29's own driver, which cannot be given a CA."""
    kept = {name: value for name, value in backend.items() if name != "driver_ssl_cert_path"}
    return kept | {"driver_ssl_cert_verify": False}


def sections(deployment: Deployment) -> dict[str, Section]:
    """Every section of cinder.conf, in order."""
    config_dir = deployment.config_dir
    return {
        "DEFAULT": {
            "host": HOST,
            "my_ip": deployment.api_address,
            "osapi_volume_listen": deployment.api_address,
            "osapi_volume_listen_port": deployment.api_port,
            "auth_strategy": "noauth",
            "transport_url": "fake:/",
            "enabled_backends": ",".join(deployment.backends),
            "api_paste_config": config_dir / "api-paste.ini",
            "resource_query_filters_file": config_dir / "resource_filters.json",
            "state_path": config_dir / "state",
            "log_file": deployment.log_file,
            "debug": deployment.debug,
            # A testbed sees a dead service, and a changed capacity, in seconds.
            "report_interval": 2,
            "service_down_time": 6,
            "backend_stats_polling_interval": 5,
            "periodic_interval": 5,
            "periodic_fuzzy_delay": 0,
            # The volume services start first: a backend silent by then is down.
            "scheduler_driver_init_wait_time": 1,
            "reinit_driver_count": 0,
            **deployment.default,
        },
        "database": deployment.database_options
        or {"connection": connection_url(deployment.database), "sqlite_synchronous": False},
        "oslo_concurrency": {"lock_path": config_dir / "state" / "locks"},
        "coordination": {
            "backend_url": deployment.coordination
            or f"file://{config_dir / 'state' / 'coordination'}"
        },
        "oslo_messaging_notifications": {"driver": "noop"},
        **deployment.backends,
    }


def render(conf: Mapping[str, Section]) -> str:
    return "\n".join(
        "\n".join([f"[{name}]", *(f"{option} = {value}" for option, value in section.items()), ""])
        for name, section in conf.items()
    )


def write(deployment: Deployment) -> None:
    """Write the folder. cinder.conf holds the JWT: only its owner may read it."""
    for folder in ("locks", "coordination"):
        (deployment.config_dir / "state" / folder).mkdir(parents=True, exist_ok=True)
    for shipped in ("api-paste.ini", "resource_filters.json"):
        shutil.copyfile(SHIPPED_CONFIG_DIR / shipped, deployment.config_dir / shipped)
    deployment.conf_file.unlink(missing_ok=True)
    descriptor = os.open(deployment.conf_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as conf_file:
        conf_file.write(render(sections(deployment)))
