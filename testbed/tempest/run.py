# SPDX-License-Identifier: Apache-2.0
"""Run tempest in a folder of its own, and read what it found."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from testbed.cinder.configuration import Section, render
from testbed.cinder.paths import VENV_BIN
from testbed.network import Network
from testbed.tempest.results import Record
from testbed.tempest.stream import read

_TEST_ID = re.compile(r"[\w.]+\[[\w,.-]+\]")
_LISTING_SECONDS = 300


class TempestFailed(Exception):
    """Tempest could not be run; says what it printed."""


@dataclass(frozen=True)
class Tempest:
    """A tempest workspace in `folder`, whose commands run in `network`."""

    folder: Path
    network: Network

    @property
    def config_file(self) -> Path:
        return self.folder / "tempest.conf"

    def configure(self, conf: Mapping[str, Section]) -> None:
        """Write tempest.conf, which holds the administrator's password, and stestr's."""
        (self.folder / "locks").mkdir(parents=True, exist_ok=True)
        self.config_file.touch(mode=0o600)
        self.config_file.write_text(render(conf))
        package = find_spec("tempest")
        if package is None or package.origin is None:
            raise TempestFailed("tempest is not installed: run `tools/install cloud`")
        top = Path(package.origin).parent
        stestr = {
            "test_path": top / "test_discover",
            "top_dir": top.parent,
            "group_regex": r"([^\.]*\.)*",  # a class's tests stay in one worker
        }
        (self.folder / ".stestr.conf").write_text(render({"DEFAULT": stestr}))
        self._run("stestr", "init")

    def select(self, regex: str) -> list[str]:
        """Ids of the tests that `regex` selects."""
        listed = self._run("tempest", "run", *self._which(regex), "--list-tests")
        tests = [line for line in listed.splitlines() if _TEST_ID.fullmatch(line)]
        if not tests:
            raise TempestFailed(f"no test matches {regex!r}; tempest said:\n{listed[-2000:]}")
        return sorted(tests)

    def run(self, regex: str, concurrency: int) -> tuple[list[Record], float]:
        """Run the selected tests, a line each as they end; their records, and seconds in all."""
        began = time.monotonic()
        command = ["run", *self._which(regex), f"--concurrency={concurrency}"]
        self.network.run(
            [str(VENV_BIN / "tempest"), *command],
            check=False,  # the records tell, and more exactly
            capture_output=False,
            cwd=self.folder,
        )
        seconds = time.monotonic() - began
        stream = self.folder / "records.subunit"
        with stream.open("wb") as output:
            subprocess.run(
                [VENV_BIN / "stestr", "last", "--subunit"],
                check=False,
                stdout=output,
                cwd=self.folder,
            )
        return read(stream), seconds

    def _which(self, regex: str) -> list[str]:
        return [f"--config-file={self.config_file}", f"--regex={regex}"]

    def _run(self, command: str, *arguments: str) -> str:
        done = self.network.run(
            [str(VENV_BIN / command), *arguments],
            check=False,
            cwd=self.folder,
            timeout=_LISTING_SECONDS,
        )
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip())[-2000:]
            raise TempestFailed(f"`{command} {' '.join(arguments)}` failed:\n{said}")
        return str(done.stdout)
