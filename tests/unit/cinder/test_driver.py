# SPDX-License-Identifier: Apache-2.0
"""Every operation of the driver against a lab cluster: what it does, and with how many calls."""

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from types import SimpleNamespace

import pytest
from cinder import context, exception, objects
from cinder.db import api as db
from cinder.interface import util as interface_util
from cinder.volume import manager

from lightos.openstack.cinder.driver import LightOSVolumeDriver
from testbed.cluster import GIB, connector
from tests.unit.cinder.conftest import (
    OTHER_PROJECT,
    forget_attachment,
    new_snapshot,
    new_type,
    new_volume,
    record_attachment,
    store,
)

HOST = connector("compute1", number=1)
OTHER = connector("compute2", number=2)
NO_LIST = {"operation": "ListVolumes", "status": 403, "count": 0}


# --- create, delete ----------------------------------------------------------------------------


def test_create(driver, cluster, faults):
    volume = new_volume(2)
    creates = faults.watch(method="POST")
    update = driver.create_volume(volume)
    found = cluster.volume_of(volume.id)
    assert update == {"provider_id": f"default {found['UUID']}"}
    assert found["state"] == "Available"
    assert int(found["size"]) == 2 * GIB
    assert found["replicaCount"] == 2
    assert cluster.host_nqns(volume.id) == set()
    assert cluster.host_addresses(volume.id) == set()
    assert creates.seen == 1


def test_create_of_a_type(driver, cluster):
    volume = new_volume(extra_specs={"compression": "<is> True", "lightos:num_replicas": "3"})
    driver.create_volume(volume)
    found = cluster.volume_of(volume.id)
    assert (found["compression"].lower(), found["replicaCount"]) == ("true", 3)


def test_defaults_come_from_the_configuration(make_driver, cluster):
    driver = make_driver(
        lightos_default_num_replicas=1,
        lightos_default_compression_enabled=True,
        lightos_use_ipacl=False,
    )
    volume = new_volume()
    driver.create_volume(volume)
    found = cluster.volume_of(volume.id)
    assert (found["compression"].lower(), found["replicaCount"]) == ("true", 1)
    assert cluster.host_addresses(volume.id) == {"ALLOW_ANY"}


def test_a_bad_type_makes_nothing(driver, faults):
    calls = faults.watch()
    with pytest.raises(exception.InvalidVolumeType, match="'lightos:num_replicas' is '7'"):
        driver.create_volume(new_volume(extra_specs={"lightos:num_replicas": "7"}))
    assert calls.seen == 0


@pytest.mark.parametrize("may_list", [True, False])
def test_a_volume_whose_type_names_no_project_can_be_deleted(driver, faults, may_list):
    calls, deletes = faults.watch(), faults.watch(operation="DeleteVolume")
    volume = new_volume(extra_specs={"lightos:project_name": "?"}, launched_at=None)
    with pytest.raises(exception.InvalidVolumeType, match="lightos:project_name"):
        driver.create_volume(volume)
    assert calls.seen == 0
    if not may_list:
        faults.add(**NO_LIST)
    driver.delete_volume(volume)
    assert deletes.seen == 0


@pytest.mark.parametrize("may_list", [True, False])
def test_a_type_edited_to_name_no_project_is_no_evidence_that_a_volume_is_gone(
    driver, created, cluster, faults, may_list
):
    volume = created(provider_id=None, launched_at=datetime(2026, 1, 1))
    volume.provider_id = None
    volume.volume_type = new_type(str(uuid.uuid4()), {"lightos:project_name": "?"})
    volume.volume_type_id = volume.volume_type.id
    if not may_list:
        faults.add(**NO_LIST)
        with pytest.raises(exception.InvalidVolumeType, match="lightos:project_name"):
            driver.delete_volume(volume)
        return
    driver.delete_volume(volume)
    assert volume.name not in {found["name"] for found in cluster.volumes()}


def test_create_again_after_an_interruption_takes_the_volume_over(driver, cluster):
    volume = new_volume()
    assert driver.create_volume(volume) == driver.create_volume(volume)
    assert cluster.volume_of(volume.id)["state"] == "Available"


def test_another_volume_of_the_name_is_not_taken_over(driver, cluster):
    volume = new_volume(1)
    driver.create_volume(volume)
    volume.size = 2
    with pytest.raises(exception.VolumeBackendAPIException, match=volume.name):
        driver.create_volume(volume)
    assert int(cluster.volume_of(volume.id)["size"]) == GIB


