# SPDX-License-Identifier: Apache-2.0
"""Volumes and snapshots that a process left half made, and those of others beside them."""

import uuid
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from cinder import context, objects
from cinder.db import api as db
from oslo_db.exception import DBConnectionError
from oslo_utils import timeutils

from lightos import waiting
from lightos.api.models.snapshots import CreateSnapshot
from lightos.api.models.volumes import CreateVolume, UpdateVolume
from lightos.openstack.cinder import housekeeping
from lightos.openstack.cinder.capacity import GIB
from lightos.openstack.cinder.housekeeping import SECONDS_BETWEEN_LOOKS
from lightos.openstack.cinder.naming import clone_snapshot_name, image_snapshot_name
from testbed.cluster import connector
from tests.unit.cinder.conftest import BACKEND, mark, new_volume, store
from tests.unit.cinder.conftest import HOST as SERVICE
from tests.unit.clock import FakeClock

HOST = connector("compute1", number=1)


@pytest.fixture(autouse=True)
def _looks_at_each_refresh(monkeypatch):
    monkeypatch.setattr(housekeeping, "SECONDS_BETWEEN_LOOKS", 0.0)


def make_on_cluster(driver, name):
    request = CreateVolume(name=name, size_bytes=GIB, replica_count=1, acl=("ALLOW_NONE",))
    return driver._cluster.create_volume("default", request, driver._deadline())


def names(cluster):
    return {volume["name"] for volume in cluster.volumes()}


@pytest.fixture
def interrupted(make_driver, driver):
    """A volume that a process was making as it died, and the driver of the next process."""

    def interrupt(volume=None, **values):
        volume = volume or new_volume()
        store(volume, **{"status": "creating", "attach_status": "detached"} | values)
        return volume, make_driver()

    return interrupt


def test_a_volume_that_was_never_finished_is_removed(interrupted, cluster):
    """Cinder's own clean-up puts it into error; what the cluster has of it is in the way."""
    half_made, driver = interrupted()
    make_on_cluster(driver, half_made.name)
    mark(half_made, status="error")
    driver._housekeeping.remove_half_made()
    assert half_made.name not in names(cluster)


@pytest.mark.parametrize(
    ("at_start", "later"),
    [
        ({}, {}),
        ({}, {"status": "available"}),
        ({}, {"status": "error", "launched_at": datetime(2026, 1, 1)}),
        ({"host": "controller-2@lightos"}, {"status": "error"}),
        ({"migration_status": "target:1"}, {"status": "error"}),
        ({"status": "available"}, {"status": "error"}),
        ({"status": "error"}, {}),
        ({"status": "managing"}, {"status": "error"}),
    ],
    ids=[
        "being made",
        "fine",
        "had been finished",
        "another back end's",
        "a migration's",
        "once set available by an operator",
        "failed before",
        "being taken over",
    ],
)
def test_any_other_volume_is_left_alone(interrupted, cluster, at_start, later):
    volume, driver = interrupted(**at_start)
    made = make_on_cluster(driver, volume.name)
    mark(volume, **later)
    driver._housekeeping.remove_half_made()
    assert volume.name in names(cluster)
    driver._cluster.delete_volume("default", made.uuid, driver._deadline())


def test_a_half_made_volume_that_cinder_was_writing_to_is_removed(interrupted, created, cluster):
    """It died in the middle of an image: its own host has access, which goes first."""
    volume, driver = interrupted(created(), status="downloading")
    driver.initialize_connection(volume, HOST)
    mark(volume, status="error")
    driver._housekeeping.look()
    assert volume.name in names(cluster)
    driver._housekeeping.look()
    driver._housekeeping.look()
    assert volume.name not in names(cluster)


def test_a_half_made_volume_that_an_operator_gave_a_host_is_left_alone(
    interrupted, created, cluster
):
    volume, driver = interrupted(created())
    project, uuid = volume.provider_id.split()
    driver._cluster.update_volume(
        project,
        uuid,
        lambda now: None if HOST["nqn"] in now.acl else UpdateVolume(acl=(HOST["nqn"],)),
        driver._deadline(),
    )
    mark(volume, status="error")
    for _ in range(3):
        driver._housekeeping.look()
    assert volume.name in names(cluster)


