# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from lightos.discovery import watch
from lightos.discovery.entries import DiscoveryEntry, format_file
from lightos.discovery.watch import DiscoveryFolder, FolderLost

HOST = "nqn.2014-08.org.nvmexpress:uuid:11111111-1111-4111-8111-111111111111"
ONE = DiscoveryEntry("10.0.0.1", 8009, HOST, "nqn.2016-01.com.lightbitslabs:a")
TWO = DiscoveryEntry("10.0.0.2", 8009, HOST, "nqn.2016-01.com.lightbitslabs:a")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "discovery.d"
    path.mkdir()
    (path / "first.conf").write_text(format_file([ONE]))
    return path


@pytest.fixture
def folder(path: Path) -> Iterator[DiscoveryFolder]:
    with DiscoveryFolder(path) as folder:
        yield folder


def announced(folder: DiscoveryFolder) -> bool:
    return bool(select.select([folder.fileno()], [], [], 0)[0])


def test_files_that_were_there_count(folder: DiscoveryFolder) -> None:
    assert folder.entries == {"first.conf": (ONE,)}
    assert not announced(folder)


def test_every_way_in_which_a_folder_changes_is_seen(
    folder: DiscoveryFolder, path: Path, tmp_path: Path
) -> None:
    (path / "new").write_text(format_file([TWO]))
    assert announced(folder)
    assert folder.refresh()
    assert folder.entries["new"] == (TWO,)

    with (path / "new").open("a") as file:
        file.write(format_file([ONE]))
        file.flush()
        assert folder.refresh()
    assert folder.entries["new"] == (TWO, ONE)

    (tmp_path / "outside").write_text(format_file([TWO]))
    os.rename(tmp_path / "outside", path / "first.conf")
    assert folder.refresh()
    assert folder.entries["first.conf"] == (TWO,)

    os.rename(path / "first.conf", path / "renamed.conf")
    assert folder.refresh()
    assert set(folder.entries) == {"new", "renamed.conf"}

    os.rename(path / "renamed.conf", tmp_path / "outside")
    (path / "new").unlink()
    assert folder.refresh()
    assert folder.entries == {}

    os.link(tmp_path / "outside", path / "linked")
    assert folder.refresh()
    assert folder.entries == {"linked": (TWO,)}


def test_rewriting_the_same_content_is_no_change(folder: DiscoveryFolder, path: Path) -> None:
    (path / "first.conf").touch()
    assert announced(folder)
    assert not folder.refresh()


@pytest.mark.parametrize("name", ["tmp.dc.x.conf", ".x.conf.swp", "x.conf~"])
def test_names_that_are_not_ours_do_not_count(
    folder: DiscoveryFolder, path: Path, name: str
) -> None:
    (path / name).write_text(format_file([TWO]))
    assert not folder.refresh()
    assert folder.entries == {"first.conf": (ONE,)}


def test_a_file_that_turns_bad_gives_nothing_up_until_it_is_mended(
    folder: DiscoveryFolder, path: Path
) -> None:
    (path / "first.conf").write_text(format_file([TWO]) + "-a typo\n")
    folder.refresh()
    assert folder.entries["first.conf"] == (TWO, ONE)
    (error,) = folder.errors
    assert str(error).startswith("first.conf:2: ")
    (path / "first.conf").write_text(format_file([TWO]))
    folder.refresh()
    assert folder.entries["first.conf"] == (TWO,)
    assert folder.errors == ()


def test_a_file_that_stays_bad_does_not_fill_our_memory(
    folder: DiscoveryFolder, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_KEPT_ENTRIES", 3)
    for port in range(1, 10):
        entry = dataclasses.replace(TWO, port=port)
        (path / "first.conf").write_text(format_file([entry]) + "-a typo\n")
        folder.refresh()
    assert [entry.port for entry in folder.entries["first.conf"]] == [9, 8, 7]


def test_what_is_no_regular_file_is_named_and_does_not_block(
    folder: DiscoveryFolder, path: Path
) -> None:
    os.mkfifo(path / "pipe")
    (path / "folder").mkdir()
    (path / "bytes").write_bytes(b"-a \xff\xfe\n")
    (path / "huge").write_bytes(b"#" * (1 << 21))
    folder.refresh()
    assert {error.source for error in folder.errors} == {"pipe", "bytes", "huge"}
    assert folder.entries["first.conf"] == (ONE,)


def test_a_folder_that_is_removed_keeps_what_it_said(folder: DiscoveryFolder, path: Path) -> None:
    os.rename(path, path.with_name("elsewhere"))
    with pytest.raises(FolderLost):
        folder.refresh()
    assert folder.entries == {"first.conf": (ONE,)}


def test_a_folder_that_is_not_there_cannot_be_watched(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        DiscoveryFolder(tmp_path / "no")
