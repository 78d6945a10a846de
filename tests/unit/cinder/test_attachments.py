# SPDX-License-Identifier: Apache-2.0
"""Access exactly while an attachment needs it, between and behind Cinder's own steps.

The database is Cinder's own; what its services write there is written by the tests.
"""

import random
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from cinder import context, exception
from cinder.db import api as db
from oslo_db.exception import DBConnectionError

from lightos import waiting
from lightos.api.models.volumes import UpdateVolume
from lightos.openstack.cinder import attachments, grants
from lightos.openstack.cinder.acl import Host
from lightos.openstack.cinder.attachments import (
    GIVEN_UP_SECONDS,
    is_abandoned,
    is_in_doubt,
    without_one_of,
)
from lightos.openstack.cinder.grants import Attachment, Grant
from testbed.cluster import connector
from tests.unit.cinder.conftest import (
    forget_attachment,
    mark,
    new_volume,
    record_attachment,
    reserve_attachment,
    store,
)

HOST = connector("compute1", number=1)
OTHER = connector("compute2", number=2)
NQN = HOST["nqn"]
ID = str(uuid.uuid4())
ELSEWHERE = str(uuid.uuid4())


# --- decisions -----------------------------------------------------------------------------------

HERE = Attachment(ID, HOST, is_attached=True)
WAITING = Attachment(ELSEWHERE, None)
AN_ATTACH = Grant("1", for_attachment=True)
AN_ATTACH_BESIDE = Grant("2", for_attachment=True, recorded=frozenset({ID[:8]}))
A_COPY = Grant("3", for_attachment=False)


@pytest.mark.parametrize(
    ("grant", "attachments", "is_copying", "expected"),
    [
        (None, [WAITING], True, False),
        (AN_ATTACH, [HERE, WAITING], False, False),
        (AN_ATTACH_BESIDE, [HERE, WAITING], False, True),
        (AN_ATTACH_BESIDE, [HERE], True, False),
        (AN_ATTACH_BESIDE, [HERE, Attachment(ELSEWHERE, HOST)], False, False),
        (AN_ATTACH, [Attachment(ELSEWHERE, OTHER), WAITING], False, True),
        (A_COPY, [], True, True),
        (A_COPY, [], False, False),
    ],
)
def test_when_it_is_in_doubt_who_needs_access(grant, attachments, is_copying, expected):
    assert is_in_doubt(grant, attachments, NQN, is_copying=is_copying) is expected


@pytest.mark.parametrize(
    ("grant", "attachments", "seen", "volume", "expected"),
    [
        (AN_ATTACH, [], None, "idle", True),
        (AN_ATTACH, [WAITING], None, "idle", False),
        (AN_ATTACH, [WAITING], AN_ATTACH_BESIDE, "idle", False),
        (AN_ATTACH, [WAITING], AN_ATTACH, "idle", True),
        (AN_ATTACH, [WAITING], AN_ATTACH, "in use", True),
        (AN_ATTACH, [WAITING], AN_ATTACH, "copying", False),
        (AN_ATTACH, [Attachment(ID, None, is_attached=True)], AN_ATTACH, "in use", False),
        (A_COPY, [], A_COPY, "idle", True),
        (A_COPY, [], AN_ATTACH, "idle", False),
        (A_COPY, [], None, "idle", False),
        (A_COPY, [HERE], A_COPY, "idle", False),
        (A_COPY, [], A_COPY, "in use", False),
        (A_COPY, [], A_COPY, "copying", False),
    ],
)
def test_when_an_attach_came_to_nothing(grant, attachments, seen, volume, expected):
    found = is_abandoned(
        grant, attachments, seen, is_copying=volume == "copying", is_idle=volume == "idle"
    )
    assert found is expected


def test_one_of_equal_attachments_ends():
    twins = (Attachment("1", HOST), Attachment("2", dict(HOST)), Attachment("3", OTHER))
    assert without_one_of(twins, HOST) == twins[1:]
    assert without_one_of(twins, HOST | {"mountpoint": "/dev/vdb"}) == twins


@pytest.mark.parametrize(
    "grant",
    [
        AN_ATTACH,
        AN_ATTACH_BESIDE,
        A_COPY,
        Grant("4", True, machine=("compute-1", "10.0.0.9"), addresses=("10.0.0.1", "fd00::1")),
        Grant("6", True, frozenset({ID[:8]}), count=3),
    ],
)
def test_notes_are_read_as_they_were_written(grant):
    assert Grant.parse(str(grant)) == grant


