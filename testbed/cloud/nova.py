# SPDX-License-Identifier: Apache-2.0
"""Nova: API, conductor, scheduler, and a compute host with Nova's fake hypervisor."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from testbed.cinder.configuration import Section
from testbed.cinder.paths import PYTHON, VENV_BIN
from testbed.cloud.cloud import KEYSTONE, RABBITMQ
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
COMPUTE_HOST = "compute-1"
DRIVER_CLASS = "LightOSFakeDriver"
"""Of testbed.cloud.nova_compute."""
UP_SECONDS = 120.0


class Nova:
    """The compute service, as a part of a cloud."""

    title = "Nova: API, scheduler, conductor, compute"
    after = (KEYSTONE, RABBITMQ, Placement.title, NetworkStub.title)
    schemas = (
        Schema("nova_api", "nova", ("nova-manage", "api_db", "sync"), section="api_database"),
        Schema("nova", "nova", ("nova-manage", "db", "sync", "--local_cell")),
        Schema("nova_cell0", "nova", ("nova-manage", "db", "sync", "--local_cell")),
    )
    endpoints = (COMPUTE,)
    users = (USER,)

    def start(self, deployment: Deployment) -> None:
        """Start all of it; returns when the compute host can be given instances."""
        folder = deployment.configuration("nova")
        shipped = Path(sys.prefix, "etc/nova/api-paste.ini")
        shutil.copyfile(shipped, folder / shipped.name)
        arguments = ["--config-file", write_configuration(folder / "nova.conf", _conf(deployment))]
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
        self.compute = service("nova-compute", PYTHON, "-m", "testbed.cloud.nova_compute")
        self.compute.environment["PYTHONPATH"] = str(CHECKOUT)
        for each in (self.conductor, self.scheduler, self.api):
            each.start()
        self.api.wait_listening(COMPUTE.port)
        self.compute.start()  # last: it loses 10 s when the conductor is not there yet
        wait_until(
            lambda: _host_is_up(deployment),
            f"{COMPUTE_HOST} to be a host of Nova's, see {self.compute.log_file}",
            UP_SECONDS,
            pause=0.5,
        )


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


def _host_is_up(deployment: Deployment) -> bool:
    """Whether the host takes messages, and is mapped to the cell."""
    deployment.check_wanted()
    compute = connect(deployment).compute
    # A service is "up" as soon as it is entered; it reports, first, when it takes messages.
    reported = any(s.binary == "nova-compute" and s.updated_at for s in compute.services())
    return reported and any(compute.hypervisors())


def _conf(deployment: Deployment) -> Mapping[str, Section]:
    """Every section of nova.conf."""
    state = deployment.state("nova")
    login = deployment.credentials(USER)
    internal = {**login, "valid_interfaces": "internal"}
    return {
        "DEFAULT": {
            "use_stderr": True,
            "debug": True,
            "host": COMPUTE_HOST,
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
        "conductor": {"workers": 1},
        "scheduler": {"workers": 1, "discover_hosts_in_cells_interval": 2},
        "oslo_concurrency": {"lock_path": state / "locks"},
        "oslo_messaging_notifications": {"driver": "noop"},
    }
