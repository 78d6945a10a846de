# SPDX-License-Identifier: Apache-2.0
"""Run by the Python of an environment with cinder, os-brick and nova, and nothing of ours perhaps.

`openstack_names.py CINDER_CONF` prints as JSON the file of each in-tree class, and that of the
driver of each back end, which is made as `cinder-volume` makes it, with options that were set.
"""

import json
import sys

from cinder import objects
from cinder.common import config  # noqa: F401 - registers enabled_backends
from cinder.volume import configuration, manager
from oslo_config import cfg
from oslo_utils import importutils

CLASSES = (
    "cinder.volume.drivers.lightos.LightOSVolumeDriver",
    "os_brick.initiator.connectors.lightos.LightOSConnector",
    "nova.virt.libvirt.volume.lightos.LibvirtLightOSVolumeDriver",
)


def file_of(kind: type) -> str:
    return str(sys.modules[kind.__module__].__file__)


def load(backend: str) -> dict[str, object]:
    options = configuration.Configuration(manager.volume_backend_opts, config_group=backend)
    driver = importutils.import_object(
        options.volume_driver,
        configuration=options,
        db=None,
        host=f"controller@{backend}",
        cluster_name=None,
        is_vol_db_empty=True,
        active_backend_id=None,
    )
    settings = driver.configuration
    return {
        "file": file_of(type(driver)),
        "addresses": list(settings.lightos_api_address),
        "replicas": settings.lightos_default_num_replicas,
        "verify": settings.driver_ssl_cert_verify,
    }


def main(path: str) -> None:
    objects.register_all()
    cfg.CONF(["--config-file", path], project="cinder")
    told = {
        "classes": {name: file_of(importutils.import_class(name)) for name in CLASSES},
        "backends": {name: load(name) for name in cfg.CONF.enabled_backends},
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])
