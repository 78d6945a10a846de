# SPDX-License-Identifier: Apache-2.0
"""Cinder's schema in SQLite, migrated once per cinder version and copied from then on."""

import os
import shutil
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path

from testbed.cinder.errors import CinderFailed
from testbed.cinder.paths import VENV_BIN, cache_dir


def connection_url(database: Path) -> str:
    """SQLAlchemy URL; 60 s is how long a writer waits for another one's lock."""
    return f"sqlite:///{database.absolute()}?timeout=60"


def provision(database: Path) -> None:
    """Put an empty, migrated Cinder database at ``database`` unless one is there.

    Raises CinderFailed with the end of cinder-manage's output when the migration fails.
    """
    if database.exists():
        return
    template = cache_dir() / "cinder" / f"cinder-{version('cinder')}.sqlite"
    if not template.exists():
        migrate(template)
    shutil.copyfile(template, database)


def migrate(template: Path) -> None:
    """Run ``cinder-manage db sync`` on a scratch file and put the result in place atomically."""
    template.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=template.parent) as scratch:
        database = Path(scratch, "cinder.sqlite")
        config = Path(scratch, "cinder.conf")
        config.write_text(
            f"[DEFAULT]\nstate_path = {scratch}\n"
            f"[database]\nconnection = {connection_url(database)}\nsqlite_synchronous = False\n"
        )
        result = subprocess.run(
            [VENV_BIN / "cinder-manage", "--config-file", config, "db", "sync"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if result.returncode != 0:
            raise CinderFailed("cinder-manage db sync", result.stdout)
        os.replace(database, template)
