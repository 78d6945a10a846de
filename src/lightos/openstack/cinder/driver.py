# SPDX-License-Identifier: Apache-2.0
"""The Cinder volume driver for LightOS.

Each method finds where the Cinder object lives on the cluster, decides with the pure modules of
this package, and lets `cluster` carry the change out and confirm it. A method that returns has
seen the result on the cluster.

State shared by several cinder-volume processes is on the cluster and changed by ETag. Which lock
protects what beside that is one table, in `attachments`.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
from collections.abc import Iterator
from typing import Any

from cinder import coordination, exception, interface
from cinder.common import constants
from cinder.i18n import _
from cinder.image import image_utils
from cinder.volume import driver, volume_utils
from oslo_config import cfg
from oslo_log import log as logging

from lightos.api.client import LightOSClient
from lightos.api.credentials import ExpiryWarning, TokenSource
from lightos.api.errors import (
    AlreadyExists,
    Forbidden,
    LightOSError,
    NotFound,
    Refused,
    ServerFault,
    Unauthorized,
    WrongState,
)
from lightos.api.models.snapshots import CreateSnapshot, Snapshot
from lightos.api.models.values import DEFAULT_PROJECT
from lightos.api.models.volumes import CreateVolume, UpdateVolume, Volume
from lightos.openstack.cinder import (
    acl,
    guru_report,
    images,
    locks,
    manage,
    options,
    qos,
    records,
    retype,
    sparse,
    volume_types,
)
from lightos.openstack.cinder.attachments import Attachments, Rules, Target, remove_lock_files
from lightos.openstack.cinder.capacity import GIB, Capacity, capacity
from lightos.openstack.cinder.cluster import CLEANUP_SECONDS, NO_EVIDENCE, ClusterOperations
from lightos.openstack.cinder.connection import Fabric, host_of
from lightos.openstack.cinder.errors import in_cinder_terms, misconfigured
from lightos.openstack.cinder.housekeeping import BackEnd, Housekeeping
from lightos.openstack.cinder.metrics import DriverMetrics
from lightos.openstack.cinder.naming import (
    ProviderId,
    clone_snapshot_name,
    image_snapshot_name,
)
from lightos.openstack.cinder.places import Places
from lightos.openstack.cinder.policies import QosPolicies
from lightos.openstack.cinder.takeover import Takeover
from lightos.waiting import Deadline, utc_now

LOG = logging.getLogger(__name__)

SNAPSHOT_LOCK = "lightos-snapshot-{volume_id}"
ERROR_MANAGING_DELETING = "error_managing_deleting"
"""Cinder's status of a record that is deleted because its volume could not be taken over."""

options.register()
lightos_opts = options.lightos_opts


def list_opts():
    """Entry point for oslo.config's sample generator: what the section of a back end may hold."""
    section = cfg.OptGroup(
        "lightos",
        help="In cinder.conf: a back end. enabled_backends in [DEFAULT] has the name of its "
        "section, which needs volume_driver = " + options.DRIVER + ".",
    )
    return [(section, LightOSVolumeDriver.get_driver_options())]


