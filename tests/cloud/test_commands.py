# SPDX-License-Identifier: Apache-2.0
"""The commands that `make cloud` prints work in a plain shell, outside the cloud's namespace."""

from __future__ import annotations

from testbed.cinder.client import CinderClient
from testbed.cloud import Cloud
from testbed.cloud.__main__ import VOLUME_EXAMPLES
from testbed.cloud.openrc import openstack
from testbed.polling import wait_until

SETTLED = {"available"}


def test_the_examples_can_be_pasted(cloud: Cloud, cinder: CinderClient) -> None:
    storage = cloud.admin.block_storage
    for example in VOLUME_EXAMPLES:
        printed = openstack(cloud.openrc, example)
        wait_until(
            lambda: {v.status for v in storage.volumes()} <= SETTLED, f"`{example}` to take effect"
        )
    assert "data" in printed
    assert "copy" in printed
