# SPDX-License-Identifier: Apache-2.0
"""Where one cloud lives, and what its services have to know of each other."""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from testbed.cinder.configuration import Section, render
from testbed.network import GATEWAY_ADDRESS, Network

REGION = "RegionOne"
DOMAIN = "Default"
ADMIN = "admin"
SERVICE_PROJECT = "service"
DATABASE_PORT = 3306
MESSAGE_BUS_PORT = 5672
_FACTS = "cloud.json"


class NotWanted(Exception):
    """The cloud is being taken away while a part of it was still starting."""


@dataclass(frozen=True)
class Endpoint:
    """An API of the cloud. `service_types`: under which names the catalogue has it."""

    name: str
    service_types: tuple[str, ...]
    port: int
    path: str = ""


IDENTITY = Endpoint("keystone", ("identity",), 5000, "/v3")
IMAGE = Endpoint("glance", ("image",), 9292)
BLOCK_STORAGE = Endpoint("cinder", ("block-storage", "volumev3"), 8776, "/v3")


@dataclass
class Deployment:
    """Folder, namespace, passwords and addresses of one cloud."""

    network: Network
    folder: Path
    public_ports: Mapping[str, int] = field(default_factory=dict)
    """Port on 127.0.0.1 of the machine, by the endpoint's name."""
    _passwords: dict[str, str] = field(default_factory=dict, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _unwanted: threading.Event = field(default_factory=threading.Event, init=False, repr=False)

    @property
    def address(self) -> str:
        """The namespace's bridge: every service listens there, guests reach it too."""
        return GATEWAY_ADDRESS

    def save(self) -> None:
        """Write what `load` needs."""
        facts = {
            "network": self.network.name,
            "public_ports": dict(self.public_ports),
            "passwords": self._passwords,
        }
        write_file(self.folder / _FACTS, json.dumps(facts, indent=1))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """A deployment that another process has made. Raises `FileNotFoundError`."""
        facts = json.loads((folder / _FACTS).read_text())
        found = cls(Network(facts["network"]), folder.absolute(), facts["public_ports"])
        found._passwords.update(facts["passwords"])
        return found

    @property
    def programs(self) -> Path:
        """First folder of the services' PATH."""
        return self.folder / "bin"

    @property
    def openrc(self) -> Path:
        return self.folder / "openrc"

    def make_folders(self) -> None:
        """Make the folder, for its owner only; one that is there must be empty."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        (self.folder / "logs").mkdir()
        self.programs.mkdir()
        # Cinder and Nova put `sudo` before every privileged command. The cloud runs as root, and
        # a bare machine has no sudo.
        write_file(self.programs / "sudo", '#!/bin/sh\nexec "$@"\n', 0o755)

    def configuration(self, service: str) -> Path:
        """The configuration folder of a service, made if need be."""
        folder = self.folder / "etc" / service
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def state(self, service: str) -> Path:
        """Where a service keeps its files, made if need be."""
        folder = self.folder / "lib" / service
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def log_file(self, service: str) -> Path:
        return self.folder / "logs" / f"{service}.log"

    def password(self, owner: str) -> str:
        """A user's password, the same in database, message bus and Keystone; made at first use."""
        with self._lock:
            return self._passwords.setdefault(owner, secrets.token_hex(16))

    def internal_url(self, endpoint: Endpoint) -> str:
        return f"http://{self.address}:{endpoint.port}{endpoint.path}"

    def public_url(self, endpoint: Endpoint) -> str:
        return f"http://127.0.0.1:{self.public_ports[endpoint.name]}{endpoint.path}"

    def database_url(self, database: str) -> str:
        login = f"{database}:{self.password(database)}"
        return f"mysql+pymysql://{login}@{self.address}:{DATABASE_PORT}/{database}?charset=utf8"

    @property
    def transport_url(self) -> str:
        login = f"openstack:{self.password('message-bus')}"
        return f"rabbit://{login}@{self.address}:{MESSAGE_BUS_PORT}/"

    @property
    def fixed_key(self) -> str:
        """The one key of all encrypted volumes, for the key managers of Cinder and Nova."""
        return self.password("volume-encryption")

    def credentials(self, user: str) -> dict[str, object]:
        """How a service logs in to Keystone as its own user: options of keystoneauth."""
        return {
            "auth_type": "password",
            "auth_url": self.internal_url(IDENTITY),
            "username": user,
            "password": self.password(user),
            "user_domain_name": DOMAIN,
            "project_name": SERVICE_PROJECT,
            "project_domain_name": DOMAIN,
            "region_name": REGION,
        }

    def token_check(self, user: str) -> dict[str, object]:
        """The section with which a service's middleware checks the tokens it is given."""
        return {
            **self.credentials(user),
            "www_authenticate_uri": self.internal_url(IDENTITY),
            "interface": "internal",
            "service_token_roles": "service",
            "service_token_roles_required": True,
        }

    def check_wanted(self) -> None:
        """Raises `NotWanted` once the cloud is being taken away."""
        if self._unwanted.is_set():
            raise NotWanted("the cloud is being taken away")

    def give_up(self) -> None:
        """Make whatever is still starting stop."""
        self._unwanted.set()


def write_file(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a file anew that only its owner may read, unless `mode` says otherwise."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def write_configuration(path: Path, sections: Mapping[str, Section]) -> Path:
    """Write an INI file; it may hold passwords."""
    write_file(path, render(sections))
    return path
