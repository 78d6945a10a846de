# SPDX-License-Identifier: Apache-2.0
"""QoS by extra spec and by QoS specs, retype in place, and the moves between back ends."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cinder import context, exception

from lightos.api.errors import NotFound
from lightos.api.models.policies import CreatePolicy
from lightos.openstack.cinder.qos import POLICY_DESCRIPTION, Limit, LimitKind
from testbed.cluster import GIB, connector
from tests.unit.cinder.conftest import new_snapshot, new_type, new_volume, store

HOST = connector("compute1", number=1)
BACKEND_ERROR = exception.VolumeBackendAPIException
IOPS = {"total_iops_sec": "512"}
POLICY = "cinder-iops-512"


@pytest.fixture
def policies(cluster):
    """Names of the cluster's policies."""
    return lambda: {policy["name"] for policy in cluster.get("/policies").get("policies", [])}


@pytest.fixture
def gold(driver):
    """A policy that an administrator made."""
    request = CreatePolicy(name="gold", rate_limit=Limit(LimitKind.IOPS, 1024).rate_limit)
    policy = driver._client.create_policy(request, driver._deadline())
    yield policy
    for volume in driver._client.list_volumes("default", driver._deadline()):
        if volume.qos_policy_uuid == policy.uuid:
            driver._cluster.delete_volume("default", volume.uuid, driver._deadline())
    driver._client.delete_policy(policy.uuid, driver._deadline())


def retyped(driver, volume, extra_specs, qos_specs=None):
    """Retype as the manager does; the volume is of the new type when the driver says so."""
    wanted = new_type(str(volume.id), extra_specs, qos_specs)
    done, update = driver.retype(context.get_admin_context(), volume, wanted, {}, {"host": "h"})
    assert update is None
    if done:
        volume.volume_type = wanted
        volume.volume_type_id = wanted.id
    return done


# --- QoS -----------------------------------------------------------------------------------------


def test_qos_policy_by_uuid_or_name(driver, cluster, gold):
    for named in (gold.uuid, gold.uuid.upper(), "gold"):
        volume = new_volume(extra_specs={"lightos:qos_policy": named})
        driver.create_volume(volume)
        assert cluster.volume_of(volume.id)["qosPolicyName"] == "gold"


def test_a_policy_that_does_not_exist_is_named(driver, cluster):
    volume = new_volume(extra_specs={"lightos:qos_policy": "nowhere"})
    with pytest.raises(BACKEND_ERROR, match="QoS policy nowhere does not exist"):
        driver.create_volume(volume)
    assert all(volume.name != found["name"] for found in cluster.volumes())


def test_qos_specs_make_a_policy_that_volumes_share(driver, created, cluster, policies):
    volumes = [created(extra_specs={}, qos_specs=IOPS) for _ in range(2)]
    (policy,) = (p for p in cluster.get("/policies")["policies"] if p["name"] == POLICY)
    assert policy["description"] == POLICY_DESCRIPTION
    assert policy["QoSRateLimitPolicy"]["limitIOPS"] == {
        "readIOPSLimit": 512,
        "writeIOPSLimit": 512,
    }
    for volume in volumes:
        assert cluster.volume_of(volume.id)["qosPolicyUUID"] == policy["UUID"]
    driver.delete_volume(volumes[0])
    assert POLICY in policies()
    driver.delete_volume(volumes[1])
    assert POLICY not in policies()


def test_volumes_of_one_limit_made_and_deleted_at_once(driver, policies):
    def live_and_die(volume):
        volume.update(driver.create_volume(volume))
        driver.delete_volume(volume)

    driver._timeout_seconds = 30
    volumes = [new_volume(extra_specs={}, qos_specs=IOPS) for _ in range(12)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(live_and_die, volumes))
    assert POLICY not in policies()


def test_a_policy_that_goes_before_it_is_used_is_made_again(driver, cluster, faults):
    """Another deployment on the cluster found it unused."""

    def delete_it():
        policy = driver._client.get_policy_by_name(POLICY, driver._deadline())
        driver._client.delete_policy(policy.uuid, driver._deadline())

    volume = new_volume(extra_specs={}, qos_specs=IOPS)
    with faults.just_before(delete_it, operation="CreateVolume"):
        volume.update(driver.create_volume(volume))
    assert cluster.volume_of(volume.id)["qosPolicyName"] == POLICY
    driver.delete_volume(volume)


