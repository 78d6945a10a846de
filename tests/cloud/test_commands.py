# SPDX-License-Identifier: Apache-2.0
"""The commands that `make cloud` prints work in a plain shell, outside the cloud's namespace."""

from __future__ import annotations

import subprocess

from testbed.cinder.client import CinderClient
from testbed.cinder.paths import VENV_BIN
from testbed.cloud import Cloud
from testbed.cloud.__main__ import VOLUME_EXAMPLES
from testbed.polling import wait_until

COMMAND_SECONDS = 120
SETTLED = {"available"}


def in_a_plain_shell(cloud: Cloud, words: str) -> str:
    """Run `openstack` as someone at a terminal does: in no namespace but the machine's."""
    script = f'. "{cloud.openrc}" && "{VENV_BIN}/openstack" {words}'
    shell = ["sh", "-c", script]
    done = subprocess.run(
        shell, capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_examples_can_be_pasted(cloud: Cloud, cinder: CinderClient) -> None:
    storage = cloud.admin.block_storage
    for example in VOLUME_EXAMPLES:
        printed = in_a_plain_shell(cloud, example)
        wait_until(
            lambda: {v.status for v in storage.volumes()} <= SETTLED, f"`{example}` to take effect"
        )
    assert "data" in printed
    assert "copy" in printed
