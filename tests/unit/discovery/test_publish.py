# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import multiprocessing
import os
import stat
from pathlib import Path
from uuid import UUID

import pytest

from lightos.discovery import publish
from lightos.discovery.publish import Outcome

VOLUME = UUID("9f3f36d2-7c1c-4b0e-9f5a-6f1a0c6c5a01")
NAME = f"{VOLUME}.conf"


def put(folder: str, volume: UUID, content: str) -> Outcome:
    return publish.update(folder, volume, lambda _: content)


def drop(folder: str, volume: UUID) -> Outcome:
    return publish.update(folder, volume, lambda _: None)


def test_file_is_created_refreshed_and_left_alone(tmp_path: Path) -> None:
    folder = str(tmp_path)
    assert put(folder, VOLUME, "one\n") is Outcome.CREATED
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o644
    inode = (tmp_path / NAME).stat().st_ino
    assert put(folder, VOLUME, "one\n") is Outcome.UNCHANGED
    assert (tmp_path / NAME).stat().st_ino == inode
    assert put(folder, VOLUME, "two\n") is Outcome.REFRESHED
    assert publish.read(folder, VOLUME) == "two\n"
    assert os.listdir(tmp_path) == [NAME]


def test_removal_says_whether_there_was_a_file(tmp_path: Path) -> None:
    put(str(tmp_path), VOLUME, "x")
    assert drop(str(tmp_path), VOLUME) is Outcome.REMOVED
    assert drop(str(tmp_path), VOLUME) is Outcome.UNCHANGED
    assert os.listdir(tmp_path) == []
    assert publish.read(str(tmp_path), VOLUME) is None


def test_volumes_are_those_with_a_file_of_their_own(tmp_path: Path) -> None:
    put(str(tmp_path), VOLUME, "x")
    for name in ("cluster1.conf", str(VOLUME), f"tmp.dc.{NAME}", f"{str(VOLUME).upper()}.conf"):
        (tmp_path / name).touch()
    assert publish.volumes(str(tmp_path)) == [VOLUME]


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        put(str(tmp_path / "no"), VOLUME, "x")


def test_leftover_of_a_writer_that_died_is_reused(tmp_path: Path) -> None:
    (tmp_path / f"tmp.dc.{NAME}").write_text("half of a much longer line than what comes next")
    put(str(tmp_path), VOLUME, "x\n")
    assert os.listdir(tmp_path) == [NAME]
    assert (tmp_path / NAME).read_text() == "x\n"


@pytest.mark.parametrize("failing", ["write", "fsync", "rename"])
def test_a_failure_leaves_the_earlier_file_whole_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    put(str(tmp_path), VOLUME, "before\n")

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, fail)
        with pytest.raises(OSError, match="No space left"):
            put(str(tmp_path), VOLUME, "after\n")
    assert os.listdir(tmp_path) == [NAME]
    assert (tmp_path / NAME).read_text() == "before\n"


def test_a_symbolic_link_in_place_of_the_temporary_file_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / f"tmp.dc.{NAME}").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        put(str(tmp_path), VOLUME, "x")
    assert victim.read_text() == "precious"


def test_names_are_made_from_uuids_only(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        put(str(tmp_path), "../../etc/passwd", "x")  # type: ignore[arg-type]


def _publish_often(folder: str, letter: str) -> None:
    for length in range(200, 2200, 20):
        put(folder, VOLUME, letter * length + "\n")


def test_processes_that_write_one_volume_at_once_never_mix(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_publish_often, args=(str(tmp_path), c)) for c in "abc"]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        seen.add(publish.read(str(tmp_path), VOLUME))
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert os.listdir(tmp_path) == [NAME]
    for content in seen - {None}:
        assert content is not None
        assert len(set(content)) == 2
        assert len(content) > 200
