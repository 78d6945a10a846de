# SPDX-License-Identifier: Apache-2.0
"""Nova: API, conductor, scheduler, and where instances run.

Without compute hosts of a cloud's own, instances are those of Nova's fake hypervisor.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from testbed.cinder.configuration import Section
from testbed.cinder.paths import PYTHON, VENV_BIN
from testbed.cloud.cloud import KEYSTONE, RABBITMQ, Part
from testbed.cloud.compute_host import ComputeHosts
from testbed.cloud.database import Schema
from testbed.cloud.deployment import Deployment, Endpoint, write_configuration
from testbed.cloud.keystone import connect
from testbed.cloud.network_stub import NetworkStub
from testbed.cloud.placement import Placement
from testbed.cloud.service import Service, wsgi_service
from testbed.kernel_image import CHECKOUT
from testbed.polling import wait_until

USER = "nova"
COMPUTE = Endpoint("nova", ("compute",), 8774, "/v2.1")
FAKE_HOST = "compute-1"
DRIVER_CLASS = "LightOSFakeDriver"
"""Of testbed.cloud.nova_compute."""
UP_SECONDS = 480.0


class Nova:
    """The compute service, as a part of a cloud."""

    title = "Nova: API, scheduler, conductor, compute"
    schemas = (
        Schema("nova_api", "nova", ("nova-manage", "api_db", "sync"), section="api_database"),
        Schema("nova", "nova", ("nova-manage", "db", "sync", "--local_cell")),
        Schema("nova_cell0", "nova", ("nova-manage", "db", "sync", "--local_cell")),
    )
    endpoints = (COMPUTE,)
    users = (USER,)

    def __init__(self, computes: ComputeHosts | None = None) -> None:
        """`computes`: another part of the cloud, where instances run."""
        self._computes = computes
        self.after = (
            *(KEYSTONE, RABBITMQ, Placement.title, NetworkStub.title),
            *([computes.title] if computes else []),
        )

    def start(self, deployment: Deployment) -> None:
        """Start all of it; returns when every compute host can be given instances."""
        folder = deployment.configuration("nova")
        shipped = Path(sys.prefix, "etc/nova/api-paste.ini")
        shutil.copyfile(shipped, folder / shipped.name)
        sections = _conf(deployment)
        arguments = ["--config-file", write_configuration(folder / "nova.conf", sections)]
        _map_cells(deployment, arguments)

        def service(name: str, *program: str | Path) -> Service:
            return Service(deployment, name, [*program, *arguments])

        self.api = wsgi_service(
            deployment,
            "nova-api",
            "nova.wsgi.osapi_compute",
            COMPUTE.port,
            environment={"OS_NOVA_CONFIG_DIR": str(folder)},
        )
        self.conductor = service("nova-conductor", VENV_BIN / "nova-conductor")
        self.scheduler = service("nova-scheduler", VENV_BIN / "nova-scheduler")
        for each in (self.conductor, self.scheduler, self.api):
            each.start()
        self.api.wait_listening(COMPUTE.port)
        # Last: nova-compute loses 10 s when the conductor is not there yet.
        if self._computes:
            names = {host.name for host in self._computes.hosts}
            for host in self._computes.hosts:
                host.configure(sections)
                host.start_compute()
        else:
            names = {FAKE_HOST}
            fake = service("nova-compute", PYTHON, "-m", "testbed.cloud.nova_compute")
            fake.environment["PYTHONPATH"] = str(CHECKOUT)
            fake.start()
        wait_until(
            lambda: names <= _hosts_up(deployment),
            f"{', '.join(sorted(names))} to be hosts of Nova's, see logs of nova-compute",
            UP_SECONDS,
            pause=0.5,
        )


def parts_with_compute_hosts() -> tuple[Part, ...]:
    """What a cloud has beside its own services to run instances on hosts with libvirt."""
    computes = ComputeHosts()
    return Placement(), NetworkStub(), computes, Nova(computes)


def _map_cells(deployment: Deployment, arguments: list[str | Path]) -> None:
    """Tell the API of its databases: cell0 keeps instances that never found a host."""
    cell0 = deployment.database_url("nova_cell0")
    commands = {
        "nova-map-cell0": ("map_cell0", f"--database_connection={cell0}"),
        "nova-create-cell": ("create_cell", "--name=cell1"),
    }

    def run(name: str) -> None:
        command = [VENV_BIN / "nova-manage", *arguments, "cell_v2", *commands[name]]
        Service(deployment, name, command).run()

    with ThreadPoolExecutor(len(commands)) as pool:
        list(pool.map(run, commands))


def _hosts_up(deployment: Deployment) -> set[str]:
    """The compute hosts that take messages, and are mapped to the cell."""
    deployment.check_wanted()
    compute = connect(deployment).compute
    # A service is "up" as soon as it is entered; it reports, first, when it takes messages.
    reported = {s.host for s in compute.services() if s.binary == "nova-compute" and s.updated_at}
    mapped = {
        hypervisor.service_details["host"] for hypervisor in compute.hypervisors(details=True)
    }
    return reported & mapped


def _conf(deployment: Deployment) -> Mapping[str, Section]:
    """Every section of nova.conf."""
    state = deployment.state("nova")
    login = deployment.credentials(USER)
    internal = {**login, "valid_interfaces": "internal"}
    return {
        "DEFAULT": {
            "use_stderr": True,
            "debug": True,
            "host": FAKE_HOST,
            "my_ip": deployment.address,
            "transport_url": deployment.transport_url,
            "compute_driver": f"fake.{DRIVER_CLASS}",
            "state_path": state,
            "instances_path": state / "instances",
            "report_interval": 5,
            "service_down_time": 60,
        },
        "api_database": {"connection": deployment.database_url("nova_api")},
        "database": {"connection": deployment.database_url("nova")},
        "keystone_authtoken": deployment.token_check(USER),
        # Cinder deletes an attachment that an instance uses only at the word of a service.
        "service_user": {**login, "send_service_user_token": True},
        "placement": internal,
        "neutron": internal,
        "glance": internal,
        "keystone": internal,
        "cinder": {**login, "catalog_info": "block-storage:cinder:internalURL"},
        "key_manager": {
            "backend": "nova.keymgr.conf_key_mgr.ConfKeyManager",
            "fixed_key": deployment.fixed_key,
        },
        "conductor": {"workers": 1},
        "scheduler": {"workers": 1, "discover_hosts_in_cells_interval": 2},
        "oslo_concurrency": {"lock_path": state / "locks"},
        "oslo_messaging_notifications": {"driver": "noop"},
    }
