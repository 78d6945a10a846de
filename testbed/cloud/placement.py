# SPDX-License-Identifier: Apache-2.0
"""Placement: the inventory that Nova's scheduler asks for a host."""

from __future__ import annotations

from testbed.cloud.cloud import KEYSTONE
from testbed.cloud.database import Schema
from testbed.cloud.deployment import Deployment, Endpoint, write_configuration
from testbed.cloud.service import wsgi_service

USER = "placement"
PLACEMENT = Endpoint("placement", ("placement",), 8778)


class Placement:
    """The placement service, as a part of a cloud."""

    title = "Placement"
    after = (KEYSTONE,)
    schemas = (
        Schema(
            "placement",
            "openstack-placement",
            ("placement-manage", "db", "sync"),
            section="placement_database",
        ),
    )
    endpoints = (PLACEMENT,)
    users = (USER,)

    def start(self, deployment: Deployment) -> None:
        folder = deployment.configuration("placement")
        write_configuration(
            folder / "placement.conf",
            {
                "DEFAULT": {"use_stderr": True},
                "api": {"auth_strategy": "keystone"},
                "placement_database": {"connection": deployment.database_url("placement")},
                "keystone_authtoken": deployment.token_check(USER),
            },
        )
        self.api = wsgi_service(
            deployment,
            "placement",
            "placement.wsgi.api",
            PLACEMENT.port,
            environment={"OS_PLACEMENT_CONFIG_DIR": str(folder)},
        )
        self.api.start()
        self.api.wait_listening(PLACEMENT.port)
