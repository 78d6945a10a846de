# SPDX-License-Identifier: Apache-2.0
"""The driver when things go wrong. Numbered tests are defects of the driver that Cinder ships."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cinder import exception

from lightos.api.errors import GrpcCode
from lightos.api.models.volumes import UpdateVolume
from lightos.openstack.cinder import locks
from lightos.openstack.cinder.driver import SNAPSHOT_LOCK
from lightos.openstack.cinder.naming import ProviderId
from testbed.cluster import GIB, connector, sensitive_words
from tests.unit.cinder.conftest import (
    OPERATION_SECONDS,
    OTHER_PROJECT,
    new_snapshot,
    new_volume,
    record_attachment,
)

HOST = connector("compute1", number=1)
OTHER = connector("compute2", number=2)
BACKEND_ERROR = exception.VolumeBackendAPIException


def unused_address(lab):
    """An address of this machine that no node has."""
    return lab["api_addresses"][0].rpartition(".")[0] + ".250"


def exists(cluster, volume):
    return any(found["name"] == volume.name for found in cluster.volumes())


NO_SUCH_CALL = {"status": 404, "code": int(GrpcCode.UNIMPLEMENTED)}
"""Not a word of the volume."""


@pytest.mark.parametrize("answer", [*({"status": n} for n in (401, 403, 500, 503)), NO_SUCH_CALL])
def test_1_a_lookup_that_fails_deletes_nothing_and_says_so(
    driver, created, cluster, faults, answer
):
    volume = created()
    volume.provider_id = "default"
    faults.add(operation="GetVolume", count=0, **answer)
    with pytest.raises(BACKEND_ERROR, match=str(answer["status"])):
        driver.delete_volume(volume)
    assert exists(cluster, volume)


@pytest.mark.parametrize("status", [400, 401, 403, 500])
def test_2_a_refused_snapshot_delete_is_an_error(driver, created, cluster, faults, status):
    snapshot = new_snapshot(created())
    snapshot.update(driver.create_snapshot(snapshot))
    with (
        faults.during(operation="DeleteSnapshot", status=status, count=0),
        pytest.raises(BACKEND_ERROR),
    ):
        driver.delete_snapshot(snapshot)
    assert cluster.snapshot_of(snapshot.id)["state"] == "Available"
    driver.delete_snapshot(snapshot)


def test_2_a_snapshot_delete_at_a_bad_moment_is_asked_again(driver, created, cluster, faults):
    snapshot = new_snapshot(created())
    snapshot.update(driver.create_snapshot(snapshot))
    faults.add(operation="DeleteSnapshot", status=400, code=int(GrpcCode.FAILED_PRECONDITION))
    calls = faults.watch(operation="DeleteSnapshot")
    driver.delete_snapshot(snapshot)
    assert calls.seen == 2
    assert cluster.snapshots() == []


def test_2_a_clones_snapshot_that_cannot_be_deleted_is_named(
    driver, created, cluster, faults, caplog
):
    clone = new_volume()
    with faults.during(operation="DeleteSnapshot", status=400, count=0):
        driver.create_cloned_volume(clone, created())
    (left,) = cluster.snapshots()
    assert any(left["UUID"] in record.getMessage() for record in caplog.records)
    driver._client.delete_snapshot("default", left["UUID"], driver._deadline())


def test_2_a_failed_clone_leaves_no_snapshot(driver, created, cluster, faults):
    clone = new_volume()
    source = created()
    faults.add(operation="CreateVolume", status=400, message="no such thing")
    with pytest.raises(BACKEND_ERROR, match="no such thing"):
        driver.create_cloned_volume(clone, source)
    assert cluster.snapshots() == []
    assert not exists(cluster, clone)


def test_2_a_clones_snapshot_that_was_taken_but_not_confirmed_is_removed(
    driver, created, cluster, faults
):
    clone = new_volume()
    source = created()
    faults.add(operation="CreateSnapshot", lose_reply=True, status=500, count=0)
    deletions = faults.watch(operation="DeleteSnapshot")
    with pytest.raises(BACKEND_ERROR, match="CreateSnapshot"):
        driver.create_cloned_volume(clone, source)
    assert deletions.seen == 1
    assert cluster.snapshots() == []


def test_3_a_refused_extend_is_an_error_at_once(driver, created, cluster, faults):
    volume = created(1)
    refusal = faults.add(operation="UpdateVolume", status=400, message="too large", count=0)
    with pytest.raises(BACKEND_ERROR, match="too large"):
        driver.extend_volume(volume, 2)
    assert refusal.hits == 1
    assert int(cluster.volume_of(volume.id)["size"]) == GIB


def test_3_extend_waits_for_the_size(driver, created, cluster, faults):
    volume = created(1)
    looks = faults.watch(operation="GetVolume")
    with (
        faults.during(operation="UpdateVolume", stay="Updating") as stay,
        faults.just_before(lambda: faults.clear(stay), operation="GetVolume", first=4),
    ):
        driver.extend_volume(volume, 2)
    assert looks.seen >= 4
    assert int(cluster.volume_of(volume.id)["size"]) == 2 * GIB


def test_4_a_detach_that_cannot_take_the_access_away_is_an_error(driver, created, cluster, faults):
    volume = created()
    driver.initialize_connection(volume, HOST)
    faults.add(operation="UpdateVolume", status=403, count=0)
    with pytest.raises(BACKEND_ERROR, match="403"):
        driver.terminate_connection(volume, HOST)
    assert cluster.host_nqns(volume.id) == {HOST["nqn"]}


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("nameless", [{}, {"host": "compute9"}, {"host": "compute9", "nqn": None}])
def test_5_a_connector_without_nqn_is_not_everyone(driver, created, cluster, nameless, force):
    volume = created()
    driver.initialize_connection(volume, HOST)
    if force:
        assert driver.terminate_connection(volume, nameless, force=True) is False
    else:
        with pytest.raises(BACKEND_ERROR, match="no NVMe host NQN"):
            driver.terminate_connection(volume, nameless)
    assert cluster.host_nqns(volume.id) == {HOST["nqn"]}


def test_7_a_failed_attach_leaves_no_access(driver, created, cluster, faults):
    volume = created()
    # Reads fail once the access is written, until the driver gives up; then they work again.
    faults.add(operation="GetVolume", status=401, first=2)
    with pytest.raises(BACKEND_ERROR, match="401"):
        driver.initialize_connection(volume, HOST)
    assert cluster.host_nqns(volume.id) == set()


def test_7_a_failed_attach_does_not_take_access_that_was_there(driver, created, cluster, faults):
    volume = created()
    driver.initialize_connection(volume, HOST)
    changed = HOST | {"host_ips": [*HOST["host_ips"], "192.168.75.201"]}
    faults.add(operation="UpdateVolume", status=403)
    with pytest.raises(BACKEND_ERROR):
        driver.initialize_connection(volume, changed)
    assert cluster.host_nqns(volume.id) == {HOST["nqn"]}


def test_8_a_busy_cluster_while_polling_fails_nothing(driver, cluster, faults):
    volume = new_volume()
    faults.add(operation="GetVolume", status=503, count=2)
    volume.update(driver.create_volume(volume))
    assert cluster.volume_of(volume.id)["state"] == "Available"
    snapshot = new_snapshot(volume)
    faults.add(operation="GetSnapshot", status=503, count=2)
    snapshot.update(driver.create_snapshot(snapshot))
    assert cluster.snapshot_of(snapshot.id)["state"] == "Available"
    driver.delete_snapshot(snapshot)


@pytest.mark.parametrize("status", [500, 503])
def test_9_not_to_hear_of_a_volume_is_not_its_deletion(driver, created, faults, status):
    volume = created()
    faults.add(operation="GetVolume", status=status, count=0)
    with pytest.raises(BACKEND_ERROR):
        driver.delete_volume(volume)


def test_9_a_delete_whose_reply_was_lost_succeeds(driver, created, cluster, faults):
    volume = created()
    faults.add(operation="DeleteVolume", lose_reply=True)
    driver.delete_volume(volume)
    assert not exists(cluster, volume)


def test_11_new_nodes_reach_hosts_without_a_restart(driver, created, lab, faults):
    volume = created()
    address = unused_address(lab)
    name = faults.add_node(address)
    try:
        driver.get_volume_stats(refresh=True)
        nodes = driver.initialize_connection(volume, HOST)["data"]["lightos_nodes"]
    finally:
        faults.remove_node(name)
    assert nodes[address] == {
        "target_portal": address,
        "target_port": lab["discovery_port"],
        "transport_type": "tcp",
    }


def test_12_an_untyped_volume_is_made(driver, cluster):
    volume = new_volume()
    driver.create_volume(volume)
    assert exists(cluster, volume)


@pytest.mark.parametrize("addresses", [None, []])
def test_12_missing_addresses_are_named(make_driver, addresses):
    driver = make_driver(set_up=False, lightos_api_address=addresses)
    with pytest.raises(exception.InvalidConfigurationValue, match="lightos_api_address"):
        driver.do_setup(None)


@pytest.mark.parametrize("key", ["nqn", "found_dsc", "host_ips"])
def test_12_a_connector_without_what_it_takes_is_refused(driver, created, faults, key):
    volume = created()
    calls = faults.watch()
    lacking = {name: value for name, value in HOST.items() if name != key}
    with pytest.raises(exception.InvalidConnectorException, match=key):
        driver.validate_connector(lacking)
    with pytest.raises(exception.VolumeBackendAPIException, match=key):
        driver.initialize_connection(volume, lacking)
    assert calls.seen == 0


def test_13_one_api_address_down(make_driver, lab, cluster):
    """Nothing listens at the first address."""
    driver = make_driver(lightos_api_address=[unused_address(lab), lab["api_addresses"][0]])
    volume = new_volume()
    driver.create_volume(volume)
    assert exists(cluster, volume)


@pytest.mark.parametrize(
    "effect", [{"lose_reply": True}, {"lose_reply": True, "status": 504}, {"status": 503}]
)
def test_13_a_create_that_was_not_answered_makes_one_volume(driver, cluster, faults, effect):
    volume = new_volume()
    faults.add(operation="CreateVolume", **effect)
    volume.update(driver.create_volume(volume))
    assert volume.provider_id.split()[1] == cluster.volume_of(volume.id)["UUID"]


def test_a_create_that_failed_though_it_was_done_leaves_nothing(driver, cluster, faults):
    """Cinder may make the volume on another cluster next, and never ask this one again."""
    volume = new_volume()
    faults.add(operation="CreateVolume", lose_reply=True, status=500)
    with pytest.raises(BACKEND_ERROR, match="500"):
        driver.create_volume(volume)
    assert not exists(cluster, volume)


def test_a_create_that_failed_leaves_another_volume_of_the_name_alone(driver, cluster, faults):
    volume = new_volume(1)
    driver.create_volume(volume)
    volume.size = 2
    faults.add(operation="CreateVolume", status=500)
    with pytest.raises(BACKEND_ERROR, match="500"):
        driver.create_volume(volume)
    assert exists(cluster, volume)


def test_13_a_snapshot_whose_reply_was_lost_is_taken_once(driver, created, cluster, faults):
    snapshot = new_snapshot(created())
    faults.add(operation="CreateSnapshot", lose_reply=True)
    snapshot.update(driver.create_snapshot(snapshot))
    assert snapshot.provider_id.split()[1] == cluster.snapshot_of(snapshot.id)["UUID"]
    driver.delete_snapshot(snapshot)


@pytest.mark.parametrize("status", [500, 503])
def test_a_snapshot_that_comes_at_a_bad_moment_is_asked_for_again(
    driver, created, cluster, faults, status
):
    snapshot = new_snapshot(created())
    faults.add(operation="CreateSnapshot", status=status, count=2)
    snapshot.update(driver.create_snapshot(snapshot))
    assert cluster.snapshot_of(snapshot.id)["state"] == "Available"
    driver.delete_snapshot(snapshot)


def test_14_an_edited_type_does_not_move_a_volume(driver, created, cluster):
    volume = created(extra_specs={})
    volume.volume_type.extra_specs = {"lightos:project_name": "elsewhere"}
    driver.initialize_connection(volume, HOST)
    snapshot = new_snapshot(volume)
    snapshot.update(driver.create_snapshot(snapshot))
    driver.delete_snapshot(snapshot)
    driver.delete_volume(volume)
    assert not exists(cluster, volume)


def test_14_a_name_that_several_projects_have_is_nobodys_to_delete(driver, created, cluster):
    volume = created()
    volume.volume_type = None
    volume.provider_id = "elsewhere"
    twin = {"name": volume.name, "size": str(GIB), "acl": {"values": ["ALLOW_NONE"]}}
    cluster.request("POST", f"/projects/{OTHER_PROJECT}/volumes", twin | {"replicaCount": 1})
    with pytest.raises(BACKEND_ERROR, match=f"default, {OTHER_PROJECT} each have one"):
        driver.delete_volume(volume)
    assert exists(cluster, volume)


def test_14_a_clone_looks_for_its_source_where_the_source_is(driver, created, cluster):
    """Its type was edited after the source was made, but the source is where it was."""
    source = created(extra_specs={})
    source.volume_type.extra_specs = {"lightos:project_name": "elsewhere"}
    clone = new_volume()
    driver.create_cloned_volume(clone, source)
    assert exists(cluster, clone)


def test_14_a_clone_of_another_project_is_refused_with_both_names(driver, created, faults):
    source = created()
    snapshot = new_snapshot(source)
    snapshot.update(driver.create_snapshot(snapshot))
    elsewhere = {"lightos:project_name": "elsewhere"}
    calls = faults.watch()
    for make in (
        lambda volume: driver.create_cloned_volume(volume, source),
        lambda volume: driver.create_volume_from_snapshot(volume, snapshot),
    ):
        with pytest.raises(exception.InvalidVolumeType, match="'elsewhere'; legal: 'default'"):
            make(new_volume(extra_specs=elsewhere))
    assert calls.seen == 0
    driver.delete_snapshot(snapshot)


def test_15_capacity_of_a_cluster_that_a_token_may_not_see(make_driver, lab):
    token = Path(lab["jwt_file"]).with_name("default.jwt").read_text().strip()
    driver = make_driver(lightos_jwt=token)
    stats = driver.get_volume_stats(refresh=True)
    assert (stats["total_capacity_gb"], stats["free_capacity_gb"]) == ("unknown", "unknown")
    assert "provisioned_capacity_gb" not in stats
    volume = new_volume()
    volume.update(driver.create_volume(volume))
    assert driver.initialize_connection(volume, HOST)["data"]["lightos_nodes"]


def test_16_no_secret_and_no_body_in_any_log(make_driver, lab, faults, caplog):
    caplog.set_level(logging.DEBUG)
    driver = make_driver()
    volume = new_volume()
    volume.update(driver.create_volume(volume))
    driver.initialize_connection(volume, HOST)
    with (
        faults.during(operation="UpdateVolume", status=401, count=0),
        pytest.raises(BACKEND_ERROR) as raised,
    ):
        driver.terminate_connection(volume, HOST)
    driver.terminate_connection(volume, HOST)
    driver.delete_volume(volume)
    logged = caplog.text + str(raised.value) + repr(driver._client)
    assert not [word for word in sensitive_words(lab) if word in logged]
    assert "ALLOW_NONE" not in logged


def test_16_an_unverified_certificate_is_said_once_and_loudly(make_driver, caplog):
    """The incumbent's default, which existing configurations rely on."""
    driver = make_driver(driver_ssl_cert_verify=False, driver_ssl_cert_path=None)
    driver.create_volume(new_volume())
    driver.create_volume(new_volume())
    warnings = [r for r in caplog.records if "NOT VERIFIED" in r.getMessage()]
    assert [record.levelno for record in warnings] == [logging.WARNING]


