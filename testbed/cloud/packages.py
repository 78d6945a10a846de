# SPDX-License-Identifier: Apache-2.0
"""Servers from the distribution's own packages, unpacked and never installed.

Installed, RabbitMQ, Erlang, etcd, Redis and libvirt would start services on the machine, now and at
each boot. Unpacked into the project's cache folder they are programs like any other, and go when
the folder goes.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed.cinder.paths import cache_dir

_FAMILIES = (
    *("erlang-", "etcd-", "libvirt", "mariadb-", "openssh-", "python3-libvirt"),
    *("rabbitmq-", "redis-"),
)
"""Unpacked even where the machine has them installed, so that what runs is of one piece."""
_VERSIONS = "versions"
_WANTED = "wanted"


class PackagesError(Exception):
    """The packages could not be fetched or unpacked; says which command failed and why."""


@dataclass(frozen=True)
class PackageSet:
    """What is unpacked into one folder, `name` below the cache folder, with all that it needs."""

    name: str
    packages: tuple[str, ...]


CLOUD = PackageSet("packages", ("mariadb-client-core", "mariadb-server-core", "rabbitmq-server"))
LOCK_MANAGERS = PackageSet("lock-managers", ("etcd-server", "redis-server"))
MONITORING = PackageSet("monitoring", ("prometheus",))
HYPERVISOR = PackageSet(
    "hypervisor",
    (
        *("libvirt-clients", "libvirt-daemon", "libvirt-daemon-driver-qemu", "python3-libvirt"),
        *("genisoimage", "openssh-client", "openssh-server"),
    ),
)


@dataclass(frozen=True)
class Packages:
    """`root` is where the packages are unpacked, as if it were `/`."""

    root: Path

    @property
    def version(self) -> str:
        """One text for the versions of all packages."""
        return (self.root / _VERSIONS).read_text()

    @property
    def erlang(self) -> Path:
        return self.root / "usr/lib/erlang"

    @property
    def environment(self) -> dict[str, str]:
        """Makes unpacked programs find their libraries and each other."""
        libraries = [str(path) for path in sorted((self.root / "usr/lib").glob("*-linux-gnu*"))]
        return {
            "PATH": f"{self.erlang / 'bin'}:{self.root / 'usr/bin'}:{os.defpath}",
            "LD_LIBRARY_PATH": ":".join(libraries),
            "ERL_ROOTDIR": str(self.erlang),
        }


def unpacked(wanted: PackageSet) -> Packages:
    """The packages in the cache, fetched first where they are not. Raises `PackagesError`."""
    folder = cache_dir() / "cloud"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "packages.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        packages = Packages(folder / wanted.name)
        if not _is_up_to_date(packages.root, wanted.packages):
            shutil.rmtree(packages.root, ignore_errors=True)
            _fetch(wanted.packages, packages.root)
        return packages


def _is_up_to_date(root: Path, names: Sequence[str]) -> bool:
    """Whether these packages are unpacked there, not those that an earlier checkout wanted."""
    try:
        return (root / _WANTED).read_text().split() == list(names)
    except FileNotFoundError:
        return False


def _fetch(names: Sequence[str], target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        try:
            _download(names, scratch)
        except PackagesError:  # package lists are missing, or older than the archive
            _run(["apt-get", "update", "-q"])
            _download(names, scratch)
        archives = sorted(Path(scratch).glob("*.deb"))
        root = Path(scratch) / "root"
        for archive in archives:
            _run(["dpkg", "-x", str(archive), str(root)])
        if (root / "lib").is_dir():  # to these distributions the same folder
            shutil.copytree(root / "lib", root / "usr/lib", symlinks=True, dirs_exist_ok=True)
        (root / _WANTED).write_text("\n".join(names))
        (root / _VERSIONS).write_text("".join(f"{archive.stem}\n" for archive in archives))
        for script in (root / "usr/lib/erlang").glob("**/bin/erl"):
            text = script.read_text()
            script.write_text(text.replace("ROOTDIR=/usr/lib/erlang\n", "ROOTDIR=$ERL_ROOTDIR\n"))
        root.rename(target)


def _download(names: Sequence[str], folder: str) -> None:
    """Fetch packages with what they need and this machine lacks."""
    missing = _would_install(names)
    whole = _would_install(names, "/dev/null")
    of_family = [name for name in whole if name.startswith(_FAMILIES)]
    _run(["apt-get", "download", "-q", *sorted({*names, *missing, *of_family})], cwd=folder)


def _would_install(names: Sequence[str], status_file: str | None = None) -> list[str]:
    """What apt would install, given the machine's list of installed packages or another one."""
    options = ["-o", f"Dir::State::status={status_file}"] if status_file else []
    command = ["apt-get", "install", "-s", "--no-install-recommends", *options, *names]
    return re.findall(r"^Inst (\S+)", _run(command), re.MULTILINE)


def _run(argv: list[str], cwd: str | None = None) -> str:
    try:
        return subprocess.run(argv, cwd=cwd, check=True, capture_output=True, text=True).stdout
    except FileNotFoundError:
        raise PackagesError(f"command {argv[0]} is missing: use Debian or Ubuntu") from None
    except subprocess.CalledProcessError as error:
        raise PackagesError(f"{' '.join(argv)} failed: {error.stderr.strip()}") from None
