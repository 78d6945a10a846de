# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from lightos.discovery.desired import Cluster, Endpoint
from lightos.discovery.known_services import CLUSTERS_KEPT, KnownServices

CLUSTER = Cluster("nqn.2014-08.com.example:host", "nqn.2016-01.com.lightbitslabs:a")
ONE, TWO = Endpoint("10.0.0.1", 8009), Endpoint("fd00::1", 8009)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "services.json"


def test_the_latest_services_are_there_after_a_restart(path: Path) -> None:
    known = KnownServices(path)
    assert known.of(CLUSTER) == ()
    known.learn(CLUSTER, [ONE])
    known.learn(CLUSTER, [TWO, ONE])
    assert KnownServices(path).of(CLUSTER) == (ONE, TWO)
    known.learn(CLUSTER, [TWO])
    assert KnownServices(path).of(CLUSTER) == (TWO,)


def test_what_is_known_already_is_not_written_again(path: Path) -> None:
    known = KnownServices(path)
    known.learn(CLUSTER, [ONE, TWO])
    path.unlink()
    known.learn(CLUSTER, [TWO, ONE])
    assert not path.exists()


def test_the_clusters_that_were_heard_of_last_are_kept(path: Path) -> None:
    known = KnownServices(path)
    known.learn(CLUSTER, [ONE])
    others = [Cluster(CLUSTER.host_nqn, f"nqn.2016-01.com.x:{i}") for i in range(CLUSTERS_KEPT)]
    for other in others:
        known.learn(other, [TWO])
    again = KnownServices(path)
    assert again.of(CLUSTER) == ()
    assert all(again.of(other) == (TWO,) for other in others)


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "3", '{"a": 1}', '[{"host_nqn": "nqn.a"}]'),
        '[{"host_nqn": "nqn.a", "subsystem_nqn": "nqn.b", "services": [["10.0.0.1"]]}]',
        '[{"host_nqn": "nqn.a", "subsystem_nqn": "nqn.b", "services": [["; reboot", 8009]]}]',
    ],
)
def test_a_damaged_file_knows_nothing(path: Path, content: str) -> None:
    path.write_text(content)
    known = KnownServices(path)
    assert known.of(CLUSTER) == ()
    known.learn(CLUSTER, [ONE])
    assert KnownServices(path).of(CLUSTER) == (ONE,)


def test_what_cannot_be_written_is_known_all_the_same(tmp_path: Path) -> None:
    known = KnownServices(tmp_path / "no" / "services.json")
    with pytest.raises(FileNotFoundError):
        known.learn(CLUSTER, [ONE])
    assert known.of(CLUSTER) == (ONE,)
