# SPDX-License-Identifier: Apache-2.0
"""Defects of the connector in os-brick: what it does to a host."""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Callable

from inotify_simple import INotify, flags  # type: ignore[import-untyped]
from oslo_utils import netutils

from bench.defects.compute_bed import (
    PATIENCE_SECONDS,
    ComputeBed,
    connections,
    once,
    returns,
    started,
)
from bench.defects.defect import Defect, Observation, Place, Scenario, defect
from bench.defects.evidence import error_of, shortened
from testbed.polling import wait_until
from testbed.sysfs_tree import GIB, SECTOR_BYTES

LONGEST_ATTEMPT_SECONDS = 16
"""Both wait a minute for a device by default, and the default is five attempts."""
GROWTH_PAUSE_SECONDS = 0.3

on_host: Callable[[str, str], Callable[[Scenario], Defect]] = functools.partial(
    defect, place=Place.COMPUTE
)


@on_host("21a", "the discovery client is asked without a time limit")
def endless_probe(bed: ComputeBed) -> Observation:
    with (
        bed.silent_discovery_client() as silent,
        started(bed.connector_properties) as asking,
    ):
        returned = returns(asking)
        silent.close()
    how = "returns" if returned else f"still waits after {PATIENCE_SECONDS} s"
    return Observation(not returned, f"with a client that never answers, os-brick {how}")


@on_host("21b", "it is asked where LightOS is not in use, for volumes of any protocol")
def probe_everywhere(bed: ComputeBed) -> Observation:
    bed.configure(lightos_discovery_client_dir_path=str(bed.folder / "missing"))
    with (
        bed.silent_discovery_client() as silent,
        started(bed.connector_properties) as asking,
    ):
        returns(asking)
        count = connections(silent)
        silent.close()
    return Observation(count > 0, f"asked {count} times on a host without discovery folder")


@on_host("22a", "the discovery file is made elsewhere and moved: across file systems it grows")
def file_moved(bed: ComputeBed) -> Observation:
    uuid = bed.attached_volume()
    with INotify() as watch:
        watch.add_watch(bed.folder, flags.CREATE | flags.MOVED_TO)
        bed.connector().connect_volume(bed.connection(uuid))
        events = watch.read(timeout=0)
    first = next(flags.from_mask(each.mask)[0] for each in events if each.name == f"{uuid}.conf")
    how = "moved in, whole" if first is flags.MOVED_TO else "created, empty"
    return Observation(first is flags.CREATE, f"a watcher sees the file {how}")


@on_host("22b", "a temporary file stays when the discovery file cannot be put in place")
def temporary_file_left(bed: ComputeBed) -> Observation:
    bed.configure(lightos_discovery_client_dir_path=str(bed.folder / "missing"))
    uuid = bed.attached_volume()
    error = error_of(bed.connector().connect_volume, bed.connection(uuid))
    strays = bed.strays()
    return Observation(bool(strays), f"{_outcome(error)}; {len(strays)} files are left")


@on_host("22c", "a discovery file that is there is never refreshed with new endpoints")
def not_refreshed(bed: ComputeBed) -> Observation:
    uuid = bed.attached_volume()
    connector = bed.connector()
    connector.connect_volume(bed.connection(uuid, "192.168.75.11"))
    connector.connect_volume(bed.connection(uuid, "192.168.75.12"))
    has_new = "192.168.75.12" in bed.file_of(uuid).read_text()
    return Observation(
        not has_new, f"the file {'names' if has_new else 'lacks'} the node of the second attach"
    )


@on_host("22d", "a connect that fails deletes the discovery file of another attachment")
def file_of_another_deleted(bed: ComputeBed) -> Observation:
    uuid = bed.new_volume()
    bed.file_of(uuid).write_text("# of an attachment whose paths are down just now\n")
    error = error_of(bed.connector().connect_volume, bed.connection(uuid))
    kept = bed.file_of(uuid).exists()
    return Observation(not kept, f"{_outcome(error)}; the file is {'kept' if kept else 'deleted'}")


@on_host("22e", "the volume's UUID is joined into a path unchecked, with root's rights")
def path_from_outside(bed: ComputeBed) -> Observation:
    victim = bed.temporary_folder / "victim.conf"
    victim.write_text("of another program\n")
    uuid = f"../{victim.parent.name}/{victim.stem}"
    error = error_of(bed.connector().disconnect_volume, bed.connection(uuid), None)
    kept = victim.exists()
    return Observation(
        not kept,
        f"{_outcome(error)}; a file of another folder is {'kept' if kept else 'deleted'}",
    )


@on_host("22f", "a host without a usable host NQN writes `-q None`")
def no_host_nqn(bed: ComputeBed) -> Observation:
    bed.host_nqn_file.write_bytes(b"\xff\xfe damaged")
    uuid = bed.attached_volume()
    error = error_of(bed.connector().connect_volume, bed.connection(uuid))
    file = bed.file_of(uuid)
    wrote = file.exists() and "-q None" in file.read_text()
    return Observation(
        wrote, f"{_outcome(error)}; {'a file with -q None' if wrote else 'nothing'} is written"
    )


