# SPDX-License-Identifier: Apache-2.0
"""Stores in temporary directories; `small_disk` and `disk_image` mount, which takes root."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lightos.lab.store import ThinStore


@contextmanager
def sound_store(folder: Path) -> Iterator[ThinStore]:
    """A store that must be without contradictions when it is closed."""
    store = ThinStore(folder)
    yield store
    problems = store.verify()
    store.close()
    assert problems == []


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ThinStore]:
    with sound_store(tmp_path / "store") as store:
        yield store


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MiB that can really be full, and whose syncs are quick."""
    mount_point = tmp_path / "disk"
    mount_point.mkdir()
    _run("mount", "-t", "tmpfs", "-o", "size=32m", "store-test", str(mount_point))
    yield mount_point
    _run("umount", "--lazy", str(mount_point))


@pytest.fixture
def disk_image(tmp_path: Path) -> Iterator[Callable[[Path | None], Path]]:
    """Mounts an ext4 disk of 64 MiB: a new one, or what a power cut would leave of a mounted one.

    The image file has what the file system sent to its disk, and nothing of the page cache.
    """
    mounted: list[Path] = []

    def mount(survivor_of: Path | None = None) -> Path:
        image = tmp_path / f"image{len(mounted)}"
        mount_point = tmp_path / f"mount{len(mounted)}"
        mount_point.mkdir()
        if survivor_of is None:
            with image.open("wb") as file:
                file.truncate(64 << 20)
            _run("mkfs.ext4", "-q", str(image))
        else:
            source = tmp_path / survivor_of.name.replace("mount", "image")
            shutil.copyfile(source, image)
        _run("mount", "-o", "loop", str(image), str(mount_point))
        mounted.append(mount_point)
        return mount_point

    yield mount
    for mount_point in mounted:
        _run("umount", "--lazy", str(mount_point))


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
