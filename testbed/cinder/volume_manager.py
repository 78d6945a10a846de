# SPDX-License-Identifier: Apache-2.0
"""cinder-volume's manager and its driver in this process, called as the message bus would call it.

The manager, the objects, the database and the configuration file are Cinder's own; what
is left out is the API in front and the bus between. So a caller sees both what the driver raised
and what Cinder makes of it. `LIGHTOS_OVERLAY=0` in the environment gives Cinder's own driver.

One per process: Cinder's configuration and its services are global.
"""

from __future__ import annotations

import copy
import os
import shlex
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import os_brick
from cinder import context as cinder_context
from cinder import coordination, objects, rpc, service, utils
from cinder.common import constants
from cinder.db import api as db
from cinder.objects import fields
from oslo_config import cfg
from oslo_log import log as logging
from oslo_privsep import priv_context

objects.register_all()  # cinder's own modules need it when they are imported

from cinder.volume import manager as volume_manager  # noqa: E402
from cinder.volume import qos_specs as qos  # noqa: E402
from cinder.volume import volume_types  # noqa: E402

from testbed.cinder import configuration, database  # noqa: E402
from testbed.cinder.paths import VENV_BIN  # noqa: E402

BACKEND = "lightos"
HOST = f"{configuration.HOST}@{BACKEND}"
PROJECT_ID = "0" * 31 + "1"

QUOTAS = ("volumes", "snapshots", "gigabytes")
"""Cinder counts what it takes over, though not what is made here, and no API gives it back."""
UNLIMITED = -1

Connector = Mapping[str, Any]


