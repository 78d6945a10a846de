# SPDX-License-Identifier: Apache-2.0
"""What `make soak` does to a folder is what it then says is wanted, and growth is told."""

from __future__ import annotations

import os
import random

import pytest

from lightos.discovery.entries import parse
from tests.soak.files import Change, Folder, Volume
from tests.soak.processes import Usage, growth, usage

HOST = "nqn.2014-08.org.nvmexpress:uuid:11111111-1111-4111-8111-111111111111"
VOLUMES = [
    Volume(f"uuid-{number}", f"nqn.2016-01.com.lightbitslabs:{number % 3}", ("10.0.0.1", "fd00::1"))
    for number in range(9)
]


def apply(files: dict[str, str], change: Change) -> None:
    files |= change.write
    for old, new in change.move:
        assert new not in files
        files[new] = files.pop(old)
    for name in change.remove:
        del files[name]


def wanted(files: dict[str, str]) -> set[str]:
    return {entry.subsystem_nqn for name in files for entry in parse(files[name], name).entries}


@pytest.mark.parametrize("seed", range(5))
def test_random_changes_and_what_they_make_wanted_agree(seed: int) -> None:
    folder = Folder(VOLUMES, HOST, random.Random(seed))
    files: dict[str, str] = {}
    kinds = set()
    for _ in range(400):
        kind, change = folder.step()
        kinds.add(kind)
        apply(files, change)
        assert wanted(files) == folder.wanted
    assert len(kinds) == 7
    apply(files, folder.tidied())
    assert not any(parse(files[name], name).errors for name in files)
    apply(files, folder.filled())
    assert files.keys() == {volume.file_name for volume in VOLUMES}


def test_growth_is_what_is_beyond_the_slack_of_python() -> None:
    before = {"daemon": Usage(40_000, 12, 2), "lab": Usage(60_000, 30, 9)}
    same = {"daemon": Usage(47_000, 12, 3), "lab": Usage(59_000, 20, 9)}
    assert growth(before, same) == []
    more = {"daemon": Usage(49_000, 12, 2), "lab": Usage(60_000, 31, 9)}
    assert growth(before, more) == [
        "daemon: memory grew from 40000 to 49000 KiB",
        "lab: 30 descriptors became 31",
    ]


def test_what_a_process_uses_is_read_from_proc() -> None:
    now = Usage(*usage(os.getpid()))
    assert min(now.memory_kib, now.descriptors, now.threads) > 0
