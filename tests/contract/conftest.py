# SPDX-License-Identifier: Apache-2.0
"""Needs nothing but loopback: the lab runs unprivileged, on ports and addresses of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.lab import Api, Lab


@pytest.fixture(scope="package")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    running = Lab(tmp_path_factory.mktemp("lab"))
    running.start()
    yield running
    running.stop()


@pytest.fixture
def api(lab: Lab) -> Iterator[Api]:
    """The API as the cluster's administrator; what a test leaves behind is deleted."""
    client = Api(lab)
    yield client
    client.delete_everything()


@pytest.fixture
def own_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab that the test may kill and restart; transitions take long enough to be seen."""
    running = Lab(tmp_path_factory.mktemp("own"), transition_ms=1500)
    running.start()
    yield running
    running.stop()