def test_a_note_fits_its_column_and_keeps_whole_words():
    addresses = tuple(f"fd00:1234:5678:9abc::{n:x}" for n in range(16))
    text = str(Grant("5", True, frozenset({ID[:8]}), addresses=addresses))
    assert len(text) <= 255
    kept = Grant.parse(text).addresses
    assert kept == addresses[: len(kept)]
    assert kept


@pytest.mark.parametrize("text", ["", "word", "1 something", "  "])
def test_a_note_of_another_form_is_no_note(text):
    assert Grant.parse(text) is None


# --- between the driver's steps and Cinder's -----------------------------------------------------


@pytest.fixture
def volume(driver, created):
    volume = created(status="in-use")
    store(volume)
    return volume


def attach(driver, volume, host=HOST):
    attachment = reserve_attachment(volume)
    driver.initialize_connection(volume, host)
    return record_attachment(volume, host, attachment)


def look_again(driver):
    """What happens once a minute, in its own thread, beside the service."""
    driver._housekeeping.settle_access(whole=False)


def test_a_detach_does_not_cut_off_an_attach_that_is_not_recorded_yet(driver, volume, cluster):
    attach(driver, volume)
    second = reserve_attachment(volume)
    driver.initialize_connection(volume, HOST)
    assert driver.terminate_connection(volume, HOST) is True
    record_attachment(volume, HOST, second)
    forget_attachment(volume, HOST)
    look_again(driver)
    assert cluster.host_nqns(volume.id) == {NQN}

    assert driver.terminate_connection(volume, HOST) is False
    assert cluster.host_nqns(volume.id) == set()
    assert NQN not in grants.grants_of(volume.id)


def test_an_attach_that_is_not_recorded_yet_outlives_all_of_a_later_one(driver, volume, cluster):
    first = reserve_attachment(volume)
    driver.initialize_connection(volume, HOST)
    attach(driver, volume)
    assert driver.terminate_connection(volume, HOST) is True
    forget_attachment(volume, HOST)
    record_attachment(volume, HOST, first)
    look_again(driver)
    assert cluster.host_nqns(volume.id) == {NQN}

    assert driver.terminate_connection(volume, HOST) is False
    assert cluster.host_nqns(volume.id) == set()


def test_attaches_that_nobody_records_do_not_add_up(driver, volume, cluster):
    for _ in range(3):
        driver.initialize_connection(volume, HOST)
    attach(driver, volume)
    reserve_attachment(volume)
    assert driver.terminate_connection(volume, HOST) is False
    assert cluster.host_nqns(volume.id) == set()


def test_two_detaches_at_once_do_not_both_leave_the_access(driver, volume, cluster):
    """Cinder forgets an attachment only after the driver has returned."""
    attach(driver, volume)
    attach(driver, volume)
    assert driver.terminate_connection(volume, HOST) is True
    assert driver.terminate_connection(volume, HOST) is True
    forget_attachment(volume, HOST)
    forget_attachment(volume, HOST)
    look_again(driver)
    assert cluster.host_nqns(volume.id) == set()
    assert cluster.host_addresses(volume.id) == set()


def test_two_detaches_at_once_of_access_that_an_older_driver_gave(driver, volume, cluster):
    for _ in range(2):
        attach(driver, volume)
    grants.forget(volume.id, NQN)
    for _ in range(2):
        assert driver.terminate_connection(volume, HOST) is True
    for _ in range(2):
        forget_attachment(volume, HOST)
    look_again(driver)
    assert cluster.host_nqns(volume.id) == set()


def test_a_look_that_fails_is_made_again(driver, volume, cluster, faults):
    attach(driver, volume)
    attach(driver, volume)
    driver.terminate_connection(volume, HOST)
    forget_attachment(volume, HOST)
    forget_attachment(volume, HOST)
    with faults.during(operation="UpdateVolume", status=403, count=0):
        look_again(driver)
    assert cluster.host_nqns(volume.id) == {NQN}
    look_again(driver)
    assert cluster.host_nqns(volume.id) == set()