@pytest.mark.parametrize(
    ("clone", "stays"),
    [
        ({"status": "creating"}, True),
        ({"status": "downloading"}, True),
        ({"status": "available"}, False),
        ({"status": "error"}, False),
        ({"status": "deleting"}, False),
        (None, True),
    ],
    ids=["being made", "being written", "made", "failed", "deleted", "another deployment's"],
)
def test_snapshots_of_clones_go_with_the_clone_of_ours_that_has_ended(
    driver, created, cluster, clone, stays
):
    source = created()
    volume = new_volume()
    if clone:
        store(volume, **clone)
    if clone == {"status": "deleting"}:
        db.volume_destroy(context.get_admin_context(), volume.id)
    name = clone_snapshot_name(volume.id)
    source_uuid = source.provider_id.split()[1]
    taken = driver._cluster.create_snapshot(
        "default", CreateSnapshot(name=name, source_volume_uuid=source_uuid), driver._deadline()
    )
    driver._housekeeping.find_own_snapshots()
    driver._housekeeping.remove_own_snapshots()
    left = [snapshot["name"] for snapshot in cluster.snapshots()]
    assert left == ([name] if stays else [])
    driver._cluster.delete_snapshot("default", taken.uuid, driver._deadline())


@pytest.mark.parametrize(
    ("volume", "stays"),
    [
        ({"status": "uploading"}, True),
        ({"status": "available"}, False),
        ({"status": "in-use"}, False),
        ({"status": "deleting"}, False),
        (None, True),
    ],
    ids=["being uploaded", "uploaded", "in use", "deleted", "another deployment's"],
)
def test_snapshots_of_uploads_go_when_the_volume_of_ours_is_not_being_uploaded(
    driver, created, cluster, volume, stays
):
    source = created()
    if volume:
        store(source, **volume)
    if volume == {"status": "deleting"}:
        db.volume_destroy(context.get_admin_context(), source.id)
    source_uuid = source.provider_id.split()[1]
    taken = [image_snapshot_name(source.id, str(uuid.uuid4())) for _ in range(2)]
    for name in taken:
        request = CreateSnapshot(name=name, source_volume_uuid=source_uuid)
        driver._cluster.create_snapshot("default", request, driver._deadline())
    driver._housekeeping.find_own_snapshots()
    driver._housekeeping.remove_own_snapshots()
    left = cluster.snapshots()
    assert {snapshot["name"] for snapshot in left} == (set(taken) if stays else set())
    for snapshot in left:
        driver._cluster.delete_snapshot("default", snapshot["UUID"], driver._deadline())


def test_an_operators_snapshot_is_left_alone(driver, created, cluster):
    source_uuid = created().provider_id.split()[1]
    request = CreateSnapshot(name="for_clone_tests", source_volume_uuid=source_uuid)
    taken = driver._cluster.create_snapshot("default", request, driver._deadline())
    driver._housekeeping.find_own_snapshots()
    driver._housekeeping.remove_own_snapshots()
    assert [snapshot["name"] for snapshot in cluster.snapshots()] == ["for_clone_tests"]
    driver._cluster.delete_snapshot("default", taken.uuid, driver._deadline())


def wait_for_housekeeping(driver):
    with driver._housekeeping._running:
        pass


def test_it_begins_when_cinder_has_marked_its_dead_processes_work(interrupted, cluster):
    """`init_host` refreshes the statistics once before that."""
    half_made, driver = interrupted()
    make_on_cluster(driver, half_made.name)
    driver.get_volume_stats(refresh=True)
    assert half_made.name in names(cluster)
    mark(half_made, status="error")
    driver.get_volume_stats(refresh=True)
    wait_for_housekeeping(driver)
    assert half_made.name not in names(cluster)


def test_access_is_looked_through_at_start_and_then_every_hour(make_driver, monkeypatch):
    """However often Cinder refreshes, and also when one is due while the last is still at work."""
    clock = FakeClock()
    monkeypatch.setattr(waiting, "time", clock)
    monkeypatch.setattr(housekeeping, "SECONDS_BETWEEN_LOOKS", SECONDS_BETWEEN_LOOKS)
    driver = make_driver()
    began, looks = clock.now, []

    def note(*, whole):
        looks.append((clock.now - began, whole))

    monkeypatch.setattr(driver._housekeeping, "settle_access", note)
    for seconds in range(0, 2 * 3600, 3):
        clock.now = began + seconds
        if seconds in (3, 3603):
            with driver._housekeeping._running:
                driver._housekeeping.after_refresh()
        else:
            driver._housekeeping.after_refresh()
            wait_for_housekeeping(driver)
    assert [at for at, whole in looks if whole] == [6.0, 3606.0]
    times = [at for at, _whole in looks]
    assert min(b - a for a, b in pairwise(times)) >= SECONDS_BETWEEN_LOOKS
    assert max(b - a for a, b in pairwise(times)) <= SECONDS_BETWEEN_LOOKS + 3


def test_an_error_that_nobody_foresaw_ends_one_look_and_not_the_next(driver, monkeypatch):
    looks = []

    def look():
        looks.append(1)
        raise KeyError("unforeseen")

    monkeypatch.setattr(driver._housekeeping, "look", look)
    for _ in range(3):
        driver.get_volume_stats(refresh=True)
        wait_for_housekeeping(driver)
    assert len(looks) == 2