def test_16_a_verified_certificate_is_not_warned_of(make_driver, caplog):
    make_driver()
    assert "NOT VERIFIED" not in caplog.text


def test_18_an_expired_token_is_named_by_every_operation(driver, created, faults):
    volume = created()
    faults.add(method="GET", status=401, message="token is expired", count=0)
    with pytest.raises(BACKEND_ERROR, match=r"token is expired.*JWT"):
        driver.initialize_connection(volume, HOST)


@pytest.fixture
def brief_cleanup(monkeypatch):
    """Less time for what a failed operation left, where the test does not let it be removed."""
    for module in ("attachments", "cluster"):
        name = f"lightos.openstack.cinder.{module}.CLEANUP_SECONDS"
        monkeypatch.setattr(name, OPERATION_SECONDS)


@pytest.mark.usefixtures("brief_cleanup")
@pytest.mark.parametrize(
    ("state", "operation"),
    [
        ("Creating", lambda driver, volume: driver.create_volume(new_volume())),
        ("Updating", lambda driver, volume: driver.extend_volume(volume, 2)),
        ("Updating", lambda driver, volume: driver.initialize_connection(volume, HOST)),
    ],
    ids=["create", "extend", "attach"],
)
def test_20_one_budget_for_the_whole_operation(driver, created, faults, state, operation):
    """Nothing ever becomes ready: the operation ends at its own deadline, not at a multiple."""
    volume = created()
    faults.add(stay=state, count=0)
    with pytest.raises(BACKEND_ERROR, match=f"after {OPERATION_SECONDS} s"):
        operation(driver, volume)


