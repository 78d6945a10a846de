# SPDX-License-Identifier: Apache-2.0
"""tempest.conf for a cloud of the testbed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from testbed.cinder.configuration import Section

BUILD_TIMEOUT_SECONDS = 600
_WITH_HYPERVISOR = (
    *("rescue", "stable_rescue"),
    *("volume_backed_live_migration", "block_migration_for_live_migration"),
)
"""Features of the compute service that Nova's fake driver has not."""


@dataclass(frozen=True)
class Settings:
    """What tempest has to know of the cloud that it tests.

    `flavor_ids` and `image_ids` are two each; `back_ends` are the two `volume_backend_name`s;
    `vendor_name` and `storage_protocol` are what the scheduler says of the back ends;
    `compute_hosts` is how many hosts run instances, none with Nova's fake hypervisor.
    """

    keystone_url: str
    region: str
    admin_password: str
    image_ids: tuple[str, str]
    flavor_ids: tuple[str, str]
    back_ends: tuple[str, ...]
    multiattach_type: str
    vendor_name: str
    storage_protocol: str
    compute_hosts: int
    availability_zone: str = "nova"


def sections(settings: Settings, folder: Path) -> dict[str, Section]:
    """Every section of tempest.conf; tempest's logs and locks are put into `folder`."""
    return {
        "DEFAULT": {"log_file": folder / "tempest.log", "debug": True},
        "oslo_concurrency": {"lock_path": folder / "locks"},
        "auth": {
            "admin_username": "admin",
            "admin_project_name": "admin",
            "admin_password": settings.admin_password,
            "admin_domain_name": "Default",
            "use_dynamic_credentials": True,
            "create_isolated_networks": False,
        },
        "identity": {
            "uri_v3": settings.keystone_url,
            "auth_version": "v3",
            "region": settings.region,
            "v3_endpoint_type": "internal",
        },
        # The network service has nothing, but without one tempest skips whole classes.
        "service_available": dict.fromkeys(("cinder", "glance", "nova", "neutron"), True)
        | dict.fromkeys(("swift", "horizon"), False),
        # An instance is a boot sector or nothing at all: nobody can log in to it.
        "validation": {"run_validation": False},
        "image": {"endpoint_type": "internal"},
        "network": {"endpoint_type": "internal"},
        "compute": {
            "endpoint_type": "internal",
            "image_ref": settings.image_ids[0],
            "image_ref_alt": settings.image_ids[1],
            "flavor_ref": settings.flavor_ids[0],
            "flavor_ref_alt": settings.flavor_ids[1],
            "min_microversion": "2.1",
            "max_microversion": "latest",
            "min_compute_nodes": max(1, settings.compute_hosts),
        },
        "compute-feature-enabled": {
            "attach_encrypted_volume": True,
            "volume_multiattach": True,
            "resize": True,
            **dict.fromkeys(_WITH_HYPERVISOR, settings.compute_hosts > 0),
            "console_output": False,
            "interface_attach": False,
        },
        "volume": {
            "catalog_type": "block-storage",
            "endpoint_type": "internal",
            "region": settings.region,
            "min_microversion": "3.0",
            "max_microversion": "latest",
            "backend_names": ",".join(settings.back_ends),
            "volume_type_multiattach": settings.multiattach_type,
            "vendor_name": settings.vendor_name,
            "storage_protocol": settings.storage_protocol,
            "backup_driver": "posix",
            "manage_volume_ref": "source-name,volume-%s",
            "manage_snapshot_ref": "source-name,snapshot-%s",
            "build_timeout": BUILD_TIMEOUT_SECONDS,
            "build_interval": 1,
        },
        "volume-feature-enabled": {
            "backup": True,
            "clone": True,
            "snapshot": True,
            "multi_backend": True,
            "manage_volume": True,
            "manage_snapshot": True,
            "volume_revert": True,
            "extend_attached_volume": True,
            "extend_attached_encrypted_volume": True,
            "extend_volume_with_snapshot": True,
            "enable_volume_image_dep_tests": True,
            "concurrency_tests": True,
            # What the driver has not: each leaves out the tests that need it.
            "consistency_group": False,
            "replication": False,
        },
    }