@pytest.mark.parametrize("connector", [HOST, None], ids=["detach", "forced detach"])
def test_a_volume_that_the_cluster_lost_can_be_detached(driver, volume, cluster, faults, connector):
    attach(driver, volume)
    faults.add(operation="UpdateVolume", end="Failed")
    with pytest.raises(exception.VolumeBackendAPIException, match="Failed"):
        driver.extend_volume(volume, 2)
    assert cluster.volume_of(volume.id)["state"] == "Failed"
    assert driver.terminate_connection(volume, connector) is False
    assert NQN not in grants.grants_of(volume.id)


def test_a_reserved_attachment_of_nobody_keeps_no_access(driver, volume, cluster):
    """Shelving an instance: Nova reserves the volume anew, then lets the old attachment go."""
    attach(driver, volume)
    reserve_attachment(volume)
    assert driver.terminate_connection(volume, HOST) is False
    assert cluster.host_nqns(volume.id) == set()


def test_an_instance_that_goes_does_not_cut_off_cinders_own_copy(driver, volume, cluster):
    attach(driver, volume, HOST | {"mountpoint": "/dev/vdb"})
    volume.status = "uploading"
    driver.initialize_connection(volume, HOST)
    assert driver.terminate_connection(volume, HOST | {"mountpoint": "/dev/vdb"}) is True
    forget_attachment(volume, HOST | {"mountpoint": "/dev/vdb"})
    assert cluster.host_nqns(volume.id) == {NQN}
    assert driver.terminate_connection(volume, HOST) is False
    assert cluster.host_nqns(volume.id) == set()


def test_attaches_and_detaches_of_one_host_at_once(driver, make_driver, volume, cluster):
    """Two cinder-volume processes, four instances; who is connected never loses access."""
    services = [driver, make_driver()]
    lost = []
    records = threading.Lock()

    def instance(number: int) -> None:
        host = HOST | {"mountpoint": f"/dev/vd{number}"}
        dice = random.Random(number)
        for _ in range(4):
            attachment = reserve_attachment(volume)
            dice.choice(services).initialize_connection(volume, host)
            with records:
                record_attachment(volume, host, attachment)
            if cluster.host_nqns(volume.id) != {NQN}:
                lost.append(number)
            dice.choice(services).terminate_connection(volume, host)
            with records:
                forget_attachment(volume, host)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(instance, range(4)))
    assert lost == []
    for service in services:
        look_again(service)
    assert cluster.host_nqns(volume.id) == set()
    assert NQN not in grants.grants_of(volume.id)


def test_an_attach_that_fails_for_want_of_room_leaves_no_note(make_driver, cluster):
    driver = make_driver()
    volume = new_volume(status="in-use")
    volume.update(driver.create_volume(volume))
    for first in (101, 109):
        many = [f"192.168.75.{n}" for n in range(first, first + 8)]
        driver.initialize_connection(volume, HOST | {"host_ips": many})
    with pytest.raises(exception.VolumeBackendAPIException, match="none is left for"):
        driver.initialize_connection(volume, OTHER | {"host_ips": ["192.168.75.200"]})
    assert cluster.host_nqns(volume.id) == {NQN}
    assert OTHER["nqn"] not in grants.grants_of(volume.id)


def test_only_addresses_of_the_data_networks_are_admitted(make_driver, cluster):
    driver = make_driver(lightos_data_networks=["192.168.75.0/24", "fd00::/64"])
    volume = new_volume(status="in-use")
    volume.update(driver.create_volume(volume))
    host = HOST | {"host_ips": ["10.1.1.1", "fd00::7", "192.168.75.101", "172.17.0.1"]}
    driver.initialize_connection(volume, host)
    found = cluster.volume_of(volume.id)["IPAcl"]["values"]
    assert found == ["192.168.75.101", "fd00::7"]
    outside = OTHER | {"host_ips": ["10.1.1.2"]}
    why = r"compute2 has no IP address in lightos_data_networks \(192\.168\.75\.0/24, fd00"
    with pytest.raises(exception.InvalidConnectorException, match=why):
        driver.validate_connector(outside)
    with pytest.raises(exception.VolumeBackendAPIException, match=why):
        driver.initialize_connection(volume, outside)


