# SPDX-License-Identifier: Apache-2.0
"""RabbitMQ between the services, with a node name, ports and folders of its own."""

from __future__ import annotations

from testbed.cloud.deployment import MESSAGE_BUS_PORT, Deployment, write_file
from testbed.cloud.packages import Packages
from testbed.cloud.service import Service

_EPMD_PORT = 4369
_DISTRIBUTION_PORT = 25672


class MessageBus:
    """The RabbitMQ server of one cloud."""

    def __init__(self, deployment: Deployment, packages: Packages) -> None:
        self._deployment = deployment
        folder = deployment.configuration("rabbitmq")
        state = deployment.state("rabbitmq")
        self._settings_file = folder / "rabbitmq.conf"
        environment = {
            **packages.environment,
            "HOME": str(state),  # Erlang's cookie
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(self._settings_file),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_NODENAME": "lightos@localhost",
            "RABBITMQ_MNESIA_BASE": str(state / "mnesia"),
            "RABBITMQ_LOG_BASE": str(state / "log"),
            # Only this node talks to itself: loopback of the namespace.
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(_EPMD_PORT),
            "RABBITMQ_DIST_PORT": str(_DISTRIBUTION_PORT),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none"
            ),
        }
        # Not the one in usr/sbin: that changes to a user which only an installation makes.
        server = packages.root / "usr/lib/rabbitmq/bin/rabbitmq-server"
        self.service = Service(deployment, "rabbitmq", [server], environment)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        settings = {
            "listeners.tcp.1": f"{self._deployment.address}:{MESSAGE_BUS_PORT}",
            "default_user": "openstack",
            "default_pass": self._deployment.password("message-bus"),
            "log.console": "true",
            "log.file": "false",
        }
        text = "".join(f"{name} = {value}\n" for name, value in settings.items())
        write_file(self._settings_file, text)
        self.service.start()
        self.service.wait_listening(MESSAGE_BUS_PORT)