def test_a_migrations_volume_is_named_by_its_name_id(driver, cluster):
    volume = new_volume()
    driver.create_volume(volume)
    name_id = volume.id
    migrated = new_volume(_name_id=name_id)
    driver.delete_volume(migrated)
    assert all(name_id not in found["name"] for found in cluster.volumes())


@pytest.mark.parametrize("recorded", [True, False], ids=["UUID recorded", "an old driver's"])
def test_after_a_migration_cinder_deletes_the_source(
    driver, created, cluster, monkeypatch, recorded
):
    monkeypatch.setattr(objects.Volume, "save", lambda _volume: None)
    unset = dict.fromkeys(("migration_status", "display_description", "provider_location"))
    source = created(status="available", **unset)
    target = created(status="available", **unset)
    name = target.name
    if not recorded:
        source.provider_id = "default"
    for volume in (source, target):
        volume._context = context.get_admin_context()
    # The end of VolumeManager.migrate_volume_completion, on one cluster.
    service = SimpleNamespace(driver=driver)
    manager.VolumeManager.update_migrated_volume(service, None, source, target, "available")
    driver.delete_volume(source.finish_volume_migration(target))
    assert source.name == name
    assert source.provider_id == f"default {cluster.volume_of(source.name_id)['UUID']}"
    assert all(source.id not in found["name"] for found in cluster.volumes())


def test_delete(driver, created, cluster, faults):
    volume = created()
    deletions = faults.watch(method="DELETE")
    driver.delete_volume(volume)
    assert all(volume.id not in found["name"] for found in cluster.volumes())
    assert deletions.seen == 1


@pytest.mark.parametrize("is_unmanaged", [False, True], ids=["in use", "not managed any more"])
def test_a_copied_record_does_not_delete_the_volume_that_it_was_copied_from(
    driver, created, cluster, is_unmanaged
):
    """Cinder copies `provider_id` into the records that it makes for an entry of the image cache
    and for a migration, and deletes such a record when the driver could not make its volume."""
    original = created()
    store(original, status="available", attach_status="detached")
    copy = new_volume(provider_id=original.provider_id, status="error")
    store(copy, status="error", attach_status="detached")
    if is_unmanaged:
        db.volume_destroy(context.get_admin_context(), original.id)
    driver.delete_volume(copy)
    assert cluster.volume_of(original.id)
    db.volume_destroy(context.get_admin_context(), copy.id)
    driver.delete_volume(original)
    assert original.name not in {volume["name"] for volume in cluster.volumes()}


def test_the_source_of_a_migration_deleted_once_more_is_not_the_volume_that_was_migrated_to(
    driver, created, cluster
):
    """Old drivers recorded no UUID, and the migrated volume has the original's name by then."""
    live = created(extra_specs={"lightos:project_name": OTHER_PROJECT})
    store(live)
    source = new_volume(provider_id="default")
    source._name_id = live.id
    store(source, status="deleting", provider_id="default")
    assert source.name == live.name
    driver.delete_volume(source)
    project, live_uuid = live.provider_id.split()
    assert driver._client.get_volume(project, live_uuid, driver._deadline()).name == live.name
    driver.delete_volume(live)


def test_delete_is_idempotent(driver, created, faults):
    volume = created()
    driver.delete_volume(volume)
    calls = faults.watch()
    driver.delete_volume(volume)
    assert calls.seen == 1
    driver.delete_volume(new_volume())


def test_delete_finds_a_volume_that_an_old_driver_made(driver, created, cluster):
    volume = created()
    volume.provider_id = "default"
    driver.delete_volume(volume)
    assert all(volume.id not in found["name"] for found in cluster.volumes())


def test_delete_again_while_it_is_deleted(driver, created, cluster):
    """The first request came from a cinder-volume that died."""
    volume = created()
    project, uuid = volume.provider_id.split()
    driver._client.delete_volume(project, uuid, driver._deadline())
    driver.delete_volume(volume)
    assert all(volume.id not in found["name"] for found in cluster.volumes())


# --- extend ------------------------------------------------------------------------------------


