# SPDX-License-Identifier: Apache-2.0
"""The Guru Meditation Report as cinder-volume makes it, on SIGUSR2, of a driver at work."""

from __future__ import annotations

import gc
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cinder import context, version
from oslo_config import cfg
from oslo_reports import opts
from oslo_reports.guru_meditation_report import TextGuruMeditation

from lightos.openstack.cinder import guru_report, locks
from lightos.openstack.cinder.driver import LightOSVolumeDriver
from lightos.openstack.cinder.under_way import UnderWay
from testbed.cluster import sensitive_words
from testbed.faults import Faults
from testbed.polling import wait_until
from tests.unit.api.conftest import unsigned_token
from tests.unit.cinder.conftest import HOST, new_volume
from tests.unit.clock import FakeClock


@pytest.fixture
def report(tmp_path: Path) -> Iterator[Callable[[], str]]:
    """Makes a report of this process, in the way of `cinder.cmd.volume`."""
    before = signal.getsignal(signal.SIGUSR2)
    opts.set_defaults(cfg.CONF)
    cfg.CONF.set_override("log_dir", str(tmp_path), "oslo_reports")
    TextGuruMeditation.setup_autorun(version, conf=cfg.CONF)

    def make() -> str:
        for old in tmp_path.iterdir():
            old.unlink()
        os.kill(os.getpid(), signal.SIGUSR2)
        (made,) = tmp_path.iterdir()
        return made.read_text()

    yield make
    cfg.CONF.clear_override("log_dir", "oslo_reports")
    signal.signal(signal.SIGUSR2, before)


def section(report: str) -> str:
    title = rf"={{72}}\n====\s+{guru_report.TITLE}\s+====\n={{72}}\n"
    return re.split(r"\n={72}\n", re.split(title, report)[1])[0]


def test_the_report_tells_of_cluster_addresses_token_waits_and_locks(
    make_driver: Callable[..., LightOSVolumeDriver],
    lab: dict[str, Any],
    faults: Faults,
    report: Callable[[], str],
) -> None:
    addresses = [*lab["api_addresses"][:1], "127.255.255.1"]
    driver = make_driver(lightos_api_address=addresses)
    volume = new_volume()

    @locks.synchronized("lightos-test-{volume.id}")
    def create(volume: Any) -> None:
        driver.create_volume(volume)

    with faults.during(operation="CreateVolume", stay="Creating"):
        worker = threading.Thread(target=create, args=(volume,))
        worker.start()
        wait_until(lambda: "CreateVolume" in section(report()), "the wait to be told")
        whole = report()
    worker.join()
    told = section(whole)

    assert f"Back end {HOST}, driver {driver.VERSION}" in told
    assert f"Subsystem: {lab['subsystem_nqn']}" in told
    assert f"{addresses[0]}: asked next\n" in told
    assert "127.255.255.1: ready\n" in told
    assert re.search(r"Token: of lightos_jwt, until \S+ \S+ UTC, days left: 364\n", told)
    assert re.search(rf"CreateVolume of volume {volume.name} .*, for [\d.]+ s, in thread \d+", told)
    assert re.search(rf"lightos-test-{volume.id}: held, for [\d.]+ s", told)
    assert [word for word in sensitive_words(lab) if word in whole] == []

    driver.delete_volume(volume)
    assert "Waits for the cluster: none" in section(report())
    assert "Locks of this process: none" in section(report())


def test_a_back_end_that_could_not_start_is_told_of(
    make_driver: Callable[..., LightOSVolumeDriver], report: Callable[[], str]
) -> None:
    driver = make_driver(set_up=False, lightos_api_address=["127.255.255.1"], lightos_jwt="")
    driver.do_setup(context.get_admin_context())
    with pytest.raises(Exception, match=r"127\.255\.255\.1"):
        driver.check_for_setup_error()
    told = section(report())
    assert "Cluster: not known yet" in told
    assert "Token: lightos_jwt is not set" in told
    assert re.search(r"127\.255\.255\.1: asked next, rests for [\d.]+ s, failures in a row: ", told)


def test_the_token_is_told_as_it_was_last_read(
    make_driver: Callable[..., LightOSVolumeDriver],
    report: Callable[[], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    file = tmp_path_factory.mktemp("token") / "lightos.jwt"
    file.write_text(unsigned_token(exp=datetime(2040, 1, 1, tzinfo=UTC).timestamp()))
    driver = make_driver(set_up=False, lightos_jwt="", lightos_jwt_file=str(file))
    driver.do_setup(context.get_admin_context())
    file.write_text(unsigned_token(of="another length"))
    assert "Token: of lightos_jwt_file, until 2040-01-01 00:00 UTC" in section(report())


def test_one_back_end_that_fails_leaves_the_others(
    make_driver: Callable[..., LightOSVolumeDriver], report: Callable[[], str]
) -> None:
    class Broken:
        def told(self) -> guru_report.BackEnd:
            raise ValueError("SECRET")

    broken, driver = Broken(), make_driver()
    guru_report.tell_of("here@broken", broken.told)
    whole = report()
    assert "Back end here@broken: cannot be told of, ValueError\n" in section(whole)
    assert f"Back end {HOST}, driver {driver.VERSION}\n" in section(whole)
    assert "SECRET" not in whole


def test_a_driver_that_is_gone_is_not_told_of(
    make_driver: Callable[..., LightOSVolumeDriver], report: Callable[[], str]
) -> None:
    def told() -> int:
        gc.collect()
        return section(report()).count(f"Back end {HOST},")

    before = told()
    driver = make_driver()
    assert told() == before + 1
    driver.do_setup(context.get_admin_context())
    assert told() == before + 1
    del driver
    assert told() == before


def test_activities_are_told_oldest_first_until_they_end() -> None:
    clock = FakeClock()
    under_way = UnderWay(clock)
    first = under_way.begin("first")
    clock.sleep(2)
    with under_way.doing("second"):
        clock.sleep(1)
        assert [line.partition(", in")[0] for line in under_way.told()] == [
            "first, for 3.0 s",
            "second, for 1.0 s",
        ]
    under_way.end(first)
    assert under_way.told() == []


def test_a_token_that_does_not_say_when_it_expires() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    told = guru_report.token_told("lightos_jwt", "a.b.c", now)
    assert told == "of lightos_jwt, does not say when it expires"
