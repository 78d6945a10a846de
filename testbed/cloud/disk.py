# SPDX-License-Identifier: Apache-2.0
"""A volume's bytes, read and written by a host that is none of the cloud's.

The host is attached through Cinder's API like any other and speaks NVMe/TCP itself, so what the
services did with a volume is judged by something that shares no code and no kernel with them.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightos.nvme_tcp import commands
from testbed.cinder.client import CinderClient
from testbed.cluster import GIB, PROJECT, Cluster, allowed, connector
from testbed.initiator import Initiator
from testbed.network import GATEWAY_ADDRESS, LAB_ADDRESSES, Network
from testbed.polling import wait_until

MIB = 1 << 20
READ_BYTES = 128 << 10
DEPTH = 8
# We are inside the cloud's network, where a connection to a node comes from its own address.
HOST = connector("test-host", number=99) | {"host_ips": [GATEWAY_ADDRESS, *LAB_ADDRESSES]}


@dataclass(frozen=True)
class Content:
    """What a volume holds: pieces at offsets, zeroes elsewhere."""

    pieces: Mapping[int, bytes]

    @classmethod
    def of(cls, seed: str, size_bytes: int = GIB) -> Content:
        """Random bytes at the start, across a 4 MiB boundary, in the middle and at the end."""
        source = random.Random(seed)  # noqa: S311 - no secrets
        starts = (0, 4 * MIB - 64 * 1024, size_bytes // 2, size_bytes - MIB)
        return cls({start: source.randbytes(MIB) for start in starts})

    def sha256(self, size_bytes: int) -> str:
        digest = hashlib.sha256()
        position = 0
        for start, data in sorted(self.pieces.items()):
            _add_zeroes(digest, start - position)
            digest.update(data)
            position = start + len(data)
        _add_zeroes(digest, size_bytes - position)
        return digest.hexdigest()


def _add_zeroes(digest: Any, count: int) -> None:
    zeroes = bytes(MIB)
    for _ in range(count // MIB):
        digest.update(zeroes)
    digest.update(zeroes[: count % MIB])


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Disk:
    """An attached volume."""

    initiator: Initiator
    nsid: int
    size_bytes: int

    def write(self, content: Content) -> None:
        size = self.initiator.block_size(self.nsid)
        for start, data in content.pieces.items():
            for offset in range(0, len(data), READ_BYTES):
                part = data[offset : offset + READ_BYTES]
                self.initiator.write(self.nsid, (start + offset) // size, part)
        self.initiator.flush(self.nsid)

    def read(self, offset: int, count: int) -> bytes:
        """Some bytes, from an offset in bytes."""
        size = self.initiator.block_size(self.nsid)
        first, end, step = offset // size, -(-(offset + count) // size), READ_BYTES // size
        data = b"".join(
            self.initiator.read(self.nsid, start, min(step, end - start))
            for start in range(first, end, step)
        )
        return data[offset - first * size :][:count]

    def chunks(self) -> Iterator[bytes]:
        """Every byte, in order."""
        size = self.initiator.block_size(self.nsid)
        blocks = READ_BYTES // size
        for first in range(0, self.size_bytes // size, blocks * DEPTH):
            queue = self.initiator.io[0]
            sent = [
                queue.submit(commands.read(self.nsid, start, blocks, block_size=size))
                for start in range(first, first + blocks * DEPTH, blocks)
            ]
            for command_id in sent:
                yield queue.wait(command_id).check("read").data

    def sha256(self) -> str:
        digest = hashlib.sha256()
        for chunk in self.chunks():
            digest.update(chunk)
        return digest.hexdigest()

    def copy_to(self, path: Path) -> None:
        with path.open("wb") as file:
            for chunk in self.chunks():
                if chunk.count(0) == len(chunk):
                    file.seek(len(chunk), 1)
                else:
                    file.write(chunk)
            file.truncate(self.size_bytes)


class InnerCluster(Cluster):
    """The cluster, whose API answers only inside the cloud's network."""

    def __init__(self, lab: dict[str, Any], network: Network) -> None:
        super().__init__(lab)
        self.network = network

    def _call(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        with self.network.entered():
            return super()._call(method, path, **content)


@dataclass(frozen=True)
class Disks:
    """Attaches volumes to a host of our own, detaches them afterwards."""

    cinder: CinderClient
    cluster: InnerCluster

    @contextmanager
    def attached(self, volume_id: str) -> Iterator[Disk]:
        attachment = self.cinder.attach(volume_id, HOST)
        self.cinder.complete_attachment(attachment)
        try:
            with self._connected(attachment.connection_info["uuid"]) as disk:
                yield disk
        finally:
            self.cinder.detach(attachment)

    @contextmanager
    def watched(self, volume_id: str) -> Iterator[Disk]:
        """Read a volume while instances use it: our host is let in beside theirs, behind Cinder.

        Nobody may attach or detach the volume, or watch it too, when this begins or ends.
        """
        volume = self.cluster.volume_of(volume_id)
        self._let_in(volume, allowed(volume["acl"]) | {HOST["nqn"]}, set(HOST["host_ips"]))
        try:
            with self._connected(volume["UUID"]) as disk:
                yield disk
        finally:
            volume = self.cluster.volume_of(volume_id)
            self._let_in(volume, allowed(volume["acl"]) - {HOST["nqn"]}, set())

    def _let_in(self, volume: dict[str, Any], hosts: set[str], addresses: set[str]) -> None:
        """Write a volume's ACLs: these hosts, and `addresses` beside those of the other hosts."""
        ours = set(HOST["host_ips"])
        wanted = {
            "acl": hosts,
            "IPAcl": (allowed(volume["IPAcl"]) - ours) | addresses,
        }
        path = f"/projects/{PROJECT}/volumes/{volume['UUID']}"
        body = {name: {"values": sorted(new) or ["ALLOW_NONE"]} for name, new in wanted.items()}
        self.cluster.request("PUT", path, body)
        wait_until(
            lambda: self.cluster.get(path)["state"] == "Available", "the volume's ACL to be written"
        )

    @contextmanager
    def _connected(self, uuid: str) -> Iterator[Disk]:
        lab = self.cluster.lab
        (volume,) = (found for found in self.cluster.volumes() if found["UUID"] == uuid)
        (address,) = (
            node["address"] for node in lab["nodes"] if node["uuid"] == volume["primaryNodeUUID"]
        )
        with self.cluster.network.entered():  # the sockets stay inside, we do not
            initiator = Initiator(
                address, lab["nvme_port"], lab["subsystem_nqn"], host_nqn=HOST["nqn"]
            )
        with initiator:
            blocks = initiator.identify_namespace(volume["nsid"]).size_blocks
            size_bytes = blocks * initiator.block_size(volume["nsid"])
            yield Disk(initiator, volume["nsid"], size_bytes)

    def write(self, volume_id: str, content: Content) -> None:
        with self.attached(volume_id) as disk:
            disk.write(content)

    def sha256(self, volume_id: str) -> str:
        with self.attached(volume_id) as disk:
            return disk.sha256()
