# SPDX-License-Identifier: Apache-2.0
"""Keystone: its API, the first administrator, and the services' users and catalogue entries."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import openstack
from cryptography.fernet import Fernet
from openstack.connection import Connection

from testbed.cinder.paths import VENV_BIN
from testbed.cloud.database import Schema
from testbed.cloud.deployment import (
    ADMIN,
    DOMAIN,
    IDENTITY,
    REGION,
    SERVICE_PROJECT,
    Deployment,
    Endpoint,
    write_configuration,
    write_file,
)
from testbed.cloud.service import Service, wsgi_service

SCHEMAS = (Schema("keystone", "keystone", ("keystone-manage", "db_sync")),)
ENDPOINTS = (IDENTITY,)


class Keystone:
    """The identity service of one cloud."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._configuration = deployment.configuration("keystone") / "keystone.conf"
        self.api = wsgi_service(
            deployment,
            "keystone",
            "keystone.wsgi.api",
            IDENTITY.port,
            environment={"OS_KEYSTONE_CONFIG_FILES": str(self._configuration)},
        )

    def start(self) -> None:
        """Start the API with its administrator; the database must answer."""
        state = self._deployment.state("keystone")
        tokens, credentials = state / "fernet-keys", state / "credential-keys"
        for folder in (tokens, credentials):
            _make_keys(folder)
        write_configuration(
            self._configuration,
            {
                "DEFAULT": {"use_stderr": True},
                "database": {"connection": self._deployment.database_url("keystone")},
                "token": {"provider": "fernet"},
                "fernet_tokens": {"key_repository": tokens},
                "fernet_receipts": {"key_repository": tokens},
                "credential": {"key_repository": credentials},
                # Passwords are random and live as long as the cloud: slow hashes protect nothing.
                # 72 characters are all that bcrypt looks at.
                "identity": {"password_hash_rounds": 4, "max_password_length": 72},
                "cache": {"enabled": False},
            },
        )
        self.api.start()
        self._bootstrap()
        self.api.wait_listening(IDENTITY.port)

    def add_services(self, users: Iterable[str], endpoints: Iterable[Endpoint]) -> None:
        """Make the services' users, and enter their APIs into the catalogue."""
        admin = connect(self._deployment)
        identity = admin.identity
        project = identity.create_project(name=SERVICE_PROJECT, domain_id="default")
        roles = [identity.find_role(name) for name in ("admin", "service")]
        for name in users:
            self._deployment.check_wanted()
            user = identity.create_user(
                name=name,
                password=self._deployment.password(name),
                domain_id="default",
                default_project_id=project.id,
            )
            for role in roles:
                identity.assign_project_role_to_user(project, user, role)
        for endpoint in endpoints:
            for service_type in endpoint.service_types:
                self._deployment.check_wanted()
                service = identity.create_service(name=endpoint.name, type=service_type)
                for interface, url in (
                    ("public", self._deployment.public_url(endpoint)),
                    ("internal", self._deployment.internal_url(endpoint)),
                ):
                    identity.create_endpoint(
                        service_id=service.id, interface=interface, url=url, region_id=REGION
                    )

    def _bootstrap(self) -> None:
        urls = {
            "admin": self._deployment.internal_url(IDENTITY),
            "internal": self._deployment.internal_url(IDENTITY),
            "public": self._deployment.public_url(IDENTITY),
        }
        command = [
            *(VENV_BIN / "keystone-manage", "--config-file", self._configuration, "bootstrap"),
            *(f"--bootstrap-{interface}-url={url}" for interface, url in urls.items()),
            f"--bootstrap-region-id={REGION}",
        ]
        environment = {"OS_BOOTSTRAP_PASSWORD": self._deployment.password(ADMIN)}
        Service(self._deployment, "keystone-bootstrap", command, environment).run()


def connect(
    deployment: Deployment,
    *,
    username: str = ADMIN,
    password: str | None = None,
    project: str = ADMIN,
) -> Connection:
    """The cloud's APIs as a user sees them from outside, through the published ports."""
    return openstack.connect(
        auth_url=deployment.public_url(IDENTITY),
        username=username,
        password=password or deployment.password(username),
        project_name=project,
        user_domain_name=DOMAIN,
        project_domain_name=DOMAIN,
        region_name=REGION,
        load_yaml_config=False,
        load_envvars=False,
        app_name="lightos-testbed",
    )


def _make_keys(folder: Path) -> None:
    """A Fernet key repository: 0 is staged as the next primary key, 1 is primary."""
    folder.mkdir(mode=0o700)
    for name in ("0", "1"):
        write_file(folder / name, Fernet.generate_key().decode())