def test_a_failed_create_leaves_no_policy(driver, policies, faults):
    faults.add(operation="CreateVolume", status=403, message="not allowed")
    with pytest.raises(BACKEND_ERROR, match="not allowed"):
        driver.create_volume(new_volume(extra_specs={}, qos_specs=IOPS))
    assert POLICY not in policies()


def test_a_policy_whose_replies_are_lost_is_made_once(driver, cluster, policies, faults):
    faults.add(operation="CreatePolicy", lose_reply=True)
    faults.add(operation="DeletePolicy", lose_reply=True)
    volume = new_volume(extra_specs={}, qos_specs=IOPS)
    volume.update(driver.create_volume(volume))
    assert cluster.volume_of(volume.id)["qosPolicyName"] == POLICY
    driver.delete_volume(volume)
    assert POLICY not in policies()


def test_a_token_that_may_not_make_policies(make_driver, lab):
    token = Path(lab["jwt_file"]).with_name("default.jwt").read_text().strip()
    driver = make_driver(lightos_jwt=token)
    with pytest.raises(BACKEND_ERROR, match=r"'total_iops_sec' needs this policy.*lightos_jwt"):
        driver.create_volume(new_volume(extra_specs={}, qos_specs=IOPS))


def test_a_policy_of_that_name_with_another_limit_is_not_used(driver, policies):
    limit = Limit(LimitKind.IOPS, 256).rate_limit
    request = CreatePolicy(name=POLICY, rate_limit=limit)
    policy = driver._client.create_policy(request, driver._deadline())
    with pytest.raises(BACKEND_ERROR, match=f"QoS policy {POLICY} .*another limit"):
        driver.create_volume(new_volume(extra_specs={}, qos_specs=IOPS))
    assert POLICY in policies()
    driver._client.delete_policy(policy.uuid, driver._deadline())


@pytest.mark.parametrize(
    ("extra_specs", "qos_specs", "reason"),
    [
        ({}, {"minIOPS": "1"}, "no such limit: minIOPS; legal: one of total_iops_sec,"),
        ({}, {"total_iops_sec": "0"}, "'total_iops_sec' is '0'; legal: a whole number"),
        ({"lightos:qos_policy": "gold"}, IOPS, "remove one of the two"),
    ],
)
def test_qos_that_cannot_be_is_refused_with_the_reason(
    driver, faults, extra_specs, qos_specs, reason
):
    calls = faults.watch()
    with pytest.raises(exception.InvalidQoSSpecs, match=reason):
        driver.create_volume(new_volume(extra_specs=extra_specs, qos_specs=qos_specs))
    assert calls.seen == 0


def test_policies_that_nobody_uses_are_dropped_together(driver, created, policies):
    """What a crash, or changed QoS specs, left behind."""
    kept = created(extra_specs={}, qos_specs={"total_iops_sec": "256"})
    left = created(extra_specs={}, qos_specs=IOPS)
    left.volume_type = new_type(left.volume_type_id, {})
    driver.delete_volume(left)
    assert POLICY in policies()
    driver._policies.drop_all_unused(driver._deadline())
    assert POLICY not in policies()
    assert "cinder-iops-256" in policies()
    driver.delete_volume(kept)


# --- retype --------------------------------------------------------------------------------------


def test_retype_sets_changes_and_clears_the_policy(driver, created, cluster, policies, gold):
    volume = created()
    store(volume)
    driver.initialize_connection(volume, HOST)
    for extra_specs, qos_specs, expected in (
        ({}, IOPS, POLICY),
        ({}, {"total_bytes_sec": "50000000"}, "cinder-mb-50"),
        ({"lightos:qos_policy": "gold"}, None, "gold"),
        ({"lightos:qos_policy": gold.uuid}, None, "gold"),
        ({}, None, None),
    ):
        assert retyped(driver, volume, extra_specs, qos_specs)
        found = cluster.volume_of(volume.id)
        assert found.get("qosPolicyName") == expected
        assert policies() == {"gold"} | ({expected} if expected else set())
    assert cluster.host_nqns(volume.id) == {HOST["nqn"]}


def test_retype_changes_the_compression(driver, created, cluster, faults):
    volume = created()
    assert retyped(driver, volume, {"compression": "<is> True"})
    assert cluster.volume_of(volume.id)["compression"].lower() == "true"
    updates = faults.watch(method="PUT")
    assert retyped(driver, volume, {"compression": "<is> True", "multiattach": "<is> True"})
    assert updates.seen == 0
    assert retyped(driver, volume, {})
    assert cluster.volume_of(volume.id)["compression"].lower() == "false"


