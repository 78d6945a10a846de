# SPDX-License-Identifier: Apache-2.0
"""provider_id and names, as the incumbent has them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightos.openstack.cinder.naming import (
    ProviderId,
    clone_snapshot_name,
    cloned_volume_id,
    image_snapshot_name,
    uploaded_volume_id,
)

UUID = "7d1f0f2f-1c1c-4d57-9a83-0d2c3d1a8a52"


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("default", ProviderId("default")),
        (f"default {UUID}", ProviderId("default", UUID)),
        (None, None),
        ("", None),
        ("default a b", None),
    ],
)
def test_parse(text, parsed):
    assert ProviderId.parse(text) == parsed


@given(
    st.from_regex(r"[a-z0-9][a-z0-9.-]{0,20}", fullmatch=True), st.uuids().map(str) | st.just("")
)
def test_what_is_written_is_read_back(project, uuid):
    written = ProviderId(project, uuid)
    assert ProviderId.parse(str(written)) == written


def test_clone_snapshot_name():
    assert clone_snapshot_name(UUID) == f"for_clone_{UUID}"


def test_the_name_of_a_clones_snapshot_gives_the_id_back():
    assert cloned_volume_id(clone_snapshot_name(UUID)) == UUID


@pytest.mark.parametrize(
    "name", ["", UUID, "for_clone_", "for_clone_me", f"snapshot-{UUID}", f"a_for_clone_{UUID}"]
)
def test_snapshots_of_others_are_no_clones(name):
    assert cloned_volume_id(name) is None


IMAGE = "0b1c2d3e-4f50-4617-8293-a4b5c6d7e8f9"


def test_the_name_of_an_images_snapshot_gives_the_volumes_id_back():
    name = image_snapshot_name(UUID, IMAGE)
    assert name == f"for_image_{UUID}_{IMAGE}"
    assert uploaded_volume_id(name) == UUID
    assert cloned_volume_id(name) is None


@pytest.mark.parametrize(
    "name",
    [
        f"for_image_{UUID}",
        f"for_image_{UUID}_{IMAGE}_2",
        f"for_image_{UUID}_mine",
        f"for_clone_{UUID}",
        f"for_clone_{UUID}_{IMAGE}",
    ],
)
def test_snapshots_of_others_serve_no_image(name):
    assert uploaded_volume_id(name) is None
