# SPDX-License-Identifier: Apache-2.0
"""Glance: images in files, as they were uploaded."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from testbed.cloud.database import Schema
from testbed.cloud.deployment import IMAGE, Deployment, write_configuration
from testbed.cloud.service import wsgi_service

USER = "glance"
SCHEMAS = (Schema("glance", "glance", ("glance-manage", "db_sync")),)
ENDPOINTS = (IMAGE,)


class Glance:
    """The image service of one cloud."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        folder = deployment.configuration("glance")
        self.api = wsgi_service(
            deployment,
            "glance",
            "glance.wsgi.api",
            IMAGE.port,
            environment={"OS_GLANCE_CONFIG_DIR": str(folder)},
        )

    def start(self) -> None:
        """Start the API and wait until it answers; the database must."""
        folder = self._deployment.configuration("glance")
        state = self._deployment.state("glance")
        shipped = Path(sys.prefix, "etc/glance/glance-api-paste.ini")
        shutil.copyfile(shipped, folder / shipped.name)
        write_configuration(
            folder / "glance-api.conf",
            {
                "DEFAULT": {
                    "use_stderr": True,
                    "enabled_backends": "files:file",
                    "worker_self_reference_url": self._deployment.internal_url(IMAGE),
                },
                "database": {"connection": self._deployment.database_url("glance")},
                "paste_deploy": {"flavor": "keystone", "config_file": folder / shipped.name},
                "keystone_authtoken": self._deployment.token_check(USER),
                "glance_store": {"default_backend": "files"},
                "files": {"filesystem_store_datadir": state / "images"},
                "os_glance_staging_store": {"filesystem_store_datadir": state / "staging"},
                "os_glance_tasks_store": {"filesystem_store_datadir": state / "tasks"},
                # Images stay in the format they came in; Cinder converts what it has to.
                "image_import_opts": {"image_import_plugins": "[]"},
                "oslo_messaging_notifications": {"driver": "noop"},
            },
        )
        self.api.start()
        self.api.wait_listening(IMAGE.port)