@pytest.mark.parametrize(
    "extra_specs",
    [{"lightos:num_replicas": "3"}, {"lightos:project_name": "tenant"}],
)
def test_what_takes_a_migration_is_not_done_and_not_begun(driver, created, faults, extra_specs):
    volume = created()
    updates = faults.watch(method="PUT")
    assert retyped(driver, volume, extra_specs | {"compression": "<is> True"}) is False
    assert updates.seen == 0


@pytest.mark.parametrize(
    ("extra_specs", "reason"),
    [
        ({"compression": "maybe"}, "'compression' is 'maybe'; legal: '<is> True' or '<is> False'"),
        ({"lightos:speed": "9"}, "'lightos:speed' .* only lightos:num_replicas"),
    ],
)
def test_retype_to_a_bad_type_is_an_error(driver, created, extra_specs, reason):
    with pytest.raises(exception.InvalidVolumeType, match=reason):
        retyped(driver, created(), extra_specs)


def test_retype_whose_reply_was_lost(driver, created, cluster, faults):
    volume = created()
    faults.add(operation="UpdateVolume", lose_reply=True)
    assert retyped(driver, volume, {}, IOPS)
    assert cluster.volume_of(volume.id)["qosPolicyName"] == POLICY
    driver.delete_volume(volume)


def test_a_failed_retype_leaves_no_policy(driver, created, cluster, policies, faults):
    volume = created()
    faults.add(operation="UpdateVolume", status=403)
    with pytest.raises(BACKEND_ERROR, match="403"):
        retyped(driver, volume, {}, IOPS)
    assert not cluster.volume_of(volume.id).get("qosPolicyName")
    assert POLICY not in policies()


def test_a_retype_that_failed_after_the_change_is_undone(
    driver, created, cluster, policies, faults
):
    volume = created(extra_specs={"compression": "<is> True"}, qos_specs=IOPS)
    wanted = {"compression": "<is> False"}, {"total_iops_sec": "1024"}
    faults.add(operation="GetVolume", status=403, first=3)
    writes = faults.watch(operation="UpdateVolume")
    with pytest.raises(BACKEND_ERROR, match="403"):
        retyped(driver, volume, *wanted)
    assert writes.seen == 2
    found = cluster.volume_of(volume.id)
    assert (found["compression"].lower(), found["qosPolicyName"]) == ("true", POLICY)
    assert policies() == {POLICY}
    driver.delete_volume(volume)


def test_the_policy_is_cleared_where_the_token_may_not_see_the_projects_default(
    driver, created, cluster, faults
):
    volume = created(extra_specs={}, qos_specs=IOPS)
    faults.add(operation="GetProject", status=403, count=0)
    assert retyped(driver, volume, {})
    assert "qosPolicyName" not in cluster.volume_of(volume.id)


# --- migration -----------------------------------------------------------------------------------


def test_back_ends_of_one_cluster_hand_volumes_over(driver, make_driver, created, faults):
    other = make_driver(volume_backend_name="other")
    volume = created()
    host = {"host": "h@other#other", "capabilities": other.get_volume_stats(refresh=True)}
    calls = faults.watch()
    assert driver.migrate_volume(None, volume, host) == (True, None)
    assert calls.seen == 0
    other.delete_volume(volume)


@pytest.mark.parametrize(
    "capabilities",
    [{}, {"location_info": "LightOSVolumeDriver:nqn.other"}, {"location_info": None}],
)
def test_a_volume_for_another_cluster_is_copied_by_cinder(driver, created, capabilities):
    host = {"host": "h@other#other", "capabilities": capabilities}
    assert driver.migrate_volume(None, created(), host) == (False, None)


def migrated(driver, source, target):
    unset = {"provider_location": None}
    target.update(unset)
    return driver.update_migrated_volume(None, source, target, "available")


def test_a_copied_volume_gets_the_originals_name(driver, created, cluster):
    """The source was on another storage system."""
    source, target = new_volume(), created()
    uuid = target.provider_id.split()[1]
    assert migrated(driver, source, target) == {"_name_id": None, "provider_location": None}
    assert cluster.volume_of(source.id)["UUID"] == uuid


