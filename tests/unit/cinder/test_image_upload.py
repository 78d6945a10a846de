# SPDX-License-Identifier: Apache-2.0
"""Images of volumes, of which only what is written is read where that is known.

A host of the tests' own writes to the volume over NVMe/TCP. The device that Cinder reads is a file
with the same content, and something else where nothing was written: an image with that in it was
read whole.
"""

import uuid

import pytest
from cinder import context, objects
from cinder.volume import volume_utils

from lightos.api.models.values import ALLOW_NONE
from lightos.api.models.volumes import CreateVolume, SectorSize, UpdateVolume
from testbed.cluster import GIB, connector
from testbed.initiator import Initiator
from tests.unit.cinder.conftest import mark, new_volume, record_attachment, store

WRITER, SERVICE = connector("writer", number=1), connector("controller", number=2)
BLOCK = 4096
LAST = GIB // BLOCK - 1
WRITTEN = {0: 1, 7: 3, 5000: 64, LAST - 1: 2}
"""First block and number of blocks of what is written."""
STRAY = (5, 4900, LAST - 100)
"""Blocks in which the device has something although nobody wrote it."""
RAW = {"disk_format": "raw", "container_format": "bare"}
READ_BYTES = 1 << 20
ZEROES = bytes(READ_BYTES)


class Attached:
    """os-brick's connector of an attached volume."""

    def disconnect_volume(self, *_args, **_kwargs):
        pass


class Disk:
    """A volume, what is expected in it, and the device that Cinder attaches it as."""

    def __init__(self, driver, volume, lab, cluster, folder):
        self.driver, self.volume = driver, volume
        self._lab, self._cluster, self._folder = lab, cluster, folder
        self.device, self.content = folder / "device", folder / "content"
        for file in (self.device, self.content):
            with file.open("wb") as empty:
                empty.truncate(GIB)
        for block in STRAY:
            write(self.device, block, b"stray".ljust(BLOCK))

    def write(self, blocks):
        """By a host that is attached for as long as it takes."""
        lab, found = self._lab, self._cluster.volume_of(self.volume.id)
        addresses = {node["uuid"]: node["address"] for node in lab["nodes"]}
        place = (addresses[found["primaryNodeUUID"]], lab["nvme_port"], lab["subsystem_nqn"])
        self.driver.initialize_connection(self.volume, WRITER)
        with Initiator(*place, host_nqn=WRITER["nqn"]) as host:
            for number, (first, length) in enumerate(blocks.items(), start=1):
                data = bytes([number % 256]) * (length * BLOCK)
                host.write(found["nsid"], first, data)
                for file in (self.device, self.content):
                    write(file, first, data)
        self.driver.terminate_connection(self.volume, WRITER)

    def connect(self, conn):
        """What os-brick does on the host of cinder-volume."""
        assert self._cluster.host_nqns(self.volume.id) >= {SERVICE["nqn"]}
        return {"conn": conn, "device": {"path": str(self.device)}, "connector": Attached()}

    def image(self):
        """Upload the volume; gives the image that Glance got, as a file."""
        glance = Glance(self._folder / "image")
        image_meta = {"id": str(uuid.uuid4())} | RAW
        admin = context.get_admin_context()
        self.driver.copy_volume_to_image(admin, self.volume, glance, image_meta)
        return glance.image

    def is_read_whole(self):
        return same(self.image(), self.device)

    def is_read_where_written(self):
        return same(self.image(), self.content)


class Glance:
    """Reads an upload as Glance's client does."""

    def __init__(self, image):
        self.image = image

    def update(self, _context, _image_id, _meta, data, **_more):
        with self.image.open("wb") as image:
            while chunk := data.read(READ_BYTES):
                if chunk == ZEROES:
                    image.seek(len(chunk), 1)
                else:
                    image.write(chunk)
            image.truncate()


def write(file, block, data):
    with file.open("r+b") as content:
        content.seek(block * BLOCK)
        content.write(data)


def same(one, other):
    with one.open("rb") as first, other.open("rb") as second:
        while chunk := first.read(READ_BYTES):
            if chunk != second.read(READ_BYTES):
                return False
        return not second.read(1)


@pytest.fixture
def make_disk(make_driver, lab, cluster, tmp_path, monkeypatch):
    """Make a volume with something in it, which Cinder is about to upload."""

    def make(volume=None, *, sparse=True):
        # The addresses that the tests' own host comes from are not those of its connector.
        driver = make_driver(lightos_use_ipacl=False, lightos_sparse_image_upload=sparse)
        volume = volume or new_volume()
        if not volume.provider_id:
            volume.update(driver.create_volume(volume))
        store(volume, status="uploading", attach_status="detached")
        volume = objects.Volume.get_by_id(context.get_admin_context(), volume.id)
        disk = Disk(driver, volume, lab, cluster, tmp_path)
        monkeypatch.setattr(driver, "_connect_device", disk.connect)
        return disk

    monkeypatch.setattr(volume_utils, "brick_get_connector_properties", lambda *_: SERVICE)
    return make


@pytest.fixture
def disk(make_disk):
    disk = make_disk()
    disk.write(WRITTEN)
    return disk


def test_only_what_is_written_is_read(disk, cluster, faults):
    taken, deleted = (faults.watch(operation=f"{verb}Snapshot") for verb in ("Create", "Delete"))
    assert disk.is_read_where_written()
    assert (taken.seen, deleted.seen) == (1, 1)
    assert cluster.snapshots() == []
    assert cluster.host_nqns(disk.volume.id) == set()


