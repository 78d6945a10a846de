# SPDX-License-Identifier: Apache-2.0
"""`make cloud` while a cloud runs says what there is."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from testbed.cloud.__main__ import tell
from testbed.cloud.deployment import IDENTITY, Deployment
from testbed.cloud.nova import COMPUTE
from testbed.network import Network


@pytest.mark.parametrize(
    ("endpoints", "asked_for_nova", "status", "said"),
    [
        ((IDENTITY,), False, 0, "volume create"),
        ((IDENTITY, COMPUTE), True, 0, "server create"),
        ((IDENTITY, COMPUTE), False, 0, "server create"),
        ((IDENTITY,), True, 1, "has no Nova: make cloud-down first"),
    ],
)
def test_a_cloud_that_runs_is_told_as_it_is(  # noqa: PLR0917 - parameters and fixtures
    endpoints: tuple, asked_for_nova: bool, status: int, said: str, tmp_path: Path, capsys
) -> None:
    ports = {endpoint.name: endpoint.port for endpoint in endpoints}
    deployment = Deployment(Network("lightos-none"), tmp_path, ports)
    assert tell(Console(), deployment, with_nova=asked_for_nova) == status
    assert said in capsys.readouterr().out