def test_a_copied_volume_keeps_its_name_beside_its_source(driver, created, cluster):
    source, target = created(), created()
    assert migrated(driver, source, target)["_name_id"] == target.id
    assert cluster.volume_of(target.id)["UUID"] == target.provider_id.split()[1]
    assert cluster.volume_of(source.id)["UUID"] == source.provider_id.split()[1]


def test_a_copied_volume_that_cannot_be_renamed_keeps_its_name(driver, created, cluster, faults):
    source, target = new_volume(), created()
    faults.add(operation="UpdateVolume", status=403)
    assert migrated(driver, source, target)["_name_id"] == target.id
    assert cluster.volume_of(target.id)


# --- revert --------------------------------------------------------------------------------------


@pytest.fixture
def snapshotted(driver, created):
    volume = created(1)
    snapshot = new_snapshot(volume)
    snapshot.update(driver.create_snapshot(snapshot))
    yield volume, snapshot
    driver.delete_snapshot(snapshot)


def revert(driver, volume, snapshot):
    driver.revert_to_snapshot(context.get_admin_context(), volume, snapshot)


def test_revert_is_over_when_the_cluster_has_done_it(driver, snapshotted, cluster, faults):
    volume, snapshot = snapshotted
    before = cluster.volume_of(volume.id)
    rollbacks, updates = faults.watch(operation="RollbackVolume"), faults.watch(method="PUT")
    revert(driver, volume, snapshot)
    after = cluster.volume_of(volume.id)
    assert after["state"] == "Available"
    assert after["ETag"] != before["ETag"]
    assert rollbacks.seen == updates.seen == 1
    assert driver.snapshot_revert_use_temp_snapshot() is False
    assert driver.backup_use_temp_snapshot() is False


def test_revert_keeps_the_size_that_cinder_knows(driver, snapshotted, cluster, faults):
    """After an extend; and on a cluster that takes the size back too."""
    volume, snapshot = snapshotted
    driver.extend_volume(volume, 3)
    volume.size = 3
    revert(driver, volume, snapshot)
    assert int(cluster.volume_of(volume.id)["size"]) == 3 * GIB

    def take_the_size_back():
        uuid = volume.provider_id.split()[1]
        shrink = {"size": str(GIB), "Force": True}
        cluster.request("PUT", f"/projects/default/volumes/{uuid}", shrink)

    with faults.just_before(take_the_size_back, operation="RollbackVolume"):
        revert(driver, volume, snapshot)
    assert int(cluster.volume_of(volume.id)["size"]) == 3 * GIB


def test_revert_of_a_volume_that_a_host_has_is_refused(driver, snapshotted, cluster, faults):
    volume, snapshot = snapshotted
    store(volume)
    driver.initialize_connection(volume, HOST)
    updates = faults.watch(method="PUT")
    with pytest.raises(BACKEND_ERROR, match=rf"{HOST['nqn']}.*detach"):
        revert(driver, volume, snapshot)
    assert updates.seen == 0
    assert cluster.volume_of(volume.id)["state"] == "Available"
    driver.terminate_connection(volume, HOST)


@pytest.mark.parametrize("effect", [{"lose_reply": True}, {"status": 503}])
def test_revert_that_was_not_answered(driver, snapshotted, cluster, faults, effect):
    volume, snapshot = snapshotted
    faults.add(operation="RollbackVolume", **effect)
    revert(driver, volume, snapshot)
    assert cluster.volume_of(volume.id)["state"] == "Available"


def test_revert_that_does_not_come_about_is_an_error(driver, snapshotted, faults):
    with (
        faults.during(operation="RollbackVolume", stay="Rollback"),
        pytest.raises(BACKEND_ERROR, match=r"RollbackVolume.*not done after"),
    ):
        revert(driver, *snapshotted)


def test_revert_to_another_volumes_snapshot_is_refused(driver, snapshotted, created):
    _, snapshot = snapshotted
    with pytest.raises(BACKEND_ERROR, match="not taken of volume"):
        revert(driver, created(), snapshot)


def test_revert_to_a_snapshot_that_is_gone(driver, created):
    volume = created()
    with pytest.raises(BACKEND_ERROR, match="does not exist"):
        revert(driver, volume, new_snapshot(volume))


def test_nothing_is_left_of_the_policies(driver):
    with pytest.raises(NotFound):
        driver._client.get_policy_by_name(POLICY, driver._deadline())
