# SPDX-License-Identifier: Apache-2.0
"""nova-compute as shipped, on Nova's fake hypervisor, as a host that could use LightOS volumes.

The fake hypervisor runs no instance and connects no device, so its connector names no NVMe host.
Here it says what os-brick says on a host with an NVMe host NQN and a discovery client, and all
that follows is Nova's and Cinder's own: attachments are reserved, connected, completed, extended
and deleted, and the cluster's ACL has this host's NQN meanwhile. That os-brick and Nova's libvirt
driver do use such volumes is shown on a real kernel in tests/kernel.
"""

from __future__ import annotations

import sys
import uuid
from typing import Any

from nova.cmd import compute  # first: it chooses between eventlet and threads
from nova.virt import fake

from testbed.cloud.nova import DRIVER_CLASS


class LightOSFakeDriver(fake.FakeDriverWithoutFakeNodes):  # type: ignore[misc]
    """Nova's fake driver with the connector of a LightOS host."""

    def get_volume_connector(self, instance: Any) -> dict[str, Any]:
        host_id = uuid.uuid5(uuid.NAMESPACE_DNS, f"{fake.CONF.host}.testbed.lightos")
        return {
            **super().get_volume_connector(instance),
            "platform": "x86_64",
            "os_type": "linux",
            "multipath": True,
            "nqn": f"nqn.2014-08.org.nvmexpress:uuid:{host_id}",
            "found_dsc": "found",
            "host_ips": [fake.CONF.my_block_storage_ip],
        }


if __name__ == "__main__":
    # compute_driver is looked up below nova.virt, and only there.
    setattr(fake, DRIVER_CLASS, LightOSFakeDriver)
    sys.exit(compute.main())