def test_an_address_shared_with_a_host_that_is_not_recorded_yet_stays(driver, volume, cluster):
    shared = "192.168.75.77"
    first = HOST | {"host_ips": ["192.168.75.101", shared]}
    second = OTHER | {"host_ips": ["192.168.75.102", shared]}
    attach(driver, volume, first)
    attachment = reserve_attachment(volume)
    driver.initialize_connection(volume, second)
    assert driver.terminate_connection(volume, first) is False
    assert cluster.host_addresses(volume.id) == set(second["host_ips"])
    record_attachment(volume, second, attachment)
    assert driver.terminate_connection(volume, second) is False
    assert cluster.host_addresses(volume.id) == set()


@pytest.mark.parametrize("first", ["attach", "forced detach"])
def test_a_forced_detach_and_an_attach_at_once(driver, volume, cluster, faults, first):
    """One waits for the other: access that is left has its note."""
    steps = {
        "attach": lambda: driver.initialize_connection(volume, HOST),
        "forced detach": lambda: driver.terminate_connection(volume, None),
    }
    driver.initialize_connection(volume, OTHER)
    with faults.during(operation="UpdateVolume", delay_seconds=0.3) as fault:
        slow = threading.Thread(target=steps.pop(first))
        slow.start()
        while not fault.hits:
            assert slow.is_alive()
        ((_, second),) = steps.items()
        second()
        slow.join()
    left = {NQN} if first == "forced detach" else set()
    assert cluster.host_nqns(volume.id) == set(grants.grants_of(volume.id)) == left


# --- two hosts with one NQN ----------------------------------------------------------------------


@pytest.fixture
def nqn_of_its_own(monkeypatch):
    """The database of the tests knows other hosts by now; these have an NQN of their own."""
    nqn = f"nqn.2014-08.org.nvmexpress:uuid:{uuid.uuid4()}"
    return lambda host: host | {"nqn": nqn}


@pytest.fixture
def machines(nqn_of_its_own):
    """Two, of which one was made from an image of the other's disk."""
    return nqn_of_its_own(HOST), nqn_of_its_own(OTHER)


@pytest.fixture
def volumes(created):
    """Two, in use as far as Cinder knows."""
    both = created(status="in-use"), created(status="in-use")
    for volume in both:
        store(volume)
    return both


def test_a_second_machine_with_the_nqn_is_refused_and_both_are_named(
    driver, created, cluster, nqn_of_its_own
):
    first, second = nqn_of_its_own(HOST), nqn_of_its_own(OTHER)
    volume, another = created(status="in-use"), created(status="available")
    store(volume)
    attach(driver, volume, first)
    for method, error in (
        (driver.validate_connector, exception.InvalidConnectorException),
        (lambda c: driver.initialize_connection(another, c), exception.VolumeBackendAPIException),
    ):
        with pytest.raises(error) as refused:
            method(second)
        for word in ("compute1", first["ip"], "compute2", second["ip"], first["nqn"]):
            assert word in str(refused.value)
    assert cluster.host_nqns(another.id) == set()

    driver.validate_connector(first)  # the one that was there goes on
    driver.terminate_connection(volume, first)
    forget_attachment(volume, first)
    driver.validate_connector(second)


def test_of_two_machines_with_the_nqn_at_once_one_at_most_gets_access(
    driver, make_driver, machines, volumes, cluster
):
    """Neither is recorded, as when both boot from one image and are given their first volumes."""
    (first, second), (volume, another) = machines, volumes
    for each in volumes:
        reserve_attachment(each)
    driver.initialize_connection(volume, first)
    with pytest.raises(exception.VolumeBackendAPIException) as refused:
        make_driver().initialize_connection(another, second)
    for word in ("compute1", first["ip"], "compute2", second["ip"], first["nqn"]):
        assert word in str(refused.value)
    assert cluster.host_nqns(another.id) == set()
    assert not grants.grants_of(another.id)
    driver.initialize_connection(another, first)
    assert cluster.host_nqns(another.id) == {first["nqn"]}


@pytest.mark.parametrize(
    "renamed",
    [
        {"host": "COMPUTE1", "ip": "10.9.9.9"},
        {"host": "compute1.example.com"},
        {"host": "other", "ip": "10.9.9.9", "system uuid": "4C4C4544-0000"},
    ],
    ids=["same name", "same address", "same hardware"],
)
def test_a_host_that_was_renamed_or_re_addressed_is_the_same(
    driver, created, nqn_of_its_own, renamed
):
    host = nqn_of_its_own(HOST) | {"system uuid": "4c4c4544-0000"}
    volume = created(status="in-use")
    store(volume)
    attach(driver, volume, host)
    attach(driver, volume, host | renamed)


