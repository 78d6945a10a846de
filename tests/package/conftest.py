# SPDX-License-Identifier: Apache-2.0
"""Needs root, the package registries, and what `tools/install package` installs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from python_discovery import get_interpreter

from release.__main__ import Release, make

PYTHONS = ("3.11", "3.12", "3.13")


def interpreters() -> dict[str, str]:
    """Path of each of `PYTHONS` that is there: on PATH, or one that pyenv or uv installed."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    folders = [os.environ["PATH"], *map(str, sorted(pyenv.glob("versions/3.*/bin")))]
    environment = {**os.environ, "PATH": os.pathsep.join(folders)}
    found = {version: get_interpreter(version, env=environment) for version in PYTHONS}
    return {version: str(each.system_executable) for version, each in found.items() if each}


INTERPRETERS = interpreters()


def pytest_report_header() -> list[str]:
    return [
        f"Python {version}: {INTERPRETERS.get(version, 'NOT on this machine, so not tried')}"
        for version in PYTHONS
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "interpreter" in metafunc.fixturenames:
        if not INTERPRETERS:
            pytest.fail(f"none of Python {', '.join(PYTHONS)} is on this machine", pytrace=False)
        metafunc.parametrize("interpreter", INTERPRETERS.values(), ids=INTERPRETERS)


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """What `make package` makes."""
    return make(tmp_path_factory.mktemp("dist"))
