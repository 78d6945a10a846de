# SPDX-License-Identifier: Apache-2.0
"""etcd and Redis, either of which keeps the locks that several cinder-volumes share.

Both keep them on disk, so that a restart loses none.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from testbed.cloud.deployment import Deployment, write_file
from testbed.cloud.packages import Packages
from testbed.cloud.service import Service

LOCK_SECONDS = 10
"""After which a lock whose holder has died is free; tooz's default is 30."""


class LockManager(Protocol):
    """`url` is what Cinder's section [coordination] needs as `backend_url`."""

    service: Service
    url: str

    def start(self) -> None:
        """Start the server, with the locks that it had, and wait until it answers."""


class Etcd:
    """An etcd of one member."""

    PORT: ClassVar[int] = 2379
    PEER_PORT: ClassVar[int] = 2380

    def __init__(self, deployment: Deployment, packages: Packages) -> None:
        client = f"http://{deployment.address}:{self.PORT}"
        peer = f"http://127.0.0.1:{self.PEER_PORT}"
        self.url = f"etcd3+{client}?lock_timeout={LOCK_SECONDS}"
        command = [
            packages.root / "usr/bin/etcd",
            "--name=lightos",
            f"--data-dir={deployment.state('etcd') / 'data'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=lightos={peer}",
            "--logger=zap",
        ]
        self.service = Service(deployment, "etcd", command, packages.environment)

    def start(self) -> None:
        self.service.start()
        self.service.wait_listening(self.PORT)


class Redis:
    """A Redis that has each lock on disk before it grants it."""

    PORT: ClassVar[int] = 6379

    def __init__(self, deployment: Deployment, packages: Packages) -> None:
        self._deployment = deployment
        password = deployment.password("redis")
        address = f"{deployment.address}:{self.PORT}"
        self.url = f"redis://:{password}@{address}?lock_timeout={LOCK_SECONDS}"
        self._settings_file = deployment.configuration("redis") / "redis.conf"
        command = [packages.root / "usr/bin/redis-server", self._settings_file]
        self.service = Service(deployment, "redis", command, packages.environment)

    def start(self) -> None:
        settings = {
            "bind": self._deployment.address,
            "port": self.PORT,
            "requirepass": self._deployment.password("redis"),
            "dir": self._deployment.state("redis"),
            "save": '""',
            "appendonly": "yes",
            "appendfsync": "always",
        }
        text = "".join(f"{name} {value}\n" for name, value in settings.items())
        write_file(self._settings_file, text)
        self.service.start()
        self.service.wait_listening(self.PORT)


LOCK_MANAGERS: dict[str, type[Etcd] | type[Redis]] = {"etcd": Etcd, "redis": Redis}