class VolumeManager:
    """One cinder-volume back end on the cluster that `lab` (lab.json) describes.

    Every operation raises what the driver, or Cinder around it, raised. Objects given back are
    the database's at that moment; operations read them anew.
    """

    def __init__(
        self,
        folder: Path,
        lab: Mapping[str, Any],
        *,
        debug: bool = True,
        database_options: configuration.Section | None = None,
        coordination: str | None = None,
    ) -> None:
        """`debug` is whether the log has DEBUG messages too.

        `database_options` are cinder.conf's for a migrated database; without them it is SQLite,
        in `folder`. `coordination` is the URL of what keeps the locks; without it, files do.
        """
        self.folder = folder
        self._debug = debug
        self._database_options = database_options or {}
        self._coordination = coordination
        self._lab = lab
        self._manager: Any = None
        self._service: Any = None

    @property
    def driver(self) -> Any:
        """The driver object."""
        return self._manager.driver

    @property
    def log_file(self) -> Path:
        """The log of everything since the first start."""
        return self.folder / "cinder.log"

    def start(self, options: Mapping[str, object | None] | None = None) -> None:
        """Start as cinder-volume does after a restart; a second call forgets the first driver.

        `options` differ from the driver guide's example (None leaves one out). Raises what
        making the driver raised, and RuntimeError when Cinder says that it did not initialise.
        """
        self._configure(options or {})
        self._manager = volume_manager.VolumeManager(host=HOST, service_name=BACKEND)
        self._manager.init_host(service_id=self._service.id)
        if not self._manager.is_working():
            raise RuntimeError(f"the driver did not initialise; see {self.log_file}")
        self._manager.init_host_with_rpc()

    def _configure(self, options: Mapping[str, object | None]) -> None:
        backend = configuration.lightos_backend(self._lab)
        if os.environ.get("LIGHTOS_OVERLAY") == "0":
            backend = configuration.unverified_tls(backend)
        section = {
            name: value for name, value in {**backend, **options}.items() if value is not None
        }
        deployment = configuration.Deployment(
            config_dir=self.folder,
            api_address="127.0.0.1",
            api_port=1,
            backends={BACKEND: section},
            debug=self._debug,
            database_options=self._database_options,
            coordination=self._coordination,
        )
        configuration.write(deployment)
        if not self._database_options:
            database.provision(deployment.database)
        cfg.CONF(["--config-file", str(deployment.conf_file)], project="cinder")
        if self._service is not None:
            return
        logging.setup(cfg.CONF, "cinder")
        os.environ["PATH"] = f"{VENV_BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        helper = ["env"] if os.geteuid() == 0 else shlex.split(utils.get_root_helper())
        priv_context.init(root_helper=helper)
        os_brick.setup(cfg.CONF)
        rpc.init(cfg.CONF)
        coordination.COORDINATOR.start()
        for resource in QUOTAS:
            db.quota_class_update(self.context, "default", resource, UNLIMITED)
        self._service = self._registered_service()
        service.Service.service_id = self._service.id

    def _registered_service(self) -> Any:
        known = objects.ServiceList.get_all(self.context, {"host": HOST})
        if known:
            return known[0]
        registered = objects.Service(
            self.context,
            host=HOST,
            binary=constants.VOLUME_BINARY,
            topic=constants.VOLUME_TOPIC,
            report_count=0,
            availability_zone="nova",
        )
        registered.create()
        return registered

    @property
    def context(self) -> cinder_context.RequestContext:
        """An administrator's, for what reads or writes Cinder's objects."""
        return cinder_context.RequestContext("admin", PROJECT_ID, is_admin=True)

    # --- types ---------------------------------------------------------------------------------

    def make_type(
        self,
        extra_specs: Mapping[str, str] | None = None,
        *,
        qos_specs: Mapping[str, str] | None = None,
    ) -> str:
        """A new volume type's id; `qos_specs` are for the back end to keep."""
        name = f"type-{uuid.uuid4()}"
        type_id = str(volume_types.create(self.context, name, dict(extra_specs or {})).id)
        if qos_specs:
            specs = qos.create(self.context, name, {"consumer": "back-end", **qos_specs})
            qos.associate_qos_with_type(self.context, specs.id, type_id)
        return type_id

    def edit_type(self, type_id: str, extra_specs: Mapping[str, str]) -> None:
        """Set extra specs of a type that volumes have."""
        self._manager.db.volume_type_extra_specs_update_or_create(
            self.context, type_id, dict(extra_specs)
        )

    # --- volumes -------------------------------------------------------------------------------

    def volume(self, volume_id: str) -> objects.Volume:
        """As the database has it; cinder.exception.VolumeNotFound when it is deleted."""
        return objects.Volume.get_by_id(self.context, volume_id)

    def new_volume(
        self, size_gib: int, *, status: str = "creating", **values: Any
    ) -> objects.Volume:
        """A volume's record as the scheduler hands it on; the driver knows nothing of it."""
        values["volume_type_id"] = values.get("volume_type_id") or self.make_type()
        volume = objects.Volume(
            self.context,
            size=size_gib,
            host=f"{HOST}#{BACKEND}",
            status=status,
            attach_status=fields.VolumeAttachStatus.DETACHED,
            availability_zone="nova",
            user_id="admin",
            project_id=PROJECT_ID,
            use_quota=False,
            **values,
        )
        volume.create()
        return volume

    def create_volume(
        self,
        size_gib: int = 1,
        *,
        volume_type_id: str | None = None,
        snapshot_id: str | None = None,
        source_volid: str | None = None,
        multiattach: bool = False,
    ) -> objects.Volume:
        """A volume: empty, of a snapshot, or a clone."""
        volume = self.new_volume(
            size_gib,
            volume_type_id=volume_type_id,
            snapshot_id=snapshot_id,
            source_volid=source_volid,
            multiattach=multiattach,
        )
        self.create(volume)
        return self.volume(volume.id)

    def create(self, volume: objects.Volume) -> None:
        """Have the driver make a volume whose record there is."""
        request = {
            "volume_id": volume.id,
            "snapshot_id": volume.snapshot_id,
            "source_volid": volume.source_volid,
            "volume_properties": {"size": volume.size},
        }
        spec = objects.RequestSpec.from_primitives(
            {name: value for name, value in request.items() if value is not None}
        )
        self._manager.create_volume(self.context, volume, spec, {}, allow_reschedule=False)

    def delete_volume(self, volume_id: str) -> None:
        volume = self.volume(volume_id)
        managing = volume.status in ("managing", "error_managing")
        volume.status = "error_managing_deleting" if managing else "deleting"
        volume.save()
        self._manager.delete_volume(self.context, volume)

    def unmanage(self, volume_id: str) -> None:
        """Forget a volume, which stays on the cluster."""
        volume = self.volume(volume_id)
        volume.status = "unmanaging"
        volume.save()
        self._manager.delete_volume(self.context, volume, unmanage_only=True)

    def manage(self, source_id: str, size_gib: int, volume_type_id: str | None = None) -> None:
        """Take the volume of the cluster over that has this UUID and size."""
        volume = self.new_volume(size_gib, status="managing", volume_type_id=volume_type_id)
        self._manager.manage_existing(self.context, volume, {"source-id": source_id})

    def retype(self, volume_id: str, volume_type_id: str) -> None:
        """Change a volume's type in place; an error when that takes a migration."""
        volume = self.volume(volume_id)
        volume.previous_status, volume.status = volume.status, "retyping"
        volume.save()
        self._manager.retype(self.context, volume, volume_type_id, {"host": volume.host})

    def extend_volume(self, volume_id: str, size_gib: int) -> None:
        volume = self.volume(volume_id)
        volume.status = "extending"
        volume.save()
        self._manager.extend_volume(self.context, volume, size_gib, [])

    # --- snapshots -----------------------------------------------------------------------------

    def snapshot(self, snapshot_id: str) -> objects.Snapshot:
        return objects.Snapshot.get_by_id(self.context, snapshot_id)

    def create_snapshot(self, volume_id: str) -> objects.Snapshot:
        snapshot = self.new_snapshot(self.volume(volume_id))
        self.take(snapshot)
        return self.snapshot(snapshot.id)

    def take(self, snapshot: objects.Snapshot) -> None:
        """Have the driver take a snapshot whose record there is."""
        self._manager.create_snapshot(self.context, snapshot)

    def new_snapshot(self, volume: objects.Volume) -> objects.Snapshot:
        """A snapshot's record; the driver knows nothing of it."""
        snapshot = objects.Snapshot(
            self.context,
            volume_id=volume.id,
            volume_size=volume.size,
            volume_type_id=volume.volume_type_id,
            status=fields.SnapshotStatus.CREATING,
            user_id="admin",
            project_id=PROJECT_ID,
            use_quota=False,
        )
        snapshot.create()
        return snapshot

    def delete_snapshot(self, snapshot_id: str) -> None:
        snapshot = self.snapshot(snapshot_id)
        snapshot.status = fields.SnapshotStatus.DELETING
        snapshot.save()
        self._manager.delete_snapshot(self.context, snapshot)

    def revert(self, snapshot_id: str) -> None:
        """Revert a volume to its snapshot."""
        snapshot = self.snapshot(snapshot_id)
        volume = self.volume(snapshot.volume_id)
        volume.status, snapshot.status = "reverting", fields.SnapshotStatus.RESTORING
        volume.save()
        snapshot.save()
        self._manager.revert_to_snapshot(self.context, volume, snapshot)

    def reset_state(self, volume_id: str) -> None:
        """What an administrator does with a volume that a crash left in a passing state."""
        volume = self.volume(volume_id)
        volume.status = "in-use" if volume.volume_attachment else "available"
        volume.save()

    def reset_snapshot_state(self, snapshot_id: str) -> None:
        """As `reset_state`."""
        snapshot = self.snapshot(snapshot_id)
        snapshot.status = fields.SnapshotStatus.ERROR
        snapshot.save()

    # --- attachments ---------------------------------------------------------------------------

    def attach(self, volume_id: str, connector: Connector) -> tuple[str, dict[str, Any]]:
        """Attach to the connector's host once more: attachment id, connection info.

        An attachment that fails is deleted again, as Nova does. It names no instance, since
        Cinder would tell Nova about changes of its volume.
        """
        attachment = objects.VolumeAttachment(
            self.context,
            volume_id=volume_id,
            attach_status=fields.VolumeAttachStatus.RESERVED,
        )
        attachment.create()
        try:
            info = self._manager.attachment_update(
                self.context,
                self.volume(volume_id),
                copy.deepcopy(dict(connector)),
                attachment.id,
            )
        except Exception:
            self.detach(attachment.id)
            raise
        volume = self.volume(volume_id)
        volume.status = "in-use"
        volume.save()
        return attachment.id, info

    def detach(self, attachment_id: str) -> None:
        """Delete an attachment, as the API does."""
        attachment = objects.VolumeAttachment.get_by_id(self.context, attachment_id)
        volume = self.volume(attachment.volume_id)
        self._manager.attachment_delete(self.context, attachment_id, volume)
        _ = volume.volume_attachment  # loaded, so that finish_detach takes this one out
        volume.finish_detach(attachment_id)

    def force_detach(self, volume_id: str) -> None:
        """Take every host's access away, as the API's forced detach without a connector does."""
        self.terminate_connection(volume_id, None, force=True)
        for attachment in self.attachments(volume_id):
            self.volume(volume_id).finish_detach(attachment.id)

    def attachments(self, volume_id: str) -> objects.VolumeAttachmentList:
        return objects.VolumeAttachmentList.get_all_by_volume_id(self.context, volume_id)

    def initialize_connection(self, volume_id: str, connector: Connector) -> dict[str, Any]:
        """Access without an attachment, as for Cinder's own copies on its host."""
        return dict(
            self._manager.initialize_connection(
                self.context, self.volume(volume_id), dict(connector)
            )
        )

    def terminate_connection(
        self, volume_id: str, connector: Connector | None, *, force: bool = False
    ) -> None:
        self._manager.terminate_connection(
            self.context, volume_id, connector and dict(connector), force
        )

    # --- back end ------------------------------------------------------------------------------

    def stats(self) -> dict[str, Any]:
        """What the driver tells the scheduler, fresh, as every minute."""
        return dict(self.driver.get_volume_stats(refresh=True))
