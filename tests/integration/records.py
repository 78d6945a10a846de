# SPDX-License-Identifier: Apache-2.0
"""Puts volume types and attachments into the database of a cinder.conf, as Cinder's API would.

`python -m tests.integration.records CINDER_CONF < RECORDS`, where RECORDS is JSON: `types` is name
to extra specs, `qos` is name of a type to its QoS specs, and `connectors` is a list.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from cinder import context, objects
from cinder.volume import qos_specs, volume_types
from oslo_config import cfg


def make(records: dict[str, Any]) -> None:
    admin = context.get_admin_context()
    for name, extra_specs in records.get("types", {}).items():
        made = volume_types.create(admin, name, extra_specs)
        if specs := records.get("qos", {}).get(name):
            limits = qos_specs.create(admin, name, {"consumer": "back-end", **specs})
            qos_specs.associate_qos_with_type(admin, limits.id, made["id"])
    default = volume_types.get_default_volume_type(admin)
    for connector in records.get("connectors", []):
        volume = objects.Volume(
            admin,
            size=1,
            status="in-use",
            host="cinder@lightos#lightos",
            project_id=admin.project_id,
            volume_type_id=default["id"],
        )
        volume.create()
        attachment = objects.VolumeAttachment(
            admin, volume_id=volume.id, attach_status="attached", connector=connector
        )
        attachment.create()


if __name__ == "__main__":
    objects.register_all()
    cfg.CONF(["--config-file", sys.argv[1]], project="cinder")
    make(json.load(sys.stdin))
