# SPDX-License-Identifier: Apache-2.0
"""`python -m release`: sdist, wheel, SBOM and Debian package of the commit, in `dist/`.

The wheel is built from the sdist, and the Debian package too. The version is that of the tag, see
`tool.hatch.version` in pyproject.toml.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from release import CHECKOUT, debian, sbom


def commit_time() -> str:
    """Seconds since 1970, as text: what files of a release are dated with."""
    done = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=CHECKOUT, check=True, capture_output=True
    )
    return done.stdout.decode().strip()


@dataclass(frozen=True)
class Release:
    """The files of a release."""

    sdist: Path
    wheel: Path
    sbom: Path
    debian: Path


def make(folder: Path) -> Release:
    """Make all in `folder`, which is empty. Raises CalledProcessError."""
    if "SOURCE_DATE_EPOCH" not in os.environ:
        os.environ["SOURCE_DATE_EPOCH"] = commit_time()
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, CHECKOUT],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return Release(sdist, wheel, sbom.make(wheel, folder), debian.make(sdist, folder))


def main() -> int:
    argparse.ArgumentParser(prog="python -m release", description=__doc__).parse_args()
    folder = CHECKOUT / "dist"
    try:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        made = make(folder)
    except (subprocess.CalledProcessError, OSError) as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    for path in dataclasses.astuple(made):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
