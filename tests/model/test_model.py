# SPDX-License-Identifier: Apache-2.0
"""500 random steps of the model test; `make model STEPS=10000` takes more of them.

Needs the `lab`, `openstack` and `test` extras; no root, nothing but loopback.
"""

import random
from pathlib import Path

import pytest

from tests.model.run import run

STEPS = 500


def test_random_operations_faults_and_crashes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = random.randrange(2**32)
    with capsys.disabled():
        print(f"\nmodel test: seed {seed} (repeat it with `make model STEPS={STEPS} SEED={seed}`)")
    bench = run(STEPS, seed, tmp_path)
    assert sum(bench.steps.values()) >= STEPS
    assert bench.hits
    with capsys.disabled():
        print(f"{sum(bench.steps.values())} steps, {sum(bench.hits.values())} faults met")
