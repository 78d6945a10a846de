# SPDX-License-Identifier: Apache-2.0
"""The real os-brick; what the kernel shows is a tree of files, as plain data."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.sysfs_tree import SysfsTree


@pytest.fixture
def kernel(tmp_path: Path) -> SysfsTree:
    return SysfsTree(tmp_path)