def test_a_volume_that_ends_failed_is_no_success(driver, faults):
    faults.add(operation="CreateVolume", end="Failed")
    with pytest.raises(BACKEND_ERROR, match="Failed"):
        driver.create_volume(new_volume())


def test_a_create_that_times_out_leaves_nothing(driver, cluster, faults):
    volume = new_volume()
    with (
        faults.during(operation="CreateVolume", stay="Creating") as stay,
        faults.just_before(lambda: faults.clear(stay), operation="DeleteVolume"),
        pytest.raises(BACKEND_ERROR, match="not done after"),
    ):
        driver.create_volume(volume)
    assert not exists(cluster, volume)


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"lightos_jwt": "eyJhbGciOiJSUzI1NiJ9.e30.c2ln"}, "lightos_jwt"),
        ({"lightos_jwt": None}, "lightos_jwt"),
        ({"lightos_jwt": "eyJ two words"}, "lightos_jwt"),
        ({"driver_ssl_cert_path": None}, "driver_ssl_cert_path"),
        ({"lightos_api_port": 1}, "lightos_api_address"),
    ],
    ids=["bad token", "no token", "no token at all", "unknown CA", "nothing listens"],
)
def test_a_misconfiguration_is_one_line_that_names_the_option(make_driver, changes, option):
    driver = make_driver(set_up=False, lightos_api_service_timeout=2, **changes)
    driver.do_setup(None)
    with pytest.raises(exception.InvalidConfigurationValue) as raised:
        driver.check_for_setup_error()
    message = str(raised.value)
    assert message.startswith(f"{option}: ")
    assert "\n" not in message
    assert "eyJ" not in message


