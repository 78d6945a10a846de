# SPDX-License-Identifier: Apache-2.0
"""Which lock managers the doctor connects to before tooz does, with all its patience."""

import pytest

from lightos.doctor.gather.cinder import reach_lock_manager
from testbed.cluster import free_port


@pytest.mark.parametrize("scheme", ["redis", "etcd3+http", "etcd3+https"])
def test_one_that_is_not_there_is_an_error(scheme: str) -> None:
    with pytest.raises(ConnectionRefusedError):
        reach_lock_manager(f"{scheme}://:secret@127.0.0.1:{free_port()}")


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:1?sentinel=locks&sentinel_fallback=127.0.0.1:2",
        "zookeeper://127.0.0.1:1,127.0.0.1:2",
        "file:///var/lib/cinder/locks",
    ],
)
def test_what_has_more_than_one_address_is_left_to_tooz(url: str) -> None:
    reach_lock_manager(url)
