# SPDX-License-Identifier: Apache-2.0
"""Images that are Cinder volumes of the cluster: which may be cloned, and that they are."""

import uuid

import pytest
from cinder import context
from cinder.db import api as db
from oslo_config import cfg

from lightos.openstack.cinder import images
from tests.unit.cinder.conftest import new_volume, store

OWNER, GLANCE = "3" * 32, "5" * 32
RAW = {"id": "i", "disk_format": "raw", "container_format": "bare", "owner": OWNER}
ONE, TWO = str(uuid.uuid4()), str(uuid.uuid4())


@pytest.mark.parametrize(
    ("location", "ids"),
    [
        (None, []),
        ((None, None), []),
        ((f"cinder://{ONE}", None), [ONE]),
        ((f"cinder://store/{ONE}", [{"url": f"cinder://{TWO}"}, {}]), [ONE, TWO]),
        ((f"cinder://{ONE}", [{"url": f"cinder://{ONE}"}]), [ONE]),
        (("cinder://../x", [{"url": f"rbd://{ONE}"}, {"url": None}]), []),
    ],
)
def test_ids_in_locations(location, ids):
    assert list(images.cinder_ids(location)) == ids


@pytest.fixture(params=["kept in the owner's project", "kept in Glance's project"])
def image(make_driver, created, request):
    """A volume with an image in it, as Glance's Cinder store keeps one."""
    cfg.CONF.set_override("allowed_direct_url_schemes", ["cinder"])
    volume = created()
    place = {"status": "available", "attach_status": "detached"}
    if request.param == "kept in the owner's project":
        store(volume, **place, project_id=OWNER)
    else:
        store(volume, **place, project_id=GLANCE)
        owner = {"image_owner": OWNER}
        db.volume_metadata_update(context.get_admin_context(), volume.id, owner, False)
    yield volume
    cfg.CONF.clear_override("allowed_direct_url_schemes")


def clone(driver, image, meta=RAW, **fields):
    wanted = {"project_id": OWNER, "encryption_key_id": None} | fields
    volume = new_volume(**wanted)
    location = (f"cinder://{image.id}", None)
    admin = context.get_admin_context()
    return volume, driver.clone_image(admin, volume, location, meta, None)


def test_an_image_volume_is_cloned(driver, cluster, image):
    volume, (update, cloned) = clone(driver, image, size=2, project_id="other")
    assert cloned
    assert update == {"provider_id": f"default {cluster.volume_of(volume.id)['UUID']}"}
    assert cluster.snapshots() == []


@pytest.mark.parametrize(
    ("meta", "fields"),
    [
        ({"disk_format": "qcow2"}, {}),
        ({"owner": "4" * 32}, {}),
        ({"owner": "4" * 32}, {"project_id": "4" * 32}),
        ({"owner": None}, {}),
        ({}, {"encryption_key_id": str(uuid.uuid4())}),
        ({}, {"size": 0}),
    ],
    ids=[
        "not raw",
        "someone else's",
        "an own image with someone else's volume",
        "nobody's",
        "encrypted",
        "too small",
    ],
)
def test_what_is_not_cloned_is_left_to_cinder(driver, image, faults, meta, fields):
    calls = faults.watch()
    _, answer = clone(driver, image, RAW | meta, **fields)
    assert answer == (None, False)
    assert calls.seen == 0


def test_without_the_operators_consent_nothing_is_cloned(driver, image):
    cfg.CONF.set_override("allowed_direct_url_schemes", [])
    assert clone(driver, image)[1] == (None, False)


def test_a_clone_that_fails_is_left_to_cinder(driver, cluster, image, faults):
    faults.add(operation="CreateVolume", status=400, message="not now")
    volume, answer = clone(driver, image)
    assert answer == (None, False)
    assert all(volume.name != found["name"] for found in cluster.volumes())
    assert cluster.snapshots() == []