@interface.volumedriver
class LightOSVolumeDriver(driver.VolumeDriver):
    """Volumes on a LightOS cluster, attached over NVMe/TCP.

    .. code-block:: default

      Version history:
          3.0.0 - First version of the lightos-openstack distribution: create, delete, attach,
                  detach, extend, snapshots, clones, multi-attach, statistics.
          3.1.0 - Revert to snapshot, QoS specs, retype in place, manage and unmanage, migration
                  inside a cluster, clone of images; no restart when the cluster changes.
    """

    VERSION = "3.1.0"
    # ThirdPartySystems wiki page
    CI_WIKI_NAME = "LightbitsLabs_CI"
    SUPPORTS_ACTIVE_ACTIVE = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.configuration.append_config_values(lightos_opts)
        self._stats: dict[str, Any] = {}
        self._metrics = DriverMetrics()
        self._space = Capacity()
        self._timeout_seconds: float
        self._tokens: TokenSource
        self._cluster: ClusterOperations
        self._places: Places
        self._policies: QosPolicies
        self._takeover: Takeover
        self._attachments: Attachments
        self._housekeeping: Housekeeping
        self._cluster_identity = ""
        self._fabric = Fabric("", ())

    @classmethod
    def get_driver_options(cls):
        return lightos_opts + cls._get_oslo_driver_opts(*options.SHARED_OPTION_NAMES)

    # --- start ---------------------------------------------------------------------------------

    def do_setup(self, context):
        """Make the client of the management API; nothing is sent to it yet."""
        conf = self.configuration
        options.check(conf)
        try:
            self._max_over_subscription_ratio()
        except exception.InvalidParameterValue as error:
            raise options.illegal_value("max_over_subscription_ratio", str(error)) from error
        self._timeout_seconds = options.operation_timeout_seconds(conf.lightos_api_service_timeout)
        verify = options.tls_verification(conf.driver_ssl_cert_verify, conf.driver_ssl_cert_path)
        if not verify:
            LOG.warning(
                "THE LIGHTOS CLUSTER'S TLS CERTIFICATE IS NOT VERIFIED: whoever can answer at %s "
                "can read the JWT and change volumes. Set driver_ssl_cert_verify = True, and "
                "driver_ssl_cert_path to the CA file of the cluster.",
                ", ".join(conf.lightos_api_address),
            )
        self._tokens = options.token_source(conf.lightos_jwt, conf.lightos_jwt_file)
        self._metrics.watch_token(self._tokens)
        if conf.lightos_metrics_port:
            self._serve_metrics()
        client = LightOSClient.connect(
            conf.lightos_api_address,
            conf.lightos_api_port,
            self._tokens,
            verify=verify,
            request_timeout_seconds=conf.lightos_api_service_timeout,
            observer=self._metrics,
        )
        self._cluster = ClusterOperations(
            client,
            snapshot_attempts=conf.lightos_api_service_snapshots_max_calls,
            on_wait=self._metrics.waited,
        )
        self._places = Places(client)
        self._policies = QosPolicies(self._cluster)
        self._takeover = Takeover(self._cluster, self._policies, self._own_projects)
        rules = Rules(conf.lightos_use_ipacl, tuple(conf.lightos_data_networks))
        self._attachments = Attachments(self._cluster, rules, self._deadline)
        self._expiry_warning = ExpiryWarning(self._tokens)
        self._housekeeping = Housekeeping(
            BackEnd(self.host, self.cluster_name),
            self._cluster,
            self._attachments,
            self._places,
            self._deadline,
            policies=self._policies,
            on_access=(
                self._metrics.access_without_attachment if conf.lightos_metrics_port else None
            ),
        )
        self._housekeeping.note_unfinished()
        guru_report.tell_of(self.host, self._told_state)

    def _serve_metrics(self) -> None:
        address = self.configuration.lightos_metrics_address
        port = self.configuration.lightos_metrics_port
        try:
            self._metrics.serve(address, port)
        except OSError as error:
            reason = f"cannot listen on {address}, port {port}: {error.strerror or error}"
            raise options.unusable_option("lightos_metrics_port", reason) from error

    def check_for_setup_error(self):
        """Ask the cluster where its services are; an error names the option to check."""
        # One try's worth of time: a cluster that is down is told now, not after all retries.
        deadline = self._client.deadline(self.configuration.lightos_api_service_timeout)
        try:
            cluster = self._client.get_cluster_info(deadline, patient=False)
        except LightOSError as error:
            raise misconfigured(error, self._tokens.name) from error
        except ValueError as error:
            raise options.illegal_value(self._tokens.name, str(error)) from error
        self._expiry_warning.look()
        self._cluster_identity = f"{cluster.cluster_name} {cluster.uuid}".strip()
        self._fabric = Fabric.of(cluster)
        replicas = self.configuration.lightos_default_num_replicas
        if 0 < cluster.current_max_replicas < replicas:
            LOG.warning(
                "lightos_default_num_replicas is %s, but cluster %s has room for %s replicas now",
                replicas,
                cluster.cluster_name or cluster.uuid,
                cluster.current_max_replicas,
            )
        LOG.info("LightOS cluster %s, subsystem %s", cluster.uuid, cluster.subsystem_nqn)

    def _told_state(self) -> guru_report.BackEnd:
        """What a Guru Meditation Report tells of this back end."""
        return guru_report.BackEnd(
            version=self.VERSION,
            cluster=self._cluster_identity,
            subsystem_nqn=self._fabric.subsystem_nqn,
            discovery_services=self._fabric.discovery_services,
            api_addresses=self._client.address_states(),
            token=guru_report.token_told(self._tokens.name, self._tokens.last_read, utc_now()),
            waits=self._cluster.waits.told(),
        )

    @property
    def _client(self) -> LightOSClient:
        return self._cluster.client

    def _deadline(self) -> Deadline:
        return self._client.deadline(self._timeout_seconds)

    def _own_projects(self) -> set[str]:
        return records.projects(host=self.host, cluster_name=self.cluster_name)

    # --- statistics and capabilities -----------------------------------------------------------

    @in_cinder_terms
    def get_volume_stats(self, refresh=False):
        """Tell the scheduler what there is; also where hosts will find the cluster from now on."""
        if refresh or not self._stats:
            self._stats = self._current_stats()
            self._expiry_warning.look()
            if self.initialized:
                self._housekeeping.after_refresh()
        return self._stats

    def _current_stats(self) -> dict[str, Any]:
        conf = self.configuration
        self._read_cluster()
        space = self._space
        stats = {
            "volume_backend_name": conf.safe_get("volume_backend_name") or type(self).__name__,
            "vendor_name": "LightOS Storage",
            "driver_version": self.VERSION,
            # As a list, the first is shown to operators and any suits a volume type that asks.
            "storage_protocol": [constants.NVMEOF_TCP, constants.LIGHTOS],
            "total_capacity_gb": space.total_gib,
            "free_capacity_gb": space.free_gib,
            "reserved_percentage": conf.safe_get("reserved_percentage"),
            "max_over_subscription_ratio": self._max_over_subscription_ratio(),
            "thin_provisioning_support": True,
            "thick_provisioning_support": False,
            "online_extend_support": True,
            "multiattach": True,
            "QoS_support": True,
            "compression": [True, False],
            "location_info": self._location,
            "filter_function": self.get_filter_function(),
            "goodness_function": self.get_goodness_function(),
        }
        if space.provisioned_gib is not None:
            stats["provisioned_capacity_gb"] = space.provisioned_gib
        return stats

    @property
    def _location(self) -> str:
        """The same for all back ends of one cluster, and only for them."""
        return f"{LightOSVolumeDriver.__name__}:{self._fabric.subsystem_nqn}"

    def _max_over_subscription_ratio(self) -> float | str:
        return volume_utils.get_max_over_subscription_ratio(
            self.configuration.safe_get("max_over_subscription_ratio"), supports_auto=True
        )

    def _read_cluster(self) -> None:
        """Learn the cluster's capacity, where this token may see it, and its endpoints."""
        deadline = self._deadline()
        fabric = None
        try:
            cluster = self._client.get_cluster(deadline)
        except (Forbidden, Unauthorized):
            LOG.debug("The token may not see the cluster's statistics")
            self._space = Capacity()
        except (ServerFault, Refused) as error:
            LOG.warning("The capacity is told as it was last known: %s", error)
        else:
            self._space = capacity(cluster.statistics)
            fabric = Fabric.of(cluster)
        if not (fabric and fabric.discovery_services):
            fabric = Fabric.of(self._client.get_cluster_info(deadline))
        if fabric.discovery_services:
            self._fabric = fabric
        else:
            LOG.warning("The cluster names no endpoint now; hosts are told those known so far")

    def init_capabilities(self):
        super().init_capabilities()
        compression = self.capabilities["properties"][volume_types.COMPRESSION_SPEC]
        compression["default"] = self.configuration.lightos_default_compression_enabled
        # Cinder decides by this protocol whether hosts must serialise attach and detach of a
        # back end's volumes ("shared_targets"), and knows ours only by its transport. They must:
        # two instances of one host share its access to a volume.
        self.capabilities["storage_protocol"] = constants.NVMEOF_TCP

    def _init_vendor_properties(self):
        properties: dict[str, dict[str, Any]] = {}
        self._set_property(
            properties,
            volume_types.REPLICAS_SPEC,
            "Number of replicas",
            _("How many nodes hold the data of a volume."),
            "integer",
            minimum=volume_types.MIN_REPLICAS,
            maximum=volume_types.MAX_REPLICAS,
            default=self.configuration.lightos_default_num_replicas,
        )
        self._set_property(
            properties,
            volume_types.QOS_POLICY_SPEC,
            "QoS policy",
            _("UUID or name of the cluster's QoS policy for a volume."),
            "string",
        )
        self._set_property(
            properties,
            volume_types.PROJECT_SPEC,
            "Project",
            _("Project of the cluster that a volume belongs to."),
            "string",
            default=DEFAULT_PROJECT,
        )
        return properties, "lightos"

    # --- where things are ----------------------------------------------------------------------

    def update_provider_info(self, volumes, snapshots):
        """Record the project of volumes that older drivers left without, before a type changes.

        Runs over all volumes at start, so it asks the cluster nothing.
        """
        updates = []
        for volume in volumes:
            if ProviderId.parse(volume.provider_id):
                continue
            try:
                project = volume_types.project(records.extra_specs(volume))
            except volume_types.InvalidSpec as error:
                LOG.warning("The project of volume %s is not known: %s", volume.name, error)
                continue
            updates.append({"id": volume.id, "provider_id": str(ProviderId(project))})
        return updates, []

    def _specs(self, volume) -> volume_types.VolumeSpecs:
        return self._specs_of_type(records.type_of(volume))

    def _specs_of_type(self, volume_type) -> volume_types.VolumeSpecs:
        return volume_types.parse(
            volume_type.extra_specs if volume_type else None,
            records.qos_limit(volume_type),
            default_replica_count=self.configuration.lightos_default_num_replicas,
            default_compression=self.configuration.lightos_default_compression_enabled,
        )

    # --- volumes -------------------------------------------------------------------------------

    @in_cinder_terms
    def create_volume(self, volume):
        return self._create(volume, self._specs(volume), None, self._deadline())

    @in_cinder_terms
    def create_volume_from_snapshot(self, volume, snapshot):
        specs = self._specs(volume)
        deadline = self._deadline()
        source = self._places.of_snapshot(snapshot, deadline)
        volume_types.check_source_project(specs, source.project)
        return self._create(volume, specs, source, deadline)

    @in_cinder_terms
    def create_cloned_volume(self, volume, src_vref):
        """Clone by way of a snapshot, because the cluster makes volumes from snapshots only."""
        specs = self._specs(volume)
        origin = self._places.of_volume(src_vref, self._deadline())
        volume_types.check_source_project(specs, origin.project)
        name = clone_snapshot_name(volume.id)
        with self._own_snapshot(src_vref.id, origin, name, cloned=True) as (snapshot, deadline):
            source = ProviderId(origin.project, snapshot.uuid)
            return self._create(volume, specs, source, deadline)

    def _create(
        self,
        volume,
        specs: volume_types.VolumeSpecs,
        source: ProviderId | None,
        deadline: Deadline,
    ) -> dict[str, str]:
        """Make a volume, empty or from a snapshot, that nobody has access to.

        The volume's own `provider_id` is not looked at: Cinder copies the source's into the
        volume that a migration makes.
        """
        closed = acl.closed(filter_addresses=self._filter_addresses)

        def create(policy: qos.PolicyRef | None) -> Volume:
            named = policy or qos.PolicyRef()
            request = CreateVolume(
                name=volume.name,
                size_bytes=volume.size * GIB,
                replica_count=specs.replica_count,
                compression=specs.compression,
                acl=closed.hosts,
                ip_acl=closed.addresses,
                source_snapshot_uuid=source.uuid if source else "",
                qos_policy_uuid=named.uuid,
                qos_policy_name=named.name,
            )
            return self._cluster.create_volume(specs.project, request, deadline)

        created = self._policies.with_policy(specs, deadline, create)
        return {"provider_id": str(ProviderId(specs.project, created.uuid))}

    @in_cinder_terms
    def delete_volume(self, volume):
        if volume.status == ERROR_MANAGING_DELETING:
            # Cinder deletes its record of a volume that it failed to take over. The volume may
            # have got its new name all the same, but it is not Cinder's to delete.
            LOG.info("Volume %s was not taken over; whatever has that name stays", volume.name)
            return
        deadline = self._deadline()
        try:
            where = self._places.of_own_volume(volume, deadline)
        except NotFound as error:
            LOG.info("Volume %s does not exist on the cluster: %s", volume.name, error)
            return
        except volume_types.InvalidSpec as error:
            if volume.launched_at:
                raise
            LOG.info("Volume %s was never made: %s", volume.name, error)
            return
        policy = self._policy_made_for(volume, where, deadline)
        self._cluster.delete_volume(where.project, where.uuid, deadline)
        if policy:
            self._policies.drop_if_unused(policy)

    def _policy_made_for(self, volume, where: ProviderId, deadline: Deadline) -> str:
        """UUID of the policy that goes when its last volume goes; empty when there is none."""
        volume_type = records.type_of(volume)
        if not (volume_type and volume_type.qos_specs_id) or records.is_qos_shared(volume):
            return ""
        try:
            return self._client.get_volume(where.project, where.uuid, deadline).qos_policy_uuid
        except NotFound:
            return ""

    @in_cinder_terms
    def extend_volume(self, volume, new_size):
        """Grow to `new_size` GiB, attached or not; returns when the cluster shows the size."""
        deadline = self._deadline()
        try:
            where = self._places.of_volume(volume, deadline)
            self._grow(where, new_size * GIB, deadline)
        except NotFound as error:
            raise exception.VolumeNotFound(volume_id=volume.id) from error

    def _grow(self, where: ProviderId, size_bytes: int, deadline: Deadline) -> None:
        def grow(current: Volume) -> UpdateVolume | None:
            return UpdateVolume(size_bytes=size_bytes) if current.size_bytes < size_bytes else None

        self._cluster.update_volume(where.project, where.uuid, grow, deadline)

    # --- images --------------------------------------------------------------------------------

    def clone_image(self, context, volume, image_location, image_meta, image_service):
        """Clone the image's own volume, when Glance keeps it on this cluster.

        Cinder does so itself for an image volume of the same back end. This also finds those of
        the other back ends of the cluster.
        """
        source = images.image_volume(context, volume, image_location, image_meta)
        if source is None:
            return None, False
        try:
            return self.create_cloned_volume(volume, source), True
        except exception.CinderException as error:
            LOG.info("Image volume %s is not cloned, so copied: %s", source.id, error)
            return None, False

    def copy_volume_to_image(self, context, volume, image_service, image_meta):
        """Upload a volume, of which only what is written is read if that is known."""
        written = self._written_in(volume, image_meta)
        if written is None:
            super().copy_volume_to_image(context, volume, image_service, image_meta)
            return
        connector = volume_utils.brick_get_connector_properties(
            self.configuration.use_multipath_for_image_xfer,
            self.configuration.enforce_multipath_for_image_xfer,
        )
        attached, volume = self._attach_volume(context, volume, connector)
        try:
            path = attached["device"]["path"]
            with image_utils.chown_if_needed(path), open(path, "rb", buffering=0) as device:
                # What the kernel would read ahead is mostly what is left out. Without that, reads
                # as small as Glance's client makes them take twice as long.
                os.posix_fadvise(device.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
                reader = io.BufferedReader(sparse.SparseReader(device, written), sparse.READ_BYTES)
                volume_utils.upload_volume(
                    context, image_service, image_meta, path, volume, volume_fd=reader
                )
        finally:
            # As Cinder does: nothing was written, so there is nothing to be lost.
            self._detach_volume(
                context, attached, volume, connector, force=True, ignore_errors=True
            )

    def _written_in(self, volume, image_meta) -> sparse.Written | None:
        """What is written in a volume; None where that is not asked for, or not known.

        Nobody writes to it meanwhile: Cinder lets nobody attach a volume in state uploading.
        """
        if not (self.configuration.lightos_sparse_image_upload and images.is_raw(image_meta)):
            return None
        if volume.encryption_key_id or volume.volume_attachment:
            return None
        name = image_snapshot_name(volume.id, image_meta["id"])
        deadline = self._deadline()
        try:
            where = self._places.of_volume(volume, deadline)
            found = self._client.get_volume(where.project, where.uuid, deadline)
            sparse.check(found)
            with self._own_snapshot(volume.id, where, name, cloned=False) as (snapshot, deadline):
                answer = self._client.list_changed_blocks(where.project, snapshot.uuid, deadline)
                return sparse.written(answer, found.size_bytes)
        except (LightOSError, volume_types.InvalidSpec, sparse.NotKnown) as error:
            LOG.warning("All of volume %s is read for its image: %s", volume.name, error)
            return None

    # --- retype, migration ---------------------------------------------------------------------

    @in_cinder_terms
    def retype(self, context, volume, new_type, diff, host):
        """Change compression and QoS policy in place; all else takes a migration.

        Returns (whether it is done, None). The volume is compared with what the new type asks
        for, so a type whose volumes would be made the same needs no change at all. One that
        could not be changed for certain is set back, because Cinder keeps its old type.
        """
        wanted = self._specs_of_type(new_type)
        old_type = records.type_of(volume)
        old = (old_type.extra_specs or {}) if old_type else {}
        new = new_type.extra_specs or {}
        deadline = self._deadline()
        where = self._places.of_volume(volume, deadline)
        before = self._client.get_volume(where.project, where.uuid, deadline)
        if reason := retype.obstacle(before, old, new, wanted):
            LOG.info("Volume %s is not retyped in place: %s", volume.name, reason)
            return False, None

        def change_to(policy: qos.PolicyRef | qos.NotThisPolicy | None) -> Volume:
            try:
                return self._cluster.update_volume(
                    where.project,
                    where.uuid,
                    lambda current: retype.change(current, old, new, wanted, policy),
                    deadline,
                )
            except LightOSError:
                self._set_back(where, before)
                raise

        had_qos = volume_types.QOS_POLICY_SPEC in old or (old_type and old_type.qos_specs_id)
        if had_qos and not wanted.has_qos:
            default = self._policies.default_of(where.project, deadline)
            unknown = qos.NotThisPolicy(before.qos_policy_uuid)
            after = change_to(unknown if default is None else qos.PolicyRef(uuid=default))
        else:
            after = self._policies.with_policy(wanted, deadline, change_to)
        if before.qos_policy_uuid not in ("", after.qos_policy_uuid):
            self._policies.drop_if_unused(before.qos_policy_uuid)
        return True, None

    def _set_back(self, where: ProviderId, before: Volume) -> None:
        """Undo what a retype may have changed; what failed for good changed nothing."""
        deadline = self._client.deadline(CLEANUP_SECONDS)
        try:
            self._cluster.update_volume(
                where.project, where.uuid, lambda now: retype.set_back(now, before), deadline
            )
        except LightOSError as error:
            LOG.error(
                "Volume %s of project %s may have the compression and QoS policy of the type that "
                "it could not be given; retype it again: %s",
                where.uuid,
                where.project,
                error,
            )

    def migrate_volume(self, context, volume, host):
        """Hand the volume over to another back end of this cluster: it stays where it is.

        Returns (whether it is done, None); Cinder copies the volume when it is not.
        """
        return host["capabilities"].get("location_info") == self._location, None

    def update_migrated_volume(self, ctxt, volume, new_volume, original_volume_status):
        """Give the volume that the data was copied to the original's name.

        While the source exists in the same project it has that name. The new volume then keeps
        its own, and Cinder remembers that by `_name_id`. Its `provider_id` is left alone: Cinder
        exchanges those of the two records itself.
        """
        name_id = None
        try:
            deadline = self._deadline()
            where = self._places.of_volume(new_volume, deadline)
            original_name = volume_utils.CONF.volume_name_template % volume.id
            self._rename(where, original_name, deadline)
        except AlreadyExists:
            name_id = new_volume.name_id
        except (LightOSError, volume_types.InvalidSpec) as error:
            LOG.warning("Volume %s keeps its name after the migration: %s", new_volume.name, error)
            name_id = new_volume.name_id
        return {"_name_id": name_id, "provider_location": new_volume.provider_location}

    def _rename(self, where: ProviderId, name: str, deadline: Deadline) -> None:
        def rename(current: Volume) -> UpdateVolume | None:
            return UpdateVolume(new_name=name) if current.name != name else None

        self._cluster.update_volume(where.project, where.uuid, rename, deadline)

    # --- volumes and snapshots that Cinder takes over ------------------------------------------

    @in_cinder_terms
    def manage_existing(self, volume, existing_ref):
        """Take a volume of the cluster over; it gets the name that Cinder has for it."""
        specs = self._specs(volume)
        where = self._takeover.take_volume(volume, specs, existing_ref, self._deadline())
        return {"provider_id": str(where)}

    @in_cinder_terms
    def manage_existing_get_size(self, volume, existing_ref):
        specs = self._specs(volume)
        found = self._takeover.find_volume(volume, specs, existing_ref, self._deadline())
        return manage.rounded_gib(found.size_bytes)

    @in_cinder_terms
    def get_manageable_volumes(  # noqa: PLR0917 - Cinder's signature
        self, cinder_volumes, marker, limit, offset, sort_keys, sort_dirs
    ):
        return self._takeover.list_volumes(
            self._deadline(), marker, limit, offset, sort_keys, sort_dirs
        )

    def unmanage(self, volume):
        """Nothing to do: the volume stays as it is, under the name that Cinder gave it."""

    @in_cinder_terms
    def manage_existing_snapshot(self, snapshot, existing_ref):
        """Take a snapshot of a managed volume over.

        The cluster does not rename snapshots, so it keeps its name and is known by its UUID.
        """
        found = self._manageable_snapshot(snapshot, existing_ref)
        return {"provider_id": str(ProviderId(found.project, found.uuid))}

    @in_cinder_terms
    def manage_existing_snapshot_get_size(self, snapshot, existing_ref):
        return manage.rounded_gib(self._manageable_snapshot(snapshot, existing_ref).size_bytes)

    def _manageable_snapshot(self, snapshot, existing_ref) -> Snapshot:
        deadline = self._deadline()
        volume = self._places.of_volume(snapshot.volume, deadline)
        return self._takeover.find_snapshot(snapshot, volume, existing_ref, deadline)

    @in_cinder_terms
    def get_manageable_snapshots(  # noqa: PLR0917 - Cinder's signature
        self, cinder_snapshots, marker, limit, offset, sort_keys, sort_dirs
    ):
        return self._takeover.list_snapshots(
            self._deadline(), marker, limit, offset, sort_keys, sort_dirs
        )

    def unmanage_snapshot(self, snapshot):
        """Nothing to do: the snapshot stays as it is."""

    # --- snapshots -----------------------------------------------------------------------------

    @in_cinder_terms
    def create_snapshot(self, snapshot):
        source = self._places.of_volume_of(snapshot, self._deadline())
        created, _ = self._take_snapshot(snapshot.volume_id, source, snapshot.name)
        return {"provider_id": str(ProviderId(source.project, created.uuid))}

    # A cluster refuses a snapshot while it takes another one of the same volume. Waiting for
    # our turn, across all cinder-volume processes, is cheaper and surer than being refused.
    @locks.synchronized(SNAPSHOT_LOCK)
    def _take_snapshot(
        self, volume_id: str, source: ProviderId, name: str
    ) -> tuple[Snapshot, Deadline]:
        """The snapshot, and the deadline of all that the operation does from its turn on.

        However many go first is no part of the time allowed: the cluster is well.
        """
        deadline = self._deadline()
        request = CreateSnapshot(name=name, source_volume_uuid=source.uuid)
        return self._cluster.create_snapshot(source.project, request, deadline), deadline

    @contextlib.contextmanager
    def _own_snapshot(
        self, volume_id: str, source: ProviderId, name: str, *, cloned: bool
    ) -> Iterator[tuple[Snapshot, Deadline]]:
        """Have a snapshot that Cinder knows nothing of, for the time of one operation.

        It comes with that operation's deadline. `cloned`: it gets a clone, for which the cluster
        may keep it in Deleting.
        """
        try:
            snapshot, deadline = self._take_snapshot(volume_id, source, name)
        except NO_EVIDENCE:
            # It may have been taken all the same.
            self._drop_own_snapshot(source.project, name, cloned=cloned)
            raise
        try:
            yield snapshot, deadline
        finally:
            self._drop_own_snapshot(source.project, name, snapshot.uuid, cloned=cloned)

    def _drop_own_snapshot(self, project: str, name: str, uuid: str = "", *, cloned: bool) -> None:
        """Delete such a snapshot; the operation is good, or already failed, whatever comes of it.

        Without a UUID it is looked up by name, which comes from ids of Cinder's and is thus ours.
        """
        deadline = self._client.deadline(CLEANUP_SECONDS)
        try:
            uuid = uuid or self._client.get_snapshot_by_name(project, name, deadline).uuid
            self._cluster.delete_snapshot(project, uuid, deadline, cloned=cloned)
        except NotFound:
            return
        except LightOSError as error:
            LOG.error(
                "Could not delete snapshot %s (%s) of project %s, which only served a copy; "
                "if it exists, delete it on the cluster: %s",
                name,
                uuid or "UUID not known",
                project,
                error,
            )

    @classmethod
    def clean_volume_file_locks(cls, volume_id):
        coordination.synchronized_remove(SNAPSHOT_LOCK.format(volume_id=volume_id))
        remove_lock_files(volume_id)

    @in_cinder_terms
    def delete_snapshot(self, snapshot):
        deadline = self._deadline()
        try:
            where = self._places.of_snapshot(snapshot, deadline)
        except NotFound:
            LOG.info("Snapshot %s does not exist on the cluster", snapshot.name)
            return
        self._cluster.delete_snapshot(where.project, where.uuid, deadline)

    @in_cinder_terms
    def revert_to_snapshot(self, context, volume, snapshot):
        """Set the volume's content back to its snapshot; its size stays as Cinder knows it."""
        deadline = self._deadline()
        where = self._places.of_volume(volume, deadline)
        source = self._places.of_snapshot(snapshot, deadline)

        def check(current: Volume) -> None:
            if hosts := manage.hosts_with_access(current):
                reason = f"hosts have access to it: {', '.join(hosts)}; detach them first"
                target = f"volume {volume.name} of project {where.project}"
                raise WrongState("RollbackVolume", target, reason)

        self._cluster.roll_back_volume(where.project, where.uuid, source.uuid, check, deadline)
        self._grow(where, volume.size * GIB, deadline)

    def snapshot_revert_use_temp_snapshot(self):
        """A rollback is done by the cluster or not done, so nothing is to be saved before it."""
        return False

    def backup_use_temp_snapshot(self):
        """Hosts cannot attach snapshots: a volume in use is backed up by way of a clone."""
        return False

    # --- attachments ---------------------------------------------------------------------------

    def create_export(self, context, volume, connector):
        """Nothing to do: every node exports every volume to the hosts in its access lists."""

    def ensure_export(self, context, volume):
        """Nothing to do, see `create_export`."""

    def remove_export(self, context, volume):
        """Nothing to do, see `create_export`."""

    def validate_connector(self, connector):
        """Refuse a host that could not use a volume, before anything is changed."""
        self._attachments.check(connector)

    @in_cinder_terms
    def initialize_connection(self, volume, connector):
        """Give a host access to a volume, beside those that have it."""
        try:
            where = self._attachments.admit(self._target(volume), connector, self._fabric.addresses)
        except exception.InvalidConnectorException as error:
            # Cinder asks `validate_connector` before, and expects this kind of error here.
            raise exception.VolumeBackendAPIException(data=str(error)) from error
        return self._fabric.connection_info(where.uuid)

    @in_cinder_terms
    def terminate_connection(self, volume, connector, **kwargs):
        """Take a host's access away; returns whether another attachment still needs it.

        No connector means every host: that is how Cinder asks for a forced detach, whatever other
        attachments there are. A connector without host NQN names nobody whose access could be
        taken; with `force` that is no error.
        """
        if connector is None:
            self._attachments.dismiss_all(self._target(volume))
            return False
        host = host_of(connector)
        if host is None:
            reason = (
                f"the connector of {connector.get('host', 'the host')} has no NVMe host NQN, so it "
                f"is not known whose access to volume {volume.name} to take"
            )
            if not kwargs.get("force"):
                raise exception.VolumeBackendAPIException(data=reason)
            LOG.warning("Nothing is changed: %s", reason)
            return False
        return self._attachments.dismiss(self._target(volume), connector, host)

    def _target(self, volume) -> Target:
        locate = functools.partial(self._places.of_volume, volume)
        return Target(volume.id, volume.status, locate)

    @property
    def _filter_addresses(self) -> bool:
        return self.configuration.lightos_use_ipacl
