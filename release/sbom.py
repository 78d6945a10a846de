# SPDX-License-Identifier: Apache-2.0
"""The software bill of materials: what the wheel brings with it, in the versions that CI runs.

CycloneDX, JSON. The optional dependencies are not in it: with `openstack` it is OpenStack that is
installed, and the lab is for trying things out. The Debian package has the same packages in it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import virtualenv

from release import CHECKOUT, CONSTRAINTS

SPECIFICATION = "1.6"


def with_version(project: str, version: str) -> str:
    """The text of a pyproject.toml with the version that only a build gives it otherwise."""
    return project.replace('dynamic = ["version"]', f'version = "{version}"')


def make(wheel: Path, folder: Path) -> Path:
    """Install the wheel alone and list what is there. Returns the file, in `folder`."""
    name, version = wheel.name.split("-")[:2]
    bill = folder / f"{name}-{version}.cdx.json"
    with tempfile.TemporaryDirectory() as scratch:
        virtualenv.cli_run([scratch, "--no-seed"])
        python = f"{scratch}/bin/python"
        pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
        subprocess.run([*pip, f"--constraint={CONSTRAINTS}", str(wheel)], check=True)
        options = ["--output-reproducible", "--of=JSON", f"--sv={SPECIFICATION}", f"-o={bill}"]
        project = Path(scratch) / "pyproject.toml"
        project.write_text(with_version((CHECKOUT / "pyproject.toml").read_text(), version))
        command = [sys.executable, "-m", "cyclonedx_py", "environment", f"--pyproject={project}"]
        subprocess.run([*command, *options, python], check=True)
    return bill
