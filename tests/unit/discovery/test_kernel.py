# SPDX-License-Identifier: Apache-2.0
"""What is plain data of the kernel's interface; the rest runs on a real kernel in tests/kernel."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from lightos.discovery import kernel
from lightos.discovery.desired import Cluster, ControllerPath, Endpoint
from lightos.discovery.host_identity import HostIdentity
from lightos.discovery.kernel import ConnectOptions, FabricsUnavailable, Unsupported
from lightos.discovery.reconcile import KernelController

HOST = "nqn.2014-08.org.nvmexpress:uuid:11111111-1111-4111-8111-111111111111"
HOST_ID = UUID("11111111-1111-4111-8111-111111111111")
CLUSTER = Cluster(HOST, "nqn.2016-01.com.lightbitslabs:a")
PATH = ControllerPath(CLUSTER, Endpoint("192.168.75.11", 4420))
LIVE = {
    "transport": "tcp",
    "address": "traddr=192.168.75.11,trsvcid=4420,src_addr=192.168.75.101",
    "subsysnqn": CLUSTER.subsystem_nqn,
    "hostnqn": HOST,
    "hostid": str(HOST_ID),
    "state": "live",
}


def add_controller(root: Path, name: str, attributes: dict[str, str]) -> Path:
    folder = root / "class" / "nvme" / name
    folder.mkdir(parents=True)
    for attribute, value in attributes.items():
        (folder / attribute).write_text(value + "\n")
    return folder


def test_option_string_holds_what_was_asked_and_nothing_else() -> None:
    assert kernel.option_string(PATH, HOST_ID, ConnectOptions()) == (
        "transport=tcp,traddr=192.168.75.11,trsvcid=4420,nqn=nqn.2016-01.com.lightbitslabs:a,"
        f"hostnqn={HOST},hostid={HOST_ID}"
    )
    options = ConnectOptions(-1, 5, 10, 4, "DHHC-1:00:host:", "DHHC-1:00:controller:")
    assert kernel.option_string(PATH, HOST_ID, options).endswith(
        f"hostid={HOST_ID},ctrl_loss_tmo=-1,reconnect_delay=5,keep_alive_tmo=10,nr_io_queues=4,"
        "dhchap_secret=DHHC-1:00:host:,dhchap_ctrl_secret=DHHC-1:00:controller:"
    )


def test_tls_is_a_word_and_its_keys_are_serial_numbers() -> None:
    tls = kernel.option_string(PATH, HOST_ID, ConnectOptions(tls=True))
    assert tls.endswith(f"hostid={HOST_ID},tls")
    keys = ConnectOptions(0, tls=True, tls_keyring=7, tls_key=8)
    assert kernel.option_string(PATH, HOST_ID, keys).endswith(
        "ctrl_loss_tmo=0,tls,keyring=7,tls_key=8"
    )
    assert repr(keys) == (
        "ConnectOptions(ctrl_loss_timeout_seconds=0, tls=True, tls_keyring=7, tls_key=8)"
    )


@pytest.mark.parametrize(
    ("known", "options", "lacks"),
    [
        ("instance=-1,cntlid=-1,transport=%s,nqn=%s\n", ConnectOptions(tls=True), "TLS"),
        ("transport=%s,tls\n", ConnectOptions(tls=True, tls_key=1), "TLS"),
        ("transport=%s,tls\n", ConnectOptions(dhchap_secret="DHHC-1:00:a:"), "DH-HMAC-CHAP"),
    ],
)
def test_a_kernel_without_the_protection_asked_for_is_not_asked_to_do_without(
    tmp_path: Path, known: str, options: ConnectOptions, lacks: str
) -> None:
    device = tmp_path / "nvme-fabrics"
    device.write_text(known)
    with pytest.raises(Unsupported, match=f"this kernel has no {lacks}") as refusal:
        kernel.connect(PATH, HOST_ID, options, device)
    assert "DHHC-1" not in str(refusal.value)
    assert device.read_text() == known


def test_a_kernel_tells_its_options_or_not(tmp_path: Path) -> None:
    device = tmp_path / "nvme-fabrics"
    assert kernel.supported_options(device) is None
    device.write_text("instance=-1,cntlid=-1,transport=%s,tls,keyring=%d\n")
    assert kernel.supported_options(device) == {"instance", "cntlid", "transport", "tls", "keyring"}


def test_secrets_stay_out_of_the_repr() -> None:
    options = ConnectOptions(dhchap_secret="DHHC-1:00:host:", io_queue_count=2)
    assert repr(options) == "ConnectOptions(io_queue_count=2)"


def test_controllers_are_read_as_sysfs_shows_them(tmp_path: Path) -> None:
    ipv6 = {"address": "traddr=fd00:0::1,trsvcid=4420", "state": "connecting"}
    add_controller(tmp_path, "nvme0", LIVE)
    add_controller(tmp_path, "nvme10", LIVE | ipv6)
    add_controller(tmp_path, "nvme2", LIVE | {"transport": "pcie", "address": "0000:00:04.0"})
    add_controller(tmp_path, "nvme3", {"transport": "tcp", "state": "new"})
    add_controller(tmp_path, "nvme4", LIVE | {"address": "traddr=,trsvcid=x"})
    assert kernel.read_controllers(tmp_path) == [
        KernelController("nvme0", PATH, "live", HOST_ID),
        KernelController(
            "nvme10", ControllerPath(CLUSTER, Endpoint("fd00::1", 4420)), "connecting", HOST_ID
        ),
    ]
    assert kernel.read_identities(tmp_path) == {HostIdentity(HOST, HOST_ID)}


def test_a_kernel_without_nvme_has_no_controllers(tmp_path: Path) -> None:
    assert kernel.read_controllers(tmp_path) == []
    assert kernel.read_identities(tmp_path) == frozenset()


def test_disconnect_asks_only_the_controller_that_was_seen(tmp_path: Path) -> None:
    folder = add_controller(tmp_path, "nvme0", LIVE | {"delete_controller": ""})
    seen = KernelController("nvme0", PATH, "live")
    kernel.disconnect(seen, tmp_path)
    assert (folder / "delete_controller").read_text() == "1"

    (folder / "delete_controller").write_text("")
    (folder / "address").write_text("traddr=192.168.75.99,trsvcid=4420")
    kernel.disconnect(seen, tmp_path)
    assert (folder / "delete_controller").read_text() == ""
    kernel.disconnect(KernelController("nvme1", PATH, "live"), tmp_path)


def test_a_host_without_the_module_is_told_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(FabricsUnavailable, match="run `modprobe nvme-tcp`"):
        kernel.connect(PATH, HOST_ID, ConnectOptions(), tmp_path / "nvme-fabrics")


def test_configured_identity_needs_both_files(tmp_path: Path) -> None:
    nqn, host_id = tmp_path / "hostnqn", tmp_path / "hostid"
    assert kernel.read_configured_identity(nqn, host_id) is None
    nqn.write_text(f"{HOST}\n")
    host_id.write_text("not a uuid\n")
    assert kernel.read_configured_identity(nqn, host_id) is None
    host_id.write_text(f"{HOST_ID}\n")
    assert kernel.read_configured_identity(nqn, host_id) == HostIdentity(HOST, HOST_ID)