def test_another_machine_with_the_address_of_one_that_is_gone_is_not_the_same(
    driver, created, nqn_of_its_own
):
    host = nqn_of_its_own(HOST) | {"system uuid": "1"}
    volume = created(status="in-use")
    store(volume)
    attach(driver, volume, host)
    with pytest.raises(exception.InvalidConnectorException, match="same NVMe host NQN"):
        driver.validate_connector(host | {"host": "other", "system uuid": "2"})


def test_two_machines_that_an_older_driver_let_in_are_refused_again_and_again(
    driver, created, nqn_of_its_own
):
    first, second = nqn_of_its_own(HOST), nqn_of_its_own(OTHER)
    volume = created(status="in-use")
    store(volume)
    record_attachment(volume, first)
    record_attachment(volume, second)
    for _ in range(3):
        with pytest.raises(exception.InvalidConnectorException, match="same NVMe host NQN"):
            driver.validate_connector(first)


def test_a_host_that_cannot_reach_the_cluster_has_nothing_to_say(driver, created, nqn_of_its_own):
    """It has the same NQN, but volumes of another back end only."""
    other = nqn_of_its_own(OTHER) | {"found_dsc": ""}
    volume = created(status="in-use")
    store(volume)
    record_attachment(volume, other)
    driver.validate_connector(nqn_of_its_own(HOST))


# --- what a dead process left --------------------------------------------------------------------


def after_restart(make_driver):
    """A new process looks through everything, and again a minute later."""
    driver = make_driver()
    driver._housekeeping.settle_access(whole=True)
    look_again(driver)


def operator_admits(driver, volume, nqn):
    project, volume_uuid = volume.provider_id.split()
    deadline = driver._deadline()
    lists = driver._client.get_volume(project, volume_uuid, deadline)
    request = UpdateVolume(acl=(*(a for a in lists.acl if a != "ALLOW_NONE"), nqn))
    driver._cluster.update_volume(
        project, volume_uuid, lambda v: None if nqn in v.acl else request, deadline
    )


def test_access_of_an_attach_that_nobody_finished_is_taken_away(
    driver, make_driver, volume, cluster
):
    """The process died after it had given access; the attachment was not completed."""
    reserve_attachment(volume)
    attach(driver, volume, OTHER)
    operator_admits(driver, volume, "nqn.2014-08.org.example:backup-server")
    driver.initialize_connection(volume, HOST)
    after_restart(make_driver)
    assert cluster.host_nqns(volume.id) == {OTHER["nqn"], "nqn.2014-08.org.example:backup-server"}
    assert cluster.host_addresses(volume.id) == set(OTHER["host_ips"])


def test_an_attach_under_way_elsewhere_is_left_alone(driver, make_driver, volume, cluster):
    attachment = reserve_attachment(volume)
    driver.initialize_connection(volume, HOST)
    restarted = make_driver()
    restarted._housekeeping.settle_access(whole=True)
    record_attachment(volume, HOST, attachment)
    look_again(restarted)
    assert cluster.host_nqns(volume.id) == {NQN}


def test_access_of_an_attach_that_whoever_asked_gave_up_is_taken_away(
    driver, volume, cluster, monkeypatch
):
    """The API had no answer in time, and the attachment, which shows no host yet, was deleted."""
    attach(driver, volume, OTHER)
    given_up = reserve_attachment(volume)
    driver.initialize_connection(volume, HOST)
    db.attachment_destroy(context.get_admin_context(), given_up)
    look_again(driver)
    assert cluster.host_nqns(volume.id) == {NQN, OTHER["nqn"]}
    later = SimpleNamespace(monotonic=lambda: time.monotonic() + GIVEN_UP_SECONDS, sleep=time.sleep)
    monkeypatch.setattr(waiting, "time", later)
    look_again(driver)
    assert cluster.host_nqns(volume.id) == {OTHER["nqn"]}
    assert NQN not in grants.grants_of(volume.id)


