# SPDX-License-Identifier: Apache-2.0
"""The Debian package of the discovery client, for the Debian or Ubuntu that this machine runs.

Its Python packages are compiled for that release's Python; its folder `debian` is beside this file.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from email.utils import formatdate
from pathlib import Path

from packaging.version import Version

PACKAGE = "lightos-discovery-client"
_FOLDER = Path(__file__).with_name("debian")


def debian_version(version: str, distribution: str) -> str:
    """A version (PEP 440) as Debian sorts it in the same order; `distribution`: `debian12`."""
    parsed = Version(version)
    text = parsed.base_version
    if parsed.pre is not None:
        text += "~{}{}".format(*parsed.pre)
    if parsed.post is not None:
        text += f"+post{parsed.post}"
    if parsed.dev is not None:
        text += f"~~dev{parsed.dev}"
    if parsed.local is not None:
        text += f"+{parsed.local}"
    return f"{text}-1~{distribution}"


def changelog(version: str, codename: str, seconds: int) -> str:
    """The one entry of debian/changelog (deb-changelog(5)); `seconds`: since 1970."""
    maintainer = next(
        line.removeprefix("Maintainer: ")
        for line in (_FOLDER / "control").read_text().splitlines()
        if line.startswith("Maintainer: ")
    )
    return (
        f"lightos-openstack ({version}) {codename}; urgency=medium\n\n"
        "  * What has changed is told in /usr/share/doc/lightos-discovery-client/notes.\n\n"
        f" -- {maintainer}  {formatdate(seconds)}\n"
    )


def make(sdist: Path, folder: Path) -> Path:
    """Build the package from the sdist. Returns the file, in `folder`."""
    system = platform.freedesktop_os_release()
    name, _, version = sdist.name.removesuffix(".tar.gz").partition("-")
    own = debian_version(version, system["ID"] + system["VERSION_ID"])
    seconds = int(os.environ["SOURCE_DATE_EPOCH"])
    with tempfile.TemporaryDirectory() as scratch:
        with tarfile.open(sdist) as archive:
            archive.extractall(scratch, filter="data")
        source = Path(scratch) / f"{name}-{version}"
        shutil.copytree(source / "release/debian", source / "debian")
        entry = changelog(own, system["VERSION_CODENAME"], seconds)
        (source / "debian/changelog").write_text(entry)
        built = subprocess.run(
            ["dpkg-buildpackage", "--build=binary", "--unsigned-changes"],
            cwd=source,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if built.returncode != 0:
            print(built.stdout, file=sys.stderr)
            built.check_returncode()
        (package,) = Path(scratch).glob(f"{PACKAGE}_*.deb")
        return Path(shutil.move(package, folder))