def test_what_a_clone_has_of_its_source_is_read(make_disk, driver):
    source = make_disk()
    source.write(WRITTEN)
    clone = new_volume()
    clone.update(driver.create_cloned_volume(clone, source.volume))
    disk = make_disk(clone)
    for file in (disk.device, disk.content):
        for number, (first, length) in enumerate(WRITTEN.items(), start=1):
            write(file, first, bytes([number]) * (length * BLOCK))
    disk.write({600: 5})
    assert disk.is_read_where_written()


def test_ranges_that_come_in_pages(make_disk, faults):
    disk = make_disk()
    disk.write(dict.fromkeys(range(10_000, 13_000, 2), 1))
    pages = faults.watch(operation="ListChangedBlocks")
    assert disk.is_read_where_written()
    assert pages.seen == 2


def test_a_snapshot_that_an_earlier_upload_left_is_not_asked(make_disk, faults, caplog):
    disk = make_disk()
    disk.write({0: 1})
    with faults.during(operation="DeleteSnapshot", status=403, count=0):
        disk.image()
    assert "which only served a copy" in caplog.text
    disk.write(WRITTEN)
    assert disk.is_read_where_written()
    mark(disk.volume, status="available")
    disk.driver._housekeeping.find_own_snapshots()
    disk.driver._housekeeping.remove_own_snapshots()


def test_by_default_all_is_read(make_disk, faults):
    disk = make_disk(sparse=False)
    disk.write(WRITTEN)
    taken = faults.watch(operation="CreateSnapshot")
    assert disk.is_read_whole()
    assert taken.seen == 0


def test_a_volume_that_somebody_has_attached_is_read_whole(disk, faults):
    record_attachment(disk.volume, WRITER)
    disk.driver.initialize_connection(disk.volume, WRITER)
    taken = faults.watch(operation="CreateSnapshot")
    assert disk.is_read_whole()
    assert taken.seen == 0


@pytest.mark.parametrize(
    "meta", [{"disk_format": "qcow2"}, {"container_format": "compressed"}], ids=str
)
def test_other_images_are_made_cinders_own_way(disk, monkeypatch, faults, meta):
    taken = faults.watch(operation="CreateSnapshot")
    given = []
    monkeypatch.setattr(volume_utils, "upload_volume", lambda *_, **more: given.append(more))
    disk.driver.copy_volume_to_image(
        context.get_admin_context(), disk.volume, None, {"id": "i"} | RAW | meta
    )
    assert given == [{"compress": True}]
    assert taken.seen == 0


def test_an_encrypted_volume_is_made_cinders_own_way(disk, faults):
    disk.volume.encryption_key_id = str(uuid.uuid4())
    taken = faults.watch(operation="CreateSnapshot")
    assert disk.is_read_whole()
    assert taken.seen == 0


def test_a_volume_that_a_host_of_others_can_write_to_is_read_whole(disk, caplog):
    project, found = disk.volume.provider_id.split()
    stranger = connector("stranger", number=9)["nqn"]
    disk.driver._cluster.update_volume(
        project,
        found,
        lambda now: UpdateVolume(acl=(stranger,)) if now.acl == (ALLOW_NONE,) else None,
        disk.driver._deadline(),
    )
    assert disk.is_read_whole()
    assert f"hosts have access to it: {stranger}" in caplog.text


def test_a_volume_of_other_sectors_is_read_whole(make_disk, driver, caplog):
    volume = new_volume()
    request = CreateVolume(
        name=volume.name,
        size_bytes=GIB,
        replica_count=1,
        acl=(ALLOW_NONE,),
        sector_size=SectorSize.BYTES_512,
    )
    made = driver._cluster.create_volume("default", request, driver._deadline())
    volume.provider_id = f"default {made.uuid}"
    assert make_disk(volume).is_read_whole()
    assert "its sectors have 512 bytes, not 4096" in caplog.text


def test_a_volume_of_which_nothing_is_told_is_read_whole(make_disk, cluster, caplog):
    disk = make_disk()
    assert disk.is_read_whole()
    assert "tells of nothing that is written" in caplog.text
    assert cluster.snapshots() == []


@pytest.mark.parametrize(
    "fault",
    [
        {"operation": "GetVolume", "status": 403},
        {"operation": "CreateSnapshot", "status": 403, "count": 0},
        {"operation": "ListChangedBlocks", "status": 501, "count": 0},
        {"operation": "ListChangedBlocks", "status": 404, "count": 0},
    ],
    ids=lambda fault: f"{fault['operation']} {fault['status']}",
)
def test_a_cluster_that_does_not_tell_costs_only_the_time(disk, cluster, faults, caplog, fault):
    with faults.during(**fault):
        assert disk.is_read_whole()
    assert f"All of volume {disk.volume.name} is read for its image" in caplog.text
    assert cluster.snapshots() == []
    assert cluster.host_nqns(disk.volume.id) == set()


def test_a_snapshot_whose_reply_was_lost_is_found_or_removed(disk, cluster, faults):
    with faults.during(operation="CreateSnapshot", lose_reply=True):
        assert disk.is_read_where_written()
    assert cluster.snapshots() == []


def test_a_device_of_another_size_ends_the_upload(disk, cluster):
    with disk.device.open("r+b") as device:
        device.truncate(GIB // 2)
    with pytest.raises(OSError, match=f"has {GIB // 2} bytes here, not {GIB}"):
        disk.image()
    assert cluster.snapshots() == []
    assert cluster.host_nqns(disk.volume.id) == set()