def test_extend(driver, created, cluster, faults):
    volume = created(1)
    driver.initialize_connection(volume, HOST)
    updates = faults.watch(method="PUT")
    driver.extend_volume(volume, 3)
    assert int(cluster.volume_of(volume.id)["size"]) == 3 * GIB
    assert updates.seen == 1
    assert cluster.host_nqns(volume.id) == {HOST["nqn"]}


def test_extend_again_changes_nothing(driver, created, faults):
    volume = created(2)
    updates = faults.watch(method="PUT")
    driver.extend_volume(volume, 2)
    assert updates.seen == 0


# --- snapshots, clones -------------------------------------------------------------------------


def test_snapshot_and_volumes_from_it(driver, created, cluster, faults):
    volume = created(1)
    snapshot = new_snapshot(volume)
    creates = faults.watch(method="POST")
    snapshot.update(driver.create_snapshot(snapshot))
    assert creates.seen == 1
    found = cluster.snapshot_of(snapshot.id)
    assert snapshot.provider_id == f"default {found['UUID']}"
    assert found["state"] == "Available"

    same, larger = new_volume(1), new_volume(2)
    for wanted in (same, larger):
        wanted.update(driver.create_volume_from_snapshot(wanted, snapshot))
        made = cluster.volume_of(wanted.id)
        assert made["sourceSnapshotUUID"] == found["UUID"]
        assert int(made["size"]) == wanted.size * GIB

    # With clones it stays Deleting, and is out of the way.
    driver.delete_snapshot(snapshot)
    assert all(snapshot.id not in s["name"] for s in cluster.snapshots())
    for wanted in (same, larger):
        driver.delete_volume(wanted)
    driver.delete_snapshot(snapshot)


def test_snapshots_of_old_drivers_are_found_by_name(driver, created, cluster):
    snapshot = new_snapshot(created())
    driver.create_snapshot(snapshot)
    driver.delete_snapshot(snapshot)
    assert all(snapshot.id not in s["name"] for s in cluster.snapshots())
    driver.delete_snapshot(snapshot)


def test_clone(driver, created, cluster, faults):
    source = created(1)
    driver.initialize_connection(source, HOST)
    clone = new_volume(2)
    creates, deletions = faults.watch(method="POST"), faults.watch(method="DELETE")
    clone.update(driver.create_cloned_volume(clone, source))
    found = cluster.volume_of(clone.id)
    assert clone.provider_id == f"default {found['UUID']}"
    assert found["sourceSnapshotName"] == f"for_clone_{clone.id}"
    assert int(found["size"]) == 2 * GIB
    assert cluster.host_nqns(clone.id) == set()
    assert cluster.snapshots() == []
    assert (creates.seen, deletions.seen) == (2, 1)


def test_snapshots_at_once(driver, created, cluster):
    volume = created()
    snapshots = [new_snapshot(volume) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        updates = list(pool.map(driver.create_snapshot, snapshots))
    assert len({update["provider_id"] for update in updates}) == 4
    for snapshot in snapshots:
        driver.delete_snapshot(snapshot)
    assert cluster.snapshots() == []


# --- attach, detach ----------------------------------------------------------------------------


def test_attach_and_detach(driver, created, cluster, lab, faults):
    volume = created()
    updates = faults.watch(method="PUT")
    info = driver.initialize_connection(volume, HOST)
    assert updates.seen == 1  # how often it is asked for depends on how long it takes
    assert info == {
        "driver_volume_type": "lightos",
        "data": {
            "lightos_nodes": {
                address: {
                    "target_portal": address,
                    "target_port": lab["discovery_port"],
                    "transport_type": "tcp",
                }
                for address in lab["api_addresses"]
            },
            "uuid": cluster.volume_of(volume.id)["UUID"],
            "subsysnqn": lab["subsystem_nqn"],
        },
    }
    assert cluster.host_nqns(volume.id) == {HOST["nqn"]}
    assert cluster.host_addresses(volume.id) == set(HOST["host_ips"])
    assert driver.terminate_connection(volume, HOST) is False
    assert cluster.host_nqns(volume.id) == set()
    assert cluster.host_addresses(volume.id) == set()


def test_an_attach_that_changes_nothing_costs_one_call(driver, created, faults):
    volume = created()
    driver.initialize_connection(volume, HOST)
    calls = faults.watch()
    driver.initialize_connection(volume, HOST)
    assert calls.seen == 1


def test_live_migration_order(driver, created, cluster):
    volume = created()
    driver.initialize_connection(volume, HOST)
    record_attachment(volume, HOST)
    driver.initialize_connection(volume, OTHER)
    record_attachment(volume, OTHER)
    assert cluster.host_nqns(volume.id) == {HOST["nqn"], OTHER["nqn"]}
    assert driver.terminate_connection(volume, HOST) is False
    assert cluster.host_nqns(volume.id) == {OTHER["nqn"]}
    assert cluster.host_addresses(volume.id) == set(OTHER["host_ips"])


def test_hosts_attached_and_detached_at_once(driver, created, cluster):
    """Each change is computed on what is there and written by ETag, so none is lost."""
    volume = created()
    hosts = [connector(f"compute{n}", number=n) for n in range(1, 7)]
    with ThreadPoolExecutor(len(hosts)) as pool:
        list(pool.map(lambda host: driver.initialize_connection(volume, host), hosts))
        assert cluster.host_nqns(volume.id) == {host["nqn"] for host in hosts}
        list(pool.map(lambda host: driver.terminate_connection(volume, host), hosts[:-1]))
    assert cluster.host_nqns(volume.id) == {hosts[-1]["nqn"]}


def test_two_drivers_attach_at_once(make_driver, created, cluster):
    """Two cinder-volume processes share nothing but the cluster."""
    volume = created()
    drivers = [make_driver(), make_driver()]
    barrier = threading.Barrier(2)

    def attach(driver, host):
        barrier.wait()
        driver.initialize_connection(volume, host)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(attach, drivers, [HOST, OTHER]))
    assert cluster.host_nqns(volume.id) == {HOST["nqn"], OTHER["nqn"]}


