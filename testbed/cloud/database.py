# SPDX-License-Identifier: Apache-2.0
"""MariaDB on a data folder of its own, with every service's schema in it.

Migrating the schemas takes most of a minute. It is done once per set of versions, and every cloud
starts from a copy of that data folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from testbed.cinder.paths import VENV_BIN, cache_dir
from testbed.cloud.deployment import (
    DATABASE_PORT,
    Deployment,
    write_configuration,
    write_file,
)
from testbed.cloud.packages import Packages
from testbed.cloud.service import Service

MIGRATION_SECONDS = 300.0
_MIGRATIONS_AT_ONCE = 3
_TEMPLATE_PORT = DATABASE_PORT + 1


@dataclass(frozen=True)
class Schema:
    """A database and the command that makes it fit the installed version.

    `section`: the section of the service's configuration that has the `connection`.
    """

    database: str
    distribution: str
    command: tuple[str, ...]
    section: str = "database"

    @property
    def identity(self) -> str:
        return f"{self.database} {self.distribution} {version(self.distribution)} {self.command}"


class Database:
    """The MariaDB server of one cloud. Each database belongs to a user of the same name."""

    def __init__(
        self, deployment: Deployment, packages: Packages, schemas: Sequence[Schema]
    ) -> None:
        self._deployment = deployment
        self._packages = packages
        self._schemas = tuple(schemas)
        users = deployment.configuration("mariadb") / "users.sql"
        self._users_file = users
        self.data = deployment.state("mariadb") / "data"
        self.service = self._server("mariadb", self.data, DATABASE_PORT, users)

    def prepare(self) -> None:
        """Put the migrated schemas into the data folder, from the cache or by migrating now.

        Raises `ServiceFailed` with the end of the log when a migration fails.
        """
        content = "".join(schema.identity for schema in self._schemas) + self._packages.version
        digest = hashlib.sha256(content.encode()).hexdigest()[:16]
        folder = cache_dir() / "cloud"
        template = folder / f"database-{digest}"
        with (folder / "database.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not template.exists():
                with tempfile.TemporaryDirectory(dir=folder) as scratch:
                    self._migrate(Path(scratch, "data"))
                    Path(scratch, "data").rename(template)
        shutil.copytree(template, self.data)

    def start(self) -> None:
        """Start the server, with this cloud's users, and wait until it answers."""
        names = [schema.database for schema in self._schemas]
        statements = [
            statement
            for name in names
            for statement in (
                f"CREATE OR REPLACE USER '{name}'@'%' "
                f"IDENTIFIED BY '{self._deployment.password(name)}';",
                f"GRANT ALL ON `{name}`.* TO '{name}'@'%';",
            )
        ]
        root = self._deployment.password("mariadb")
        statements.append(f"ALTER USER 'root'@'localhost' IDENTIFIED BY '{root}';")
        write_file(self._users_file, "\n".join([*statements, ""]))
        self.service.start()
        self.service.wait_listening(DATABASE_PORT)

    def _migrate(self, data: Path) -> None:
        """Make a data folder anew, with all schemas, and leave it cleanly shut down."""
        basis = [f"--basedir={self._packages.root / 'usr'}", f"--datadir={data}", "--user=root"]
        installer = self._packages.root / "usr/bin/mariadb-install-db"
        options = ["--auth-root-authentication-method=normal", "--skip-test-db"]
        command = [installer, "--no-defaults", *basis, *options, "--skip-name-resolve"]
        environment = self._packages.environment
        Service(self._deployment, "mariadb-install-db", command, environment).run()

        scratch = data.parent
        statements = scratch / "databases.sql"
        # The scratch server serves migrations only, and only inside the namespace.
        lines = ["CREATE USER 'migration'@'%';", "GRANT ALL ON *.* TO 'migration'@'%';"]
        lines += [
            f"CREATE DATABASE `{schema.database}` CHARACTER SET utf8mb3;"
            for schema in self._schemas
        ]
        write_file(statements, "\n".join([*lines, ""]))
        server = self._server("mariadb-migration", data, _TEMPLATE_PORT, statements)
        server.start()
        try:
            server.wait_listening(_TEMPLATE_PORT)
            with ThreadPoolExecutor(_MIGRATIONS_AT_ONCE) as pool:
                list(pool.map(lambda schema: self._sync(schema, scratch), self._schemas))
            write_file(statements, "DROP USER 'migration'@'%';\n")
            server.stop()
            # Once more, to drop the user; MariaDB runs the statements before it listens.
            server.start()
            server.wait_listening(_TEMPLATE_PORT)
        finally:
            server.stop()

    def _sync(self, schema: Schema, scratch: Path) -> None:
        url = f"mysql+pymysql://migration@{self._deployment.address}:{_TEMPLATE_PORT}"
        configuration = write_configuration(
            scratch / f"{schema.database}.conf",
            {
                "DEFAULT": {"use_stderr": True, "state_path": scratch},
                schema.section: {"connection": f"{url}/{schema.database}?charset=utf8"},
            },
        )
        program, *words = schema.command
        command = [VENV_BIN / program, "--config-file", configuration, *words]
        Service(self._deployment, f"migrate-{schema.database}", command).run(MIGRATION_SECONDS)

    def _server(self, name: str, data: Path, port: int, statements: Path) -> Service:
        """A server; `statements` is what it runs at each start, one per line."""
        root = self._packages.root
        # The path of a socket has at most 107 bytes, which a data folder's may exceed.
        socket = self._deployment.network.run_folder / f"{name}.sock"
        command = [
            root / "usr/sbin/mariadbd",
            "--no-defaults",
            f"--basedir={root / 'usr'}",
            f"--lc-messages-dir={root / 'usr/share/mysql'}",
            f"--datadir={data}",
            f"--init-file={statements}",
            f"--socket={socket}",
            f"--pid-file={socket.with_suffix('.pid')}",
            f"--bind-address={self._deployment.address}",
            f"--port={port}",
            "--user=root",
            "--skip-name-resolve",
            "--skip-log-bin",
            "--max-connections=400",
            "--innodb-buffer-pool-size=64M",
            "--innodb-log-file-size=16M",
            # A cloud that loses its power is made anew: durability would only cost time.
            "--innodb-flush-log-at-trx-commit=0",
        ]
        return Service(self._deployment, name, command, self._packages.environment)
