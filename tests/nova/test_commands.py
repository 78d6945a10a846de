# SPDX-License-Identifier: Apache-2.0
"""The commands that `make cloud NOVA=1` prints work in a plain shell, one after the other."""

from __future__ import annotations

import pytest

from testbed.cloud.__main__ import INSTANCE_EXAMPLES
from testbed.cloud.cloud import Cloud
from testbed.cloud.openrc import openstack
from testbed.polling import wait_until

pytestmark = pytest.mark.nightly

EFFECT_SECONDS = 600


def states(cloud: Cloud) -> set[tuple[str, str | None]]:
    """Status and task of every server; status of every volume."""
    servers = {(each.status, each.task_state) for each in cloud.admin.compute.servers()}
    return servers | {(each.status, None) for each in cloud.admin.block_storage.volumes()}


@pytest.mark.usefixtures("instances")  # which takes away what the commands make
def test_the_examples_can_be_pasted(cloud: Cloud) -> None:
    settled = {("ACTIVE", None), ("available", None), ("in-use", None)}
    for example in INSTANCE_EXAMPLES:
        printed = openstack(cloud.openrc, example)
        wait_until(lambda: states(cloud) <= settled, f"`{example}` to take effect", EFFECT_SECONDS)
    assert ("available", None) in states(cloud)
    assert not printed.strip()
