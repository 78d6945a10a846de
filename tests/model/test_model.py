# SPDX-License-Identifier: Apache-2.0
"""500 random steps of the model test; `make model STEPS=10000` takes more of them.

Needs the `lab`, `openstack` and `test` extras; no root, nothing but loopback.
"""

from pathlib import Path

import pytest

from tests.model.run import run

STEPS = 500
SEED = 11
"""One seed, so that a change is judged by what the change before it passed; the nightly
`make model` draws another every time."""


def test_random_operations_faults_and_crashes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        print(f"\nmodel test: seed {SEED} (repeat it with `make model STEPS={STEPS} SEED={SEED}`)")
    bench = run(STEPS, SEED, tmp_path)
    assert sum(bench.steps.values()) >= STEPS
    assert bench.hits
    with capsys.disabled():
        print(f"{sum(bench.steps.values())} steps, {sum(bench.hits.values())} faults met")
