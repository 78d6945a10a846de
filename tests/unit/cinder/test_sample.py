# SPDX-License-Identifier: Apache-2.0
"""Sample files: ours is what oslo.config makes of the options now, and Cinder's shows ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lightos.openstack.cinder.driver import LightOSVolumeDriver
from lightos.openstack.cinder.options import lightos_opts
from lightos.openstack.os_brick.options import OPTIONS

CHECKOUT = Path(__file__).parents[3]
SAMPLES = CHECKOUT / "docs/samples"
GENERATOR = Path(sys.executable).with_name("oslo-config-generator")


def generated(*arguments: str | Path) -> str:
    command = [GENERATOR, *arguments]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def option_names(sample: str) -> set[str]:
    lines = (line for line in sample.splitlines() if line.startswith("#") and " =" in line)
    return {line[1:].partition(" =")[0] for line in lines}


def test_the_sample_is_what_the_options_are_now(tmp_path: Path) -> None:
    made = tmp_path / "sample"
    generated("--config-file", SAMPLES / "generate.conf", "--output-file", made)
    sample = made.read_text()
    assert (SAMPLES / "lightos.conf.sample").read_text() == sample, "run make sample"
    options = [*LightOSVolumeDriver.get_driver_options(), *OPTIONS]
    assert option_names(sample) >= {option.name for option in options}


def test_the_samples_of_cinder_and_os_brick_show_our_options() -> None:
    sample = generated("--namespace", "cinder", "--namespace", "os_brick.lightos")
    assert option_names(sample) >= {option.name for option in (*lightos_opts, *OPTIONS)}
    assert "lightos_jwt_file" in option_names(sample)