def test_an_attach_is_not_looked_at_when_it_is_recorded(driver, volume, monkeypatch):
    monkeypatch.setattr(attachments, "GIVEN_UP_SECONDS", 0.0)
    attach(driver, volume)
    assert driver._housekeeping._attachments.take_kept() == {}


def test_a_copy_by_a_migration_keeps_its_access(driver, volume, cluster, monkeypatch):
    """The volume stays available meanwhile, and can be reserved."""
    monkeypatch.setattr(attachments, "GIVEN_UP_SECONDS", 0.0)
    reserve_attachment(volume)
    mark(volume, migration_status="migrating")
    driver.initialize_connection(volume, HOST)
    for _ in range(3):
        look_again(driver)
    assert cluster.host_nqns(volume.id) == {NQN}


def test_a_database_that_is_away_does_not_end_a_look(driver, volume, cluster, monkeypatch):
    attach(driver, volume)
    attach(driver, volume)
    driver.terminate_connection(volume, HOST)
    for _ in range(2):
        forget_attachment(volume, HOST)
    with monkeypatch.context() as patched:

        def away(_pairs):
            raise DBConnectionError

        patched.setattr(grants, "unrecorded", away)
        with pytest.raises(DBConnectionError):
            look_again(driver)
    assert cluster.host_nqns(volume.id) == {NQN}
    look_again(driver)
    assert cluster.host_nqns(volume.id) == set()


def test_two_machines_of_which_one_is_recorded_while_the_other_is_let_in(
    driver, make_driver, machines, volumes, cluster
):
    """The second one had looked for attachments just before the first one's was recorded."""
    (first, second), (volume, another) = machines, volumes
    service = make_driver()
    service.validate_connector(second)
    attach(driver, volume, first)
    reserve_attachment(another)
    with pytest.raises(exception.VolumeBackendAPIException, match="same NVMe host NQN"):
        service.initialize_connection(another, second)
    assert cluster.host_nqns(another.id) == set()


def test_a_host_that_was_checked_is_no_longer_the_only_one_with_its_nqn(
    driver, make_driver, machines, volumes, cluster
):
    """While it waits for a lock its last attachment goes, and another machine is let in."""
    (first, second), (volume, another) = machines, volumes
    attach(driver, volume, first)
    driver.validate_connector(first)
    service = make_driver()
    service.terminate_connection(volume, first)
    forget_attachment(volume, first)
    attach(service, another, second)
    reserve_attachment(volume)
    with pytest.raises(exception.VolumeBackendAPIException, match="same NVMe host NQN"):
        driver.initialize_connection(volume, first)
    assert cluster.host_nqns(volume.id) == set()


def test_access_that_cinder_records_nowhere_is_left_alone(driver, make_driver, volume, cluster):
    """Clients of the calls before the attachments API, and Cinder's own copies."""
    driver.initialize_connection(volume, HOST)
    after_restart(make_driver)
    assert cluster.host_nqns(volume.id) == {NQN}


def test_access_for_a_copy_that_nobody_finished_is_taken_away(driver, make_driver, volume, cluster):
    """Cinder's own, of a volume that is not in use; the process died in the middle."""
    mark(volume, status="uploading")
    volume.status = "uploading"
    driver.initialize_connection(volume, HOST)
    after_restart(make_driver)
    assert cluster.host_nqns(volume.id) == {NQN}
    for migration_status, left in (("migrating", {NQN}), (None, set())):
        mark(volume, status="available", migration_status=migration_status)
        after_restart(make_driver)
        assert cluster.host_nqns(volume.id) == left


def test_access_to_volumes_of_another_back_end_is_left_alone(driver, created, cluster, make_driver):
    volume = created(status="in-use")
    store(volume, host="controller-1@lightos-2#lightos-2")
    reserve_attachment(volume)
    driver.initialize_connection(volume, HOST)
    after_restart(make_driver)
    assert cluster.host_nqns(volume.id) == {NQN}


def test_a_host_is_known_with_all_its_addresses_only_as_an_attachment_needs_them():
    grant = Grant.now([WAITING], Host(NQN, ("10.0.0.1",)), HOST)
    assert (grant.for_attachment, grant.addresses) == (True, ("10.0.0.1",))
    assert grant.connector == {"host": HOST["host"], "ip": HOST["ip"]}
    assert not Grant.now([HERE], Host(NQN), HOST).for_attachment
