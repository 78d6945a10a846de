# SPDX-License-Identifier: Apache-2.0
"""Run by the Python of an environment with OpenStack: what it gets under its own names.

`openstack_names.py class NAME` prints as JSON where the class of that name is from;
`openstack_names.py backends CINDER_CONF` prints it of the driver of each back end, which is made as
`cinder-volume` makes it, with some of its settings.
"""

import json
import sys

from oslo_utils import importutils


def file_of(kind: type) -> str:
    return str(sys.modules[kind.__module__].__file__)


def backends(path: str) -> dict[str, dict[str, object]]:
    from cinder import objects
    from cinder.common import config  # noqa: F401 - registers enabled_backends

    objects.register_all()
    from cinder.volume import configuration, manager
    from oslo_config import cfg

    cfg.CONF(["--config-file", path], project="cinder")
    told = {}
    for name in cfg.CONF.enabled_backends:
        options = configuration.Configuration(manager.volume_backend_opts, config_group=name)
        driver = importutils.import_object(
            options.volume_driver,
            configuration=options,
            db=None,
            host=f"controller@{name}",
            cluster_name=None,
            is_vol_db_empty=True,
            active_backend_id=None,
        )
        settings = driver.configuration
        told[name] = {
            "file": file_of(type(driver)),
            "addresses": list(settings.lightos_api_address),
            "replicas": settings.lightos_default_num_replicas,
            "verify": settings.driver_ssl_cert_verify,
        }
    return told


def main(what: str, argument: str) -> None:
    if what == "backends":
        print(json.dumps(backends(argument)))
    else:
        print(json.dumps(file_of(importutils.import_class(argument))))


if __name__ == "__main__":
    main(*sys.argv[1:])