def test_one_leftover_that_cannot_be_removed_does_not_keep_the_others(interrupted, cluster, faults):
    gone, stuck, other = new_volume(), new_volume(), new_volume()
    for volume in (gone, stuck, other):
        _, driver = interrupted(volume)
        mark(volume, status="error")
    db.volume_destroy(context.get_admin_context(), gone.id)
    driver._housekeeping._unfinished = frozenset({gone.id, stuck.id, other.id})
    stuck_uuid = make_on_cluster(driver, stuck.name).uuid
    make_on_cluster(driver, other.name)
    with faults.during(operation="DeleteVolume", object=stuck_uuid, status=403, count=0):
        driver.get_volume_stats(refresh=True)
        driver.get_volume_stats(refresh=True)
        wait_for_housekeeping(driver)
    assert names(cluster) & {stuck.name, other.name} == {stuck.name}
    driver.get_volume_stats(refresh=True)
    wait_for_housekeeping(driver)
    assert stuck.name not in names(cluster)


def test_one_snapshot_that_cannot_be_removed_does_not_keep_the_others(
    driver, created, cluster, faults
):
    """And it is tried again at the next look, not in an hour."""
    source_uuid = created().provider_id.split()[1]
    taken = []
    for _ in range(3):
        ended = new_volume()
        store(ended, status="error")
        request = CreateSnapshot(name=clone_snapshot_name(ended.id), source_volume_uuid=source_uuid)
        taken.append(driver._cluster.create_snapshot("default", request, driver._deadline()))
    stuck = taken[0]
    with faults.during(operation="DeleteSnapshot", object=stuck.uuid, status=403, count=0):
        driver._housekeeping.look()
        assert [snapshot["UUID"] for snapshot in cluster.snapshots()] == [stuck.uuid]
    driver._housekeeping.look()
    assert cluster.snapshots() == []


# --- another process of the cluster dies ---------------------------------------------------------

CLUSTER = f"cluster-1@{BACKEND}"


def report(host, *, seconds_ago=0):
    """What a cinder-volume of the cluster does every ten seconds."""
    admin = context.get_admin_context()
    known = objects.ServiceList.get_all(admin, {"host": host, "binary": "cinder-volume"})
    if not known:
        values = {"host": host, "binary": "cinder-volume", "cluster_name": CLUSTER}
        objects.Service(admin, topic="cinder-volume", report_count=0, **values).create()
    at = timeutils.utcnow() - timedelta(seconds=seconds_ago)
    found = objects.ServiceList.get_all(admin, {"host": host, "binary": "cinder-volume"})[0]
    db.service_update(admin, found.id, {"updated_at": at, "report_count": 1})


def test_what_a_dead_process_of_the_cluster_was_making_is_removed_by_another(
    make_driver, driver, cluster, monkeypatch
):
    survivor = make_driver(cluster_name=CLUSTER)
    other = f"controller-2@{BACKEND}"
    for host in (SERVICE, other):
        report(host)
    survivor.get_volume_stats(refresh=True)
    survivor.get_volume_stats(refresh=True)
    wait_for_housekeeping(survivor)

    half_made = new_volume()
    store(
        half_made, status="creating", host=f"{other}#{BACKEND}", cluster_name=f"{CLUSTER}#{BACKEND}"
    )
    made = make_on_cluster(driver, half_made.name)
    snapshot = CreateSnapshot(name=clone_snapshot_name(half_made.id), source_volume_uuid=made.uuid)
    driver._cluster.create_snapshot("default", snapshot, driver._deadline())
    report(other, seconds_ago=3600)
    survivor.get_volume_stats(refresh=True)
    wait_for_housekeeping(survivor)
    assert half_made.name in names(cluster), "Cinder has not given it up yet"
    assert [found["name"] for found in cluster.snapshots()] == [snapshot.name]
    mark(half_made, status="error")  # cleanup of the workers table
    survivor.get_volume_stats(refresh=True)
    wait_for_housekeeping(survivor)
    assert half_made.name not in names(cluster)
    assert cluster.snapshots() == []


def test_a_death_is_not_forgotten_when_the_database_is_away(make_driver, monkeypatch):
    """As when it died with the machine that also had the database."""
    survivor = make_driver(cluster_name=CLUSTER)
    other = f"controller-2@{BACKEND}"
    for host in (SERVICE, other):
        report(host)
    survivor._housekeeping.look()
    report(other, seconds_ago=3600)
    passes = []

    def settle_access(*, whole):
        passes.append(whole)
        if len(passes) == 1:
            raise DBConnectionError

    monkeypatch.setattr(survivor._housekeeping, "settle_access", settle_access)
    with pytest.raises(DBConnectionError):
        survivor._housekeeping.look()
    for _ in range(2):
        survivor._housekeeping.look()
    assert passes == [True, True, False]