def test_force_detach_takes_every_hosts_access(driver, created, cluster):
    volume = created()
    for host in (HOST, OTHER):
        driver.initialize_connection(volume, host)
        record_attachment(volume, host)
    driver.terminate_connection(volume, None, force=True)
    assert cluster.host_nqns(volume.id) == set()
    assert cluster.host_addresses(volume.id) == set()


def test_detach_of_a_volume_that_is_gone(driver, created):
    volume = created()
    driver.delete_volume(volume)
    driver.terminate_connection(volume, HOST)
    driver.terminate_connection(volume, None, force=True)
    volume.provider_id = None
    driver.terminate_connection(volume, HOST)


def test_switching_the_ip_filter_on_and_off(make_driver, cluster):
    volume = new_volume()
    unfiltered = make_driver(lightos_use_ipacl=False)
    volume.update(unfiltered.create_volume(volume))
    unfiltered.initialize_connection(volume, OTHER)
    record_attachment(volume, OTHER)
    assert cluster.host_addresses(volume.id) == {"ALLOW_ANY"}

    filtered = make_driver(lightos_use_ipacl=True)
    filtered.initialize_connection(volume, HOST)
    assert cluster.host_addresses(volume.id) == {*HOST["host_ips"], *OTHER["host_ips"]}

    unfiltered = make_driver(lightos_use_ipacl=False)
    unfiltered.initialize_connection(volume, HOST)
    assert cluster.host_nqns(volume.id) == {HOST["nqn"], OTHER["nqn"]}


# --- what Cinder asks of a driver ----------------------------------------------------------------


def test_cinder_finds_nothing_missing(driver):
    found = {d.class_name: d for d in interface_util.get_volume_drivers()}
    assert found["LightOSVolumeDriver"].version == LightOSVolumeDriver.VERSION
    assert driver.SUPPORTS_ACTIVE_ACTIVE
    assert driver.CI_WIKI_NAME


def test_statistics_in_one_call(driver, faults):
    calls = faults.watch()
    stats = driver.get_volume_stats(refresh=True)
    assert calls.seen == 1
    assert stats["storage_protocol"] == ["NVMe-TCP", "lightos"]
    assert stats["vendor_name"] == "LightOS Storage"
    assert stats["volume_backend_name"] == "lightos"
    assert 0 < stats["free_capacity_gb"] <= stats["total_capacity_gb"]
    assert stats["provisioned_capacity_gb"] >= 0
    assert stats["max_over_subscription_ratio"] == 20.0
    assert stats["compression"] == [True, False]
    for capability in ("multiattach", "thin_provisioning_support", "online_extend_support"):
        assert stats[capability] is True
    assert stats["QoS_support"] is True
    assert driver.get_volume_stats() == stats
    assert calls.seen == 1