@on_host("23a", "detaching a device that is gone waits a minute for it")
def wait_for_absent(bed: ComputeBed) -> Observation:
    uuid = bed.new_volume()
    connector = bed.connector(patient=True)
    with started(error_of, connector.disconnect_volume, bed.connection(uuid), None) as detaching:
        returned = returns(detaching)
        bed.add_device(uuid)
    how = "returns" if returned else f"still waits after {PATIENCE_SECONDS} s"
    return Observation(not returned, f"the detach {how}")


@on_host("23b", "one lock for all volumes: one that waits for its device holds all others up")
def one_lock(bed: ComputeBed) -> Observation:
    waiting, other = bed.new_volume(), bed.attached_volume()
    connector = bed.connector(patient=True)
    with started(connector.connect_volume, bed.connection(waiting)) as first:
        wait_until(lambda: bed.file_of(waiting).exists(), "the first to wait for its device")
        with started(connector.connect_volume, bed.connection(other)) as second:
            returned = returns(second)
            bed.add_device(waiting)
            first.result()
    return Observation(
        not returned, f"the other volume is {'attached' if returned else 'held up'} meanwhile"
    )


@on_host("23c", "other processes are not locked out: a detach in one undoes an attach in another")
def no_lock_between_processes(bed: ComputeBed) -> Observation:
    uuid = bed.new_volume()
    connection = bed.connection(uuid)
    # A fork before any thread. A second service of the host, such as cinder-volume beside Nova.
    service = multiprocessing.get_context("fork").Process(target=_detach, args=(bed, uuid))
    service.start()
    with started(bed.connector(patient=True).connect_volume, connection) as attaching:
        wait_until(lambda: bed.file_of(uuid).exists(), "the attach to wait for its device")
        service.join(PATIENCE_SECONDS)
        kept = bed.file_of(uuid).exists()
        bed.add_device(uuid)
        attaching.result()
    service.join()
    return Observation(
        not kept,
        f"while it waits for the device, its discovery file is {'kept' if kept else 'deleted'}",
    )


def _detach(bed: ComputeBed, uuid: str) -> None:
    wait_until(lambda: bed.file_of(uuid).exists(), "the attach to begin", pause=0.01)
    error_of(bed.connector().disconnect_volume, bed.connection(uuid), None)


@on_host("24a", "extend returns the size of that instant: no rescan, no wait")
def extend_at_once(bed: ComputeBed) -> Observation:
    uuid = bed.new_volume()
    device, rescan = bed.add_device(uuid), bed.controller / "rescan_controller"

    def grow() -> None:
        (device / "size").write_text(f"{2 * GIB // SECTOR_BYTES}\n")

    with started(once, rescan.exists, grow, GROWTH_PAUSE_SECONDS):
        size = bed.connector().extend_volume(bed.connection(uuid))
        asked = rescan.exists()
    return Observation(
        size < 2 * GIB,
        f"it says {size / GIB:g} of 2 GiB; the kernel was {'' if asked else 'not '}asked to look",
    )


@on_host("24b", "extend of a device that is gone: AttributeError")
def extend_absent(bed: ComputeBed) -> Observation:
    error = error_of(bed.connector().extend_volume, bed.connection(bed.new_volume()))
    return Observation("AttributeError" in error, _outcome(error))


@on_host("25", "device_scan_attempts (Nova's num_nvme_discover_tries) is ignored")
def attempts_ignored(bed: ComputeBed) -> Observation:
    uuid = bed.new_volume()
    connector = bed.connector(patient=True, scan_attempts=1)
    with started(error_of, connector.connect_volume, bed.connection(uuid)) as attaching:
        returned = returns(attaching, LONGEST_ATTEMPT_SECONDS)
        bed.add_device(uuid)
    how = "gave up within" if returned else "still waits after"
    return Observation(
        not returned,
        f"told to make one attempt, it {how} {LONGEST_ATTEMPT_SECONDS} s without a device",
    )


@on_host("26a", "addresses of bridges for containers and guests are sent as the host's")
def bridge_addresses(bed: ComputeBed) -> Observation:
    bed.add_interface("docker0", "172.17.0.1/16")
    bed.add_interface("virbr0", "192.168.122.1/24")
    return _addresses_sent(bed, "172.17.0.1", "192.168.122.1")


@on_host("26b", "link-local addresses are sent as the host's")
def link_local_addresses(bed: ComputeBed) -> Observation:
    addresses = ["169.254.7.7"]
    if netutils.is_ipv6_enabled():
        addresses.append("fe80::7")
    bed.add_interface(
        "ens1", *(f"{address}/{16 if '.' in address else 64}" for address in addresses)
    )
    return _addresses_sent(bed, *addresses)


def _addresses_sent(bed: ComputeBed, *unfit: str) -> Observation:
    """Beside the one of the storage network."""
    bed.add_interface("storage0", "192.168.75.101/24")
    sent = bed.connector_properties()["host_ips"]
    return Observation(not {*unfit}.isdisjoint(sent), f"sent: {', '.join(sent)}")


def _outcome(error: str) -> str:
    return f"the caller was told: {shortened(error)}" if error else "the caller was told: done"
