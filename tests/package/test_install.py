# SPDX-License-Identifier: Apache-2.0
"""The wheel in an empty environment with OpenStack: in force once installed, gone once not."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import virtualenv

from release import CHECKOUT, CONSTRAINTS
from release.__main__ import Release

GUIDE = CHECKOUT / "docs/driver_guide.rst"
NAMES = Path(__file__).with_name("openstack_names.py")
OPENSTACK = {"cinder", "os_brick", "nova"}
CLASSES = (
    "os_brick.initiator.connectors.lightos.LightOSConnector",
    "nova.virt.libvirt.volume.lightos.LibvirtLightOSVolumeDriver",
)


def guide_configuration() -> str:
    """The cinder.conf of the driver guide."""
    block = re.search(
        r"In ``cinder.conf``:\n\n.. code-block:: ini\n\n((?:   .*\n|\n)+)", GUIDE.read_text()
    )
    assert block is not None
    return textwrap.dedent(block.group(1))


def openstack() -> list[str]:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    return list(project["optional-dependencies"]["openstack"])


def test_installed_and_uninstalled(release: Release, interpreter: str, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    virtualenv.cli_run([str(environment), f"--python={interpreter}"])
    python = str(environment / "bin/python")
    settings = tmp_path / "cinder.conf"
    settings.write_text(guide_configuration())

    def run(*command: str | Path) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    (site,) = environment.glob("lib/python*/site-packages")

    def told(what: str, argument: str | Path) -> Any:
        return json.loads(run(python, "-W", "ignore", NAMES, what, argument))

    def packages() -> set[str]:
        """The packages that the names and the guide's back end lead to."""
        (backend,) = told("backends", settings).values()
        assert backend["addresses"] == ["192.168.67.78", "192.168.34.56", "192.168.12.17"]
        assert (backend["replicas"], backend["verify"]) == (3, True)
        files = [backend["file"], *(told("class", name) for name in CLASSES)]
        return {Path(file).relative_to(site).parts[0] for file in files}

    def files() -> set[Path]:
        return {path for path in environment.rglob("*") if path.suffix != ".pyc"}

    with_uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", python]
    run(*with_uv, "--constraint", CONSTRAINTS, *openstack())
    before = files()

    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "install", "--constraint", CONSTRAINTS, f"{release.wheel}[openstack]")
    run(*pip, "check")
    version = release.wheel.name.split("-")[1]
    assert run(environment / "bin/lightos", "--version").split()[-1] == version
    assert packages() == {"lightos"}

    run(*pip, "uninstall", "--yes", "lightos-openstack")
    assert packages() == OPENSTACK
    added = files() - before
    assert not [path for path in added if "lightos" in str(path.relative_to(environment))]
    assert not [path for path in added if path.suffix == ".pth"]