def test_statistics_that_the_cluster_cannot_give_are_told_as_last_known(
    driver, make_driver, created, faults
):
    known = driver.get_volume_stats(refresh=True)
    faults.add(operation="GetCluster", status=500, count=0)
    assert driver.get_volume_stats(refresh=True) == known
    assert make_driver().get_volume_stats()["free_capacity_gb"] == "unknown"


def test_capabilities_have_ranges_and_defaults(driver):
    properties = driver.capabilities["properties"]
    replicas = properties["lightos:num_replicas"]
    assert (replicas["minimum"], replicas["maximum"], replicas["default"]) == (1, 3, 2)
    assert properties["lightos:project_name"]["default"] == "default"
    assert properties["lightos:qos_policy"]["type"] == "string"
    assert properties["compression"]["default"] is False


def test_a_cluster_that_names_no_endpoint_leaves_hosts_those_known(driver, created, monkeypatch):
    """The lab always names some, so its replies lose them here."""
    client, none = driver._client, ()
    cluster = replace(client.get_cluster(driver._deadline()), discovery_endpoints=none)
    info = replace(
        client.get_cluster_info(driver._deadline()), discovery_endpoints=none, nvme_endpoints=none
    )
    monkeypatch.setattr(client, "get_cluster", lambda _deadline: cluster)
    monkeypatch.setattr(client, "get_cluster_info", lambda _deadline: info)
    driver.get_volume_stats(refresh=True)
    connection = driver.initialize_connection(created(), HOST)
    assert connection["data"]["lightos_nodes"]


def test_old_volumes_get_their_project_recorded(driver):
    typed = new_volume(extra_specs={"lightos:project_name": "tenant"})
    known = new_volume(provider_id="default 7d1f0f2f-1c1c-4d57-9a83-0d2c3d1a8a52")
    untyped = new_volume()
    unclear = new_volume(extra_specs={"lightos:project_name": "?"})
    volumes, snapshots = driver.update_provider_info([typed, known, untyped, unclear], [])
    assert volumes == [
        {"id": typed.id, "provider_id": "tenant"},
        {"id": untyped.id, "provider_id": "default"},
    ]
    assert snapshots == []


def test_the_manager_has_hosts_serialise_attach_and_detach(driver):
    """Defect 19: None is Cinder's word for "always lock"; False, the incumbent's, for never."""
    volumes = manager.VolumeManager.__new__(manager.VolumeManager)
    volumes.driver = driver
    assert volumes._driver_shares_targets() is None


def test_exports_need_no_calls(driver, created, faults):
    volume = created()
    calls = faults.watch()
    driver.create_export(None, volume, HOST)
    driver.ensure_export(None, volume)
    driver.remove_export(None, volume)
    assert calls.seen == 0


def test_several_instances_of_one_host(driver, created, cluster):
    """Defect 6: the last instance to go takes the host's access with it, no other."""
    volume = created()
    first, second = HOST | {"mountpoint": "/dev/vdb"}, HOST | {"mountpoint": "/dev/vdc"}
    for instance in (first, second):
        driver.initialize_connection(volume, instance)
        record_attachment(volume, instance)
    assert driver.terminate_connection(volume, first) is True
    forget_attachment(volume, first)
    assert cluster.host_nqns(volume.id) == {HOST["nqn"]}
    assert driver.terminate_connection(volume, second) is False
    assert cluster.host_nqns(volume.id) == set()


def test_cinders_own_attachment_beside_an_instance_of_the_same_host(driver, created, cluster):
    """Defect 6: Cinder copies an attached volume on a host that runs the instance."""
    volume = created()
    instance = HOST | {"mountpoint": "/dev/vdb"}
    driver.initialize_connection(volume, instance)
    record_attachment(volume, instance)
    driver.initialize_connection(volume, HOST)
    assert driver.terminate_connection(volume, HOST) is True
    assert cluster.host_nqns(volume.id) == {HOST["nqn"]}


def test_two_instances_with_equal_connectors(driver, created, cluster):
    volume = created()
    for _ in range(2):
        driver.initialize_connection(volume, HOST)
        record_attachment(volume, HOST)
    assert driver.terminate_connection(volume, HOST) is True
    forget_attachment(volume, HOST)
    assert driver.terminate_connection(volume, HOST) is False
    assert cluster.host_nqns(volume.id) == set()
