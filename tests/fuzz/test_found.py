# SPDX-License-Identifier: Apache-2.0
"""Every input that once did harm does none any more; they are in `found`."""

from __future__ import annotations

import pytest

from tests.fuzz.finding import FOUND, Input
from tests.fuzz.run import replayed


@pytest.mark.parametrize("name", sorted(path.name for path in FOUND.glob("*.hex")))
def test_it_does_no_harm_any_more(name: str) -> None:
    assert replayed(Input.load(FOUND / name))
