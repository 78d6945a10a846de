# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import os_brick.privileged
import pytest
from os_brick import exception, initiator
from os_brick.initiator import connector as brick_connector
from oslo_config import cfg, fixture

from lightos.discovery.status import Endpoint, Status, StatusServer
from lightos.openstack.os_brick import connector as ours
from lightos.openstack.os_brick import devices
from lightos.openstack.os_brick.connection import REQUESTED_SIZE
from testbed.polling import wait_until
from testbed.sysfs_tree import GIB, SysfsTree
from tests.unit.os_brick.test_connection import HOST, SUBSYSTEM, VOLUME, node, properties

OTHER_VOLUME = "9f3f36d2-7c1c-4b0e-9f5a-6f1a0c6c5a02"


class Commands:
    """os-brick's `execute`: records what would run as root, and fails if told to."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, ...]] = []
        self.error: Exception | None = None

    def __call__(self, *command: str, **_: Any) -> tuple[str, str]:
        self.ran.append(command)
        if self.error:
            raise self.error
        return "", ""


class Stuck:
    """A device that takes no I/O until it may go on."""

    def __init__(self) -> None:
        self.begun = 0
        self.may_go_on = threading.Event()

    def flush(self, _: str) -> None:
        self.begun += 1
        self.may_go_on.wait()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "discovery.d"
    folder.mkdir()
    return folder


@pytest.fixture
def conf(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    conf = fixture.Config(cfg.CONF)
    conf.setUp()
    conf.config(
        group="os_brick",
        lightos_discovery_client_dir_path=str(folder),
        lightos_discovery_client_address="127.0.0.1",
        lock_path=str(tmp_path / "locks"),
    )
    monkeypatch.setattr("os_brick.utils.get_host_nqn", lambda: HOST)
    monkeypatch.setattr(os_brick.privileged.default, "client_mode", False)
    project = getattr(cfg.CONF, "project", None)
    yield conf
    cfg.CONF.project = project
    conf.cleanUp()


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where os-brick makes the links of encrypted volumes; nobody has made it yet."""
    links = tmp_path / "by-id"
    monkeypatch.setattr("os_brick.utils.CUSTOM_LINK_PREFIX", f"{links}/os-brick")
    return links


@pytest.fixture
def commands() -> Commands:
    return Commands()


@pytest.fixture
def connector(
    conf: Any, kernel: SysfsTree, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> ours.LightOSConnector:
    # The tree has no devices that one could open, and the privileged half knows only /sys.
    monkeypatch.setattr(ours.privileged, "can_be_opened", lambda *_: True)
    kernel.add_controller("nvme0")
    made = ours.LightOSConnector("sudo", execute=commands, device_scan_attempts=1)
    made.sysfs_root = kernel.sysfs
    made.dev_root = kernel.dev
    return made


def as_service(conf: Any, project: str) -> None:
    """Be a service of this project, as its configuration file says."""
    conf.conf.project = project


def conf_lines(folder: Path, volume: str = VOLUME) -> list[str]:
    text = (folder / f"{volume}.conf").read_text()
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_the_factory_of_os_brick_makes_ours() -> None:
    made = brick_connector.InitiatorConnector.factory(
        initiator.LIGHTOS, "sudo", device_scan_attempts=7, use_multipath=True
    )
    assert isinstance(made, ours.LightOSConnector)
    assert made.device_scan_attempts == 7
    assert made.get_search_path() == "/dev"


def test_options_are_those_of_the_incumbent_and_more() -> None:
    """Asked in another interpreter: both in one would register the same options twice."""
    script = (
        "from os_brick.initiator.connectors import lightos\n"
        "print(lightos.__file__)\n"
        "options = [option for _, group in lightos.list_opts() for option in group]\n"
        "print({o.name: (type(o).__name__, o.default) for o in options})"
    )

    def ask(switch: str) -> tuple[str, dict[str, Any]]:
        output = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script],
            env={**os.environ, "LIGHTOS_OVERLAY": switch},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.splitlines()
        return output[0], eval(output[1])

    (their_file, theirs), (our_file, mine) = ask("0"), ask("1")
    assert their_file != our_file
    assert theirs.items() <= mine.items()
    assert mine.keys() - theirs.keys() == {"lightos_data_networks"}