def test_a_ca_file_that_does_not_exist_is_named(make_driver, tmp_path):
    missing = str(tmp_path / "ca.pem")
    driver = make_driver(set_up=False, driver_ssl_cert_path=missing)
    with pytest.raises(
        exception.InvalidConfigurationValue, match=r"driver_ssl_cert_path: .*ca\.pem"
    ):
        driver.do_setup(None)


def test_a_stale_etag_is_read_again(driver, created, cluster, faults):
    volume = created()
    driver.initialize_connection(volume, OTHER)
    record_attachment(volume, OTHER)

    stale = faults.add(operation="UpdateVolume", stale_etag=True)
    driver.initialize_connection(volume, HOST)
    assert stale.hits == 1
    assert cluster.host_nqns(volume.id) == {HOST["nqn"], OTHER["nqn"]}


def test_an_update_that_another_writer_undoes_is_written_again(driver, created, cluster, faults):
    """Between our write and our look, someone put an older list back."""
    volume = created()
    where = ProviderId.parse(volume.provider_id)

    def undo():
        nobody = UpdateVolume(acl=("ALLOW_NONE",))
        driver._client.update_volume(where.project, where.uuid, nobody, driver._deadline())

    updates = faults.watch(operation="UpdateVolume")
    with faults.just_before(undo, operation="GetVolume", first=2):
        driver.initialize_connection(volume, HOST)
    assert cluster.host_nqns(volume.id) == {HOST["nqn"]}
    assert updates.seen >= 3


def test_the_turn_of_a_snapshot_is_no_part_of_its_time(driver, created, cluster):
    """However many snapshots and clones of one volume go first, and however long they take."""
    volume = created()
    snapshot = new_snapshot(volume)
    held, released = threading.Event(), threading.Event()

    @locks.synchronized(SNAPSHOT_LOCK)
    def hold(volume_id: str) -> None:
        held.set()
        released.wait()

    with ThreadPoolExecutor(2) as pool:
        pool.submit(hold, volume.id)
        held.wait()
        taken = pool.submit(driver.create_snapshot, snapshot)
        threading.Timer(OPERATION_SECONDS + 0.5, released.set).start()
        snapshot.update(taken.result())
    assert [each["name"] for each in cluster.snapshots()] == [snapshot.name]
    driver.delete_snapshot(snapshot)
