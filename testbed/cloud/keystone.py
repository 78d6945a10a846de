# SPDX-License-Identifier: Apache-2.0
"""Keystone: its API, and what it is to know of users and of the other APIs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import openstack
from cryptography.fernet import Fernet
from openstack.connection import Connection

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
from testbed.cloud.service import wsgi_service

SCHEMAS = (Schema("keystone", "keystone", ("keystone-manage", "db_sync")),)
ENDPOINTS = (IDENTITY,)
APPLICATION = Path(__file__).with_name("keystone_application.py")


class Keystone:
    """The identity service of one cloud."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._configuration = deployment.configuration("keystone") / "keystone.conf"
        self.api = wsgi_service(
            deployment,
            "keystone",
            str(APPLICATION),
            IDENTITY.port,
            environment={"OS_KEYSTONE_CONFIG_FILES": str(self._configuration)},
        )

    def start(self, users: Iterable[str], endpoints: Iterable[Endpoint]) -> None:
        """Start the API; the database must answer.

        The administrator, the services' `users` and the catalogue with the APIs at `endpoints`
        are there once it answers.
        """
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
                # One process, so its memory will do. Without a cache every token that is checked
                # costs a look at all that were ever revoked: seconds, once there were many.
                "cache": {"enabled": True, "backend": "dogpile.cache.memory"},
            },
        )
        identities = {
            "admin": self._login(ADMIN),
            "project": SERVICE_PROJECT,
            "users": [self._login(name) for name in users],
            "region": REGION,
            "identity": self._urls(IDENTITY),
            "catalogue": [
                {"name": endpoint.name, "type": service_type, "urls": self._urls(endpoint)}
                for endpoint in endpoints
                for service_type in endpoint.service_types
            ],
        }
        write_file(self._configuration.with_name("identities.json"), json.dumps(identities))
        self.api.start()
        self.api.wait_listening(IDENTITY.port)

    def _login(self, user: str) -> dict[str, str]:
        return {"name": user, "password": self._deployment.password(user)}

    def _urls(self, endpoint: Endpoint) -> dict[str, str]:
        return {
            "public": self._deployment.public_url(endpoint),
            "internal": self._deployment.internal_url(endpoint),
        }


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