def test_connect_publishes_the_file_and_returns_the_device(
    connector: ours.LightOSConnector, kernel: SysfsTree, folder: Path
) -> None:
    kernel.add_namespace("nvme0n3", VOLUME)
    nodes = {"a": node("192.168.75.11"), "b": node("192.168.75.12")}
    result = connector.connect_volume(properties(lightos_nodes=nodes))
    assert result == {"type": "block", "path": "/dev/nvme0n3"}
    assert conf_lines(folder) == [
        f"-t tcp -a 192.168.75.{n} -s 8009 -q {HOST} -n {SUBSYSTEM}" for n in (11, 12)
    ]
    assert os.listdir(folder) == [f"{VOLUME}.conf"]
    assert connector.get_volume_paths(properties()) == ["/dev/nvme0n3"]


def test_paths_of_a_device_that_is_named_without_its_volume(
    connector: ours.LightOSConnector,
) -> None:
    assert connector.get_volume_paths({"device_path": "/dev/nvme0n3"}) == ["/dev/nvme0n3"]
    with pytest.raises(exception.BrickException, match="no volume UUID"):
        connector.get_volume_paths({})


def test_a_process_without_a_lock_path_keeps_its_own_threads_apart_and_is_told_once(
    connector: ours.LightOSConnector,
    kernel: SysfsTree,
    folder: Path,
    conf: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    conf.config(group="os_brick", lock_path=None)
    conf.config(group="oslo_concurrency", lock_path=None)
    ours._warn_of_no_lock_path.cache_clear()
    connecting = threading.Thread(target=connector.connect_volume, args=[properties()])
    connecting.start()
    wait_until((folder / f"{VOLUME}.conf").exists, "the attach to begin")
    disconnecting = threading.Thread(target=connector.disconnect_volume, args=[properties()])
    disconnecting.start()
    disconnecting.join(0.2)
    assert disconnecting.is_alive()
    kernel.add_namespace("nvme0n3", VOLUME)
    connecting.join()
    disconnecting.join()
    assert os.listdir(folder) == []
    assert caplog.text.count("Set [os_brick] lock_path") == 1


def test_connect_waits_until_the_device_appears(
    connector: ours.LightOSConnector, kernel: SysfsTree, folder: Path
) -> None:
    def discovery_client() -> None:
        while not (folder / f"{VOLUME}.conf").exists():
            time.sleep(0.005)
        kernel.add_namespace("nvme0n3", VOLUME)

    thread = threading.Thread(target=discovery_client)
    thread.start()
    assert connector.connect_volume(properties())["path"] == "/dev/nvme0n3"
    thread.join()


def test_connect_waits_until_the_device_can_be_opened(
    connector: ours.LightOSConnector, kernel: SysfsTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel.add_namespace("nvme0n3", VOLUME)
    answers = [False, False, True]
    monkeypatch.setattr(ours.privileged, "can_be_opened", lambda *_: answers.pop(0))
    assert connector.connect_volume(properties())["path"] == "/dev/nvme0n3"
    assert answers == []


def test_connect_waits_while_the_device_of_the_last_attachment_goes(
    connector: ours.LightOSConnector, kernel: SysfsTree, folder: Path
) -> None:
    """A controller of the subsystem that has no path to it, as a new one, does not keep it."""
    kernel.set_state("nvme0", "deleting")
    kernel.add_controller("nvme1", "deleting")
    kernel.add_namespace("nvme0n3", VOLUME)
    kernel.add_controller("nvme2")
    kernel.remove_path("nvme2", "nvme0n3")
    connector.device_scan_attempts = 0
    with pytest.raises(exception.VolumeDeviceNotFound):
        connector.connect_volume(properties())
    kernel.set_state("nvme1", "connecting")  # one path stays: so does the device
    assert connector.connect_volume(properties())["path"] == "/dev/nvme0n3"
    for controller in ("nvme0", "nvme1"):
        kernel.remove_path(controller, "nvme0n3")
    with pytest.raises(exception.VolumeDeviceNotFound):
        connector.connect_volume(properties())


@pytest.fixture
def replaced(kernel: SysfsTree) -> None:
    """A device that the kernel has not removed yet, and the one that takes its place."""
    kernel.add_namespace("nvme0n3", VOLUME)
    kernel.add_namespace("nvme0n4", VOLUME)


@pytest.mark.usefixtures("replaced")
def test_connect_waits_for_the_device_that_takes_the_place_of_another(
    connector: ours.LightOSConnector, kernel: SysfsTree
) -> None:
    removal = threading.Timer(0.2, shutil.rmtree, [kernel.block / "nvme0n3"])
    removal.start()
    assert connector.connect_volume(properties())["path"] == "/dev/nvme0n4"
    removal.join()


@pytest.mark.usefixtures("replaced")
@pytest.mark.parametrize("force", [False, True])
def test_disconnect_flushes_the_device_that_takes_the_place_of_another(
    connector: ours.LightOSConnector,
    kernel: SysfsTree,
    monkeypatch: pytest.MonkeyPatch,
    force: bool,
) -> None:
    flushed: list[str] = []

    def flush(_: str, name: str, __: str) -> bool:
        flushed.append(name)
        return True

    monkeypatch.setattr(ours.privileged, "flush", flush)
    removal = threading.Timer(0.2, shutil.rmtree, [kernel.block / "nvme0n3"])
    removal.start()
    connector.disconnect_volume(properties(), force=force)
    assert flushed == ["nvme0n4"]
    removal.join()


@pytest.mark.usefixtures("replaced")
def test_a_device_that_is_not_replaced_after_all_is_told(
    connector: ours.LightOSConnector, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ours, "_REPLACE_SECONDS", 0.05)
    connector.device_scan_attempts = 0
    with pytest.raises(exception.VolumeDeviceNotFound, match="shows /dev/nvme0n3, /dev/nvme0n4"):
        connector.connect_volume(properties())
    with pytest.raises(exception.BrickException, match="several devices"):
        connector.disconnect_volume(properties())
    assert os.listdir(folder) == []


def test_without_native_multipath_connect_and_disconnect_fail_at_once(
    connector: ours.LightOSConnector, kernel: SysfsTree
) -> None:
    for name in ("nvme1", "nvme2"):
        kernel.add_namespace(f"{name}n1", VOLUME, parent=kernel.add_controller(name))
    for operation in (connector.connect_volume, connector.disconnect_volume):
        with pytest.raises(exception.BrickException, match="native NVMe multipath is off"):
            operation(properties())


def test_a_device_that_is_shown_and_cannot_be_opened_yet_or_any_more_is_none(
    conf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "device"
    monkeypatch.setattr(devices, "path_of", lambda *_: str(path))
    assert not ours.privileged.can_be_opened(VOLUME, "nvme0n3")  # no node yet
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))  # open(2) of it fails as that of an unfinished disk, with ENXIO
        assert not ours.privileged.can_be_opened(VOLUME, "nvme0n3")
    path.unlink()
    path.touch()
    assert ours.privileged.can_be_opened(VOLUME, "nvme0n3")
    monkeypatch.setattr(devices, "path_of", lambda *_: None)
    assert not ours.privileged.can_be_opened(VOLUME, "nvme0n3")


def test_endpoints_that_changed_are_refreshed(
    connector: ours.LightOSConnector, kernel: SysfsTree, folder: Path
) -> None:
    kernel.add_namespace("nvme0n3", VOLUME)
    connector.connect_volume(properties())
    connector.connect_volume(properties(lightos_nodes={"x": node("192.168.75.19")}))
    assert conf_lines(folder) == [f"-t tcp -a 192.168.75.19 -s 8009 -q {HOST} -n {SUBSYSTEM}"]


def test_a_connect_that_fails_removes_its_own_file_and_says_why(
    connector: ours.LightOSConnector, folder: Path
) -> None:
    connector.device_scan_attempts = 0
    with pytest.raises(exception.VolumeDeviceNotFound) as raised:
        connector.connect_volume(properties())
    assert VOLUME in str(raised.value)
    assert "no discovery client answers at 127.0.0.1:6060" in str(raised.value)
    assert os.listdir(folder) == []


def test_an_encrypted_volume_has_a_link_that_its_encryptor_may_replace(
    connector: ours.LightOSConnector,
    kernel: SysfsTree,
    folder: Path,
    links: Path,
) -> None:
    links.mkdir()
    kernel.add_namespace("nvme0n3", VOLUME)
    attached = connector.connect_volume(properties(encrypted=True))
    link = Path(attached["path"])
    assert (link.parent, str(link.readlink())) == (links, "/dev/nvme0n3")
    connector.disconnect_volume(properties(encrypted=True), attached)
    assert os.listdir(links) == os.listdir(folder) == []


@pytest.mark.parametrize("attached_before", [False, True])
def test_a_connect_without_its_link_says_why_and_leaves_other_attachments(
    connector: ours.LightOSConnector,
    kernel: SysfsTree,
    folder: Path,
    links: Path,
    attached_before: bool,
) -> None:
    """os-brick then detaches, without saying what: see `_Attached`."""
    kernel.add_namespace("nvme0n3", VOLUME)
    if attached_before:
        connector.connect_volume(properties())
    with pytest.raises(FileNotFoundError, match=f"{links}/os-brick"):
        connector.connect_volume(properties(encrypted=True))
    assert os.listdir(folder) == [f"{VOLUME}.conf"] * attached_before


def test_a_connect_that_fails_leaves_the_file_of_another_attachment(
    connector: ours.LightOSConnector, folder: Path, conf: Any
) -> None:
    (folder / f"{VOLUME}.conf").write_text("# of an earlier attachment\n")
    connector.device_scan_attempts = 0
    with StatusServer(Endpoint("127.0.0.1", 0), Status) as server:
        conf.config(group="os_brick", lightos_discovery_client_port=server.port)
        with pytest.raises(exception.VolumeDeviceNotFound, match="client is running"):
            connector.connect_volume(properties())
    assert os.listdir(folder) == [f"{VOLUME}.conf"]


def test_a_host_without_a_discovery_folder_is_told_what_is_missing(
    connector: ours.LightOSConnector, folder: Path
) -> None:
    folder.rmdir()
    with pytest.raises(exception.BrickException, match="discovery client installed") as raised:
        connector.connect_volume(properties())
    assert str(folder) in str(raised.value)


@pytest.mark.parametrize("host_nqn", [None, "", "None"])
def test_nothing_is_written_for_a_host_without_an_nqn_and_it_is_told_where_to_look(
    connector: ours.LightOSConnector,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    host_nqn: str | None,
) -> None:
    monkeypatch.setattr("os_brick.utils.get_host_nqn", lambda: host_nqn)
    with pytest.raises(exception.BrickException, match=r"host NQN .*/etc/nvme/hostnqn"):
        connector.connect_volume(properties())
    assert os.listdir(folder) == []


def test_disconnect_flushes_and_removes_the_file_of_this_volume_only(
    connector: ours.LightOSConnector,
    kernel: SysfsTree,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernel.add_namespace("nvme0n3", VOLUME)
    kernel.add_namespace("nvme0n4", OTHER_VOLUME)
    connector.connect_volume(properties())
    connector.connect_volume(properties(uuid=OTHER_VOLUME))
    flushed: list[tuple[str, str]] = []

    def flush(volume: str, name: str, _: str) -> bool:
        flushed.append((volume, name))
        return True

    monkeypatch.setattr(ours.privileged, "flush", flush)
    connector.disconnect_volume(properties(), {"type": "block", "path": "/dev/nvme0n3"})
    assert flushed == [(VOLUME, "nvme0n3")]
    assert os.listdir(folder) == [f"{OTHER_VOLUME}.conf"]


def test_the_file_stays_while_another_service_of_the_host_uses_the_volume(
    connector: ours.LightOSConnector, kernel: SysfsTree, folder: Path, conf: Any
) -> None:
    kernel.add_namespace("nvme0n3", VOLUME)
    as_service(conf, "nova")
    connector.connect_volume(properties())
    as_service(conf, "cinder")
    connector.connect_volume(properties())  # for a copy
    connector.disconnect_volume(properties(), None)
    assert len(conf_lines(folder)) == 1
    connector.connect_volume(properties())
    as_service(conf, "nova")
    connector.connect_volume(properties())  # in a second instance; Nova detaches once
    connector.disconnect_volume(properties(), None)
    assert len(conf_lines(folder)) == 1
    as_service(conf, "cinder")
    connector.disconnect_volume(properties(), None)
    assert os.listdir(folder) == []


def test_the_first_connect_of_a_service_removes_the_files_of_those_that_died(
    connector: ours.LightOSConnector, kernel: SysfsTree, folder: Path
) -> None:
    """The folder of each test is new to the privileged half, as every one is to a new daemon."""
    kernel.add_namespace("nvme0n3", VOLUME)
    here = os.stat("/proc/self/ns/pid").st_ino
    died, in_a_container = f"cinder:999999999:1:{here}", "cinder:999999999:1:1"
    users_of = {
        OTHER_VOLUME: [died, f"glance:999999999:1:{here}"],
        "9f3f36d2-7c1c-4b0e-9f5a-6f1a0c6c5a03": [died, "nova"],
        "9f3f36d2-7c1c-4b0e-9f5a-6f1a0c6c5a04": [in_a_container],
        "9f3f36d2-7c1c-4b0e-9f5a-6f1a0c6c5a05": [],  # of an earlier connector
        "9f3f36d2-7c1c-4b0e-9f5a-6f1a0c6c5a06": ["cinder:999999999:1"],  # of a later one: where?
        "cluster1": [died],  # of somebody who chose the name
    }

    def write_files() -> None:
        for name, users in users_of.items():
            text = "".join(f"# used by {user}\n" for user in users)
            (folder / f"{name}.conf").write_text(text)

    write_files()
    connector.connect_volume(properties())
    kept = {f"{name}.conf" for name in (VOLUME, *users_of)} - {f"{OTHER_VOLUME}.conf"}
    assert set(os.listdir(folder)) == kept
    write_files()
    connector.connect_volume(properties())
    assert set(os.listdir(folder)) == kept | {f"{OTHER_VOLUME}.conf"}


def test_a_connect_that_fails_leaves_its_service_a_user_if_it_was_one(
    connector: ours.LightOSConnector, kernel: SysfsTree, folder: Path
) -> None:
    device = kernel.add_namespace("nvme0n3", VOLUME)
    connector.connect_volume(properties())
    (device / "size").write_text("0\n")
    connector.device_scan_attempts = 0
    with pytest.raises(exception.VolumeDeviceNotFound):
        connector.connect_volume(properties())
    assert len(conf_lines(folder)) == 1


@pytest.mark.parametrize("force", [False, True])
def test_disconnect_of_what_is_gone_is_done_at_once(
    connector: ours.LightOSConnector, folder: Path, commands: Commands, force: bool
) -> None:
    (folder / f"{VOLUME}.conf").touch()
    connector.disconnect_volume({"uuid": VOLUME}, None, force=force)
    connector.disconnect_volume({"uuid": VOLUME}, None, force=force)
    assert os.listdir(folder) == []
    assert commands.ran == []


@pytest.fixture
def unflushable(
    connector: ours.LightOSConnector, kernel: SysfsTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attached volume whose flush fails."""
    kernel.add_namespace("nvme0n3", VOLUME)
    connector.connect_volume(properties())

    def fail(*_: str) -> None:
        raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr(ours.privileged, "flush", fail)


@pytest.mark.usefixtures("unflushable")
@pytest.mark.parametrize("ignore_errors", [False, True])
def test_without_force_a_flush_that_fails_keeps_the_volume_attached(
    connector: ours.LightOSConnector, folder: Path, ignore_errors: bool
) -> None:
    with pytest.raises(exception.BrickException, match="nvme0n3 was not flushed: I/O error"):
        connector.disconnect_volume(properties(), None, ignore_errors=ignore_errors)
    assert os.listdir(folder) == [f"{VOLUME}.conf"]


@pytest.mark.usefixtures("unflushable")
def test_force_goes_on_after_a_flush_that_failed_and_raises_in_the_end(
    connector: ours.LightOSConnector, folder: Path
) -> None:
    with pytest.raises(exception.ExceptionChainer, match="was not flushed: I/O error"):
        connector.disconnect_volume(properties(), None, force=True)
    assert os.listdir(folder) == []


@pytest.mark.parametrize("ignore_errors", [False, True])
def test_without_force_a_file_that_cannot_be_removed_is_an_error(
    connector: ours.LightOSConnector, folder: Path, ignore_errors: bool
) -> None:
    folder.rmdir()
    folder.write_text("no folder")
    with pytest.raises(NotADirectoryError):
        connector.disconnect_volume(properties(), None, ignore_errors=ignore_errors)


@pytest.mark.usefixtures("unflushable")
def test_ignored_errors_are_not_raised(connector: ours.LightOSConnector, folder: Path) -> None:
    connector.disconnect_volume(properties(), None, force=True, ignore_errors=True)
    assert os.listdir(folder) == []


@pytest.fixture
def stuck(
    connector: ours.LightOSConnector, kernel: SysfsTree, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stuck]:
    """An attached volume whose device takes no I/O until it is told to go on."""
    kernel.add_namespace("nvme0n3", VOLUME)
    connector.connect_volume(properties())
    stuck = Stuck()
    monkeypatch.setattr(devices, "path_of", lambda *_: "/dev/nvme0n3")
    monkeypatch.setattr(ours.privileged, "_flush_buffers", stuck.flush)
    monkeypatch.setattr(ours.privileged, "_FLUSH_WAIT_SECONDS", 0.05)
    monkeypatch.setattr(ours.privileged, "_flushes", {})
    yield stuck
    stuck.may_go_on.set()


def test_a_flush_that_takes_long_leaves_the_privileged_half_to_others(stuck: Stuck) -> None:
    """Its pool of threads serves all connectors of a service."""

    def flush(request: str) -> Any:
        return ours.privileged.flush(VOLUME, "nvme0n3", request)

    assert [flush("a"), flush("a"), flush("b"), flush("a")] == [False] * 4
    assert stuck.begun == 1
    stuck.may_go_on.set()
    wait_until(lambda: flush("a"), "the end of the flush")
    assert stuck.begun == 1
    assert flush("b")  # of what was written since
    assert stuck.begun == 2


def test_a_flush_that_fails_is_told_and_the_next_one_begins_anew(
    conf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_device = tmp_path / "device"
    no_device.touch()
    monkeypatch.setattr(devices, "path_of", lambda *_: str(no_device))
    with pytest.raises(OSError, match="Inappropriate ioctl"):
        ours.privileged.flush(VOLUME, "nvme0n3", "a")
    no_device.unlink()
    with pytest.raises(FileNotFoundError):
        ours.privileged.flush(VOLUME, "nvme0n3", "b")


def test_disconnect_waits_for_a_flush_that_takes_long(
    connector: ours.LightOSConnector, folder: Path, stuck: Stuck
) -> None:
    go_on = threading.Timer(0.3, stuck.may_go_on.set)
    go_on.start()
    connector.disconnect_volume(properties())
    assert (stuck.may_go_on.is_set(), stuck.begun) == (True, 1)
    assert os.listdir(folder) == []
    go_on.join()


def test_disconnect_says_that_a_flush_does_not_end(
    connector: ours.LightOSConnector, folder: Path, stuck: Stuck, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ours, "_FLUSH_SECONDS", 0.3)
    with pytest.raises(exception.BrickException, match=r"not flushed: it takes no I/O within 0\.3"):
        connector.disconnect_volume(properties())
    assert os.listdir(folder) == [f"{VOLUME}.conf"]


def test_force_does_not_wait_for_a_flush_that_no_path_can_take(
    connector: ours.LightOSConnector,
    kernel: SysfsTree,
    folder: Path,
    stuck: Stuck,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a primary node that is lost; another one's path, without access, is up."""
    monkeypatch.setattr(ours, "_NO_PATH_SECONDS", 0.3)
    kernel.set_state("nvme0", "connecting")
    kernel.add_controller("nvme1")
    kernel.set_ana_state("nvme1", "nvme0n3", "inaccessible")
    with pytest.raises(exception.ExceptionChainer, match="no path to the storage is up"):
        connector.disconnect_volume(properties(), force=True)
    assert stuck.begun == 1
    assert os.listdir(folder) == []


def test_force_waits_while_another_node_becomes_the_primary(
    connector: ours.LightOSConnector, kernel: SysfsTree, folder: Path, stuck: Stuck
) -> None:
    """Cinder detaches by force what it has just written an image to."""
    kernel.set_state("nvme0", "connecting")
    go_on = threading.Timer(0.3, stuck.may_go_on.set)
    go_on.start()
    connector.disconnect_volume(properties(), force=True)
    assert stuck.begun == 1
    assert os.listdir(folder) == []
    go_on.join()


def test_operations_on_other_volumes_do_not_wait_for_each_other(
    connector: ours.LightOSConnector, folder: Path, kernel: SysfsTree
) -> None:
    """A connect that waits for its device holds the lock of its own volume only."""
    connected = threading.Thread(target=connector.connect_volume, args=[properties()])
    connected.start()
    while not (folder / f"{VOLUME}.conf").exists():
        time.sleep(0.005)
    connector.disconnect_volume({"uuid": OTHER_VOLUME}, None)
    assert connected.is_alive()
    kernel.add_namespace("nvme0n3", VOLUME)
    connected.join()


def test_extend_waits_for_the_size_that_was_asked_for(
    connector: ours.LightOSConnector, kernel: SysfsTree
) -> None:
    folder = kernel.add_namespace("nvme0n3", VOLUME)
    grow = threading.Timer(0.1, (folder / "size").write_text, [f"{2 * GIB // 512}\n"])
    grow.start()
    assert connector.extend_volume(properties(**{REQUESTED_SIZE: 2 * GIB})) == 2 * GIB
    grow.join()


def test_extend_without_a_size_returns_the_one_the_device_settles_at(
    connector: ours.LightOSConnector, kernel: SysfsTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ours, "_SETTLE_SECONDS", 0.05)
    kernel.add_namespace("nvme0n3", VOLUME, 3 * GIB)
    assert connector.extend_volume(properties()) == 3 * GIB


def test_extend_says_that_a_device_is_gone_or_did_not_grow(
    connector: ours.LightOSConnector, kernel: SysfsTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(exception.VolumeDeviceNotFound, match=VOLUME):
        connector.extend_volume(properties())
    kernel.add_namespace("nvme0n3", VOLUME)
    monkeypatch.setattr(ours, "_LEAST_EXTEND_SECONDS", 0.05)
    monkeypatch.setattr(ours, "SECONDS_PER_SCAN_ATTEMPT", 0.02)
    for attempts, seconds in ((0, 0.05), (1, 0.05), (5, 0.1)):  # as long as an attach, if longer
        connector.device_scan_attempts = attempts
        complaint = f"did not grow to {2 * GIB} bytes within {seconds:g} s"
        with pytest.raises(exception.BrickException, match=complaint):
            connector.extend_volume(properties(**{REQUESTED_SIZE: 2 * GIB}))


def test_connector_properties(conf: Any, folder: Path) -> None:
    conf.config(group="os_brick", lightos_data_networks=["203.0.113.0/24"])
    with StatusServer(Endpoint("127.0.0.1", 0), Status) as server:
        conf.config(group="os_brick", lightos_discovery_client_port=server.port)
        found = ours.LightOSConnector.get_connector_properties("sudo", host="h", multipath=True)
        assert found == {"nqn": HOST, "found_dsc": "found", "host_ips": []}
        folder.rmdir()
        found = ours.LightOSConnector.get_connector_properties("sudo")
        assert found["found_dsc"] == ""


def test_a_malformed_network_reports_no_address_and_breaks_nothing(conf: Any) -> None:
    conf.config(group="os_brick", lightos_data_networks=["storage"])
    assert ours.LightOSConnector.get_connector_properties("sudo")["host_ips"] == []


def test_a_host_without_nvme_has_no_properties(conf: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os_brick.utils.get_host_nqn", lambda: None)
    assert ours.LightOSConnector.get_connector_properties("sudo") == {}
