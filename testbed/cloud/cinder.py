# SPDX-License-Identifier: Apache-2.0
"""Cinder: API and scheduler here, and the configuration of any number of volume hosts."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from testbed.cinder.configuration import Section, lightos_backend
from testbed.cinder.paths import SHIPPED_CONFIG_DIR, VENV_BIN
from testbed.cloud.database import Schema
from testbed.cloud.deployment import BLOCK_STORAGE, Deployment, write_configuration
from testbed.cloud.service import Service, wsgi_service

USER = "cinder"
SCHEMAS = (Schema("cinder", "cinder", ("cinder-manage", "db", "sync")),)
ENDPOINTS = (BLOCK_STORAGE,)
BACKENDS: Mapping[str, Section] = {
    "lightos-1": {"image_volume_cache_enabled": True, "image_volume_cache_max_count": 10},
    "lightos-2": {"lightos_sparse_image_upload": True},
}
"""The back ends by name, each with what the other has not, so that both ways are taken."""
DEFAULT_VOLUME_TYPE = "lightos"


@dataclass(frozen=True)
class VolumeTenant:
    """Who owns the volumes that Cinder keeps for itself, its image cache (Keystone's ids)."""

    project_id: str
    user_id: str


@dataclass
class Cinder:
    """The block storage service of one cloud.

    `coordination_url`: where its processes take the locks they share; by default files, which is
    enough for one cinder-volume. Without `with_keystone`, everyone is an administrator.
    """

    deployment: Deployment
    coordination_url: str | None = None
    default: Section = field(default_factory=dict)
    """Further options of the section DEFAULT, for every service."""
    sections: Mapping[str, Section] = field(default_factory=dict)
    """Further sections, for every service."""
    with_keystone: bool = True

    def __post_init__(self) -> None:
        folder = self.deployment.configuration("cinder")
        arguments = ["--config-file", folder / "cinder.conf"]
        self.api = wsgi_service(
            self.deployment,
            "cinder-api",
            "cinder.wsgi.api",
            BLOCK_STORAGE.port,
            arguments=arguments,
        )
        scheduler = [VENV_BIN / "cinder-scheduler", *arguments]
        self.scheduler = Service(self.deployment, "cinder-scheduler", scheduler)

    def start(self) -> None:
        """Start API and scheduler, wait for the API; database and message bus must answer."""
        self.configure("cinder", self.deployment.state("cinder"), {})
        self.scheduler.start()
        self.api.start()
        self.api.wait_listening(BLOCK_STORAGE.port)

    def configure_volume_host(
        self,
        host: str,
        lab: Mapping[str, Any],
        tenant: VolumeTenant,
        *,
        address: str,
        state: Path,
        default: Section | None = None,
        lightos: Section | None = None,
    ) -> Path:
        """The configuration folder of cinder-volume and cinder-backup on `host`.

        `lab`: the content of lab.json. `address`: the host's own. `state`: a folder on that host.
        `default` and `lightos`: options of DEFAULT and of both back ends that differ.
        """
        backends = {name: {**self._backend(name, lab), **(lightos or {})} for name in BACKENDS}
        options = {
            "host": host,
            "my_ip": address,
            "enabled_backends": ",".join(backends),
            "cinder_internal_tenant_project_id": tenant.project_id,
            "cinder_internal_tenant_user_id": tenant.user_id,
            "backup_driver": "cinder.backup.drivers.posix.PosixBackupDriver",
            "backup_posix_path": state / "backup",
            "backup_compression_algorithm": "none",
            # A restore has a whole object in memory, of which a process on the volume host can
            # map little: the machine's vm.max_map_count is its limit, a page each.
            "backup_file_size": 16 << 20,
            **(default or {}),
        }
        return self.configure(f"cinder-{host}", state, options, backends)

    def configure(
        self,
        name: str,
        state: Path,
        options: Section,
        backends: Mapping[str, Section] | None = None,
    ) -> Path:
        """Write the configuration folder `name`, with `options` added to the section DEFAULT."""
        folder = self.deployment.configuration(name)
        for shipped in ("api-paste.ini", "resource_filters.json"):
            shutil.copyfile(SHIPPED_CONFIG_DIR / shipped, folder / shipped)
        write_configuration(folder / "rootwrap.conf", _rootwrap())
        sections = self._sections(folder, state)
        sections["DEFAULT"] |= {**self.default, **options}
        if self.with_keystone:
            sections |= self._credentials()
        everything = {**sections, **self.sections, **(backends or {})}
        write_configuration(folder / "cinder.conf", everything)
        return folder

    def _backend(self, name: str, lab: Mapping[str, Any]) -> Section:
        return {**lightos_backend(lab), "volume_backend_name": name, **BACKENDS[name]}

    def _sections(self, folder: Path, state: Path) -> dict[str, dict[str, object]]:
        deployment = self.deployment
        return {
            "DEFAULT": {
                "use_stderr": True,
                "debug": True,
                "my_ip": deployment.address,
                "auth_strategy": "keystone" if self.with_keystone else "noauth",
                "transport_url": deployment.transport_url,
                "state_path": state,
                "api_paste_config": folder / "api-paste.ini",
                "resource_query_filters_file": folder / "resource_filters.json",
                "rootwrap_config": folder / "rootwrap.conf",
                "default_volume_type": DEFAULT_VOLUME_TYPE,
                "glance_catalog_info": "image:glance:internalURL",
                "allow_force_upload": True,
                "allow_availability_zone_fallback": True,
                # A testbed sees a dead service, and a changed capacity, in seconds.
                "report_interval": 3,
                "service_down_time": 15,
                "backend_stats_polling_interval": 10,
                "periodic_fuzzy_delay": 0,
                "scheduler_driver_init_wait_time": 5,
            },
            "database": {"connection": deployment.database_url("cinder")},
            "key_manager": {
                "backend": "cinder.keymgr.conf_key_mgr.ConfKeyManager",
                "fixed_key": deployment.fixed_key,
            },
            "oslo_concurrency": {"lock_path": state / "locks"},
            "coordination": {
                "backend_url": self.coordination_url or f"file://{state / 'coordination'}"
            },
            "oslo_messaging_notifications": {"driver": "noop"},
        }

    def _credentials(self) -> dict[str, Section]:
        """How Cinder checks tokens, and speaks to the other services."""
        own = self.deployment.credentials(USER)
        return {
            "keystone_authtoken": self.deployment.token_check(USER),
            "service_user": {**own, "send_service_user_token": True},
            "nova": {**own, "interface": "internal"},
        }


def _rootwrap() -> dict[str, Section]:
    """Where Cinder's root helper finds the commands it may run, in a virtualenv."""
    programs = [VENV_BIN, "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/bin"]
    return {
        "DEFAULT": {
            "filters_path": f"{SHIPPED_CONFIG_DIR / 'rootwrap.d'}",
            "exec_dirs": ",".join(str(path) for path in programs),
            "use_syslog": False,
        }
    }
