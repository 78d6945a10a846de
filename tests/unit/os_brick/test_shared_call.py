# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

from lightos.openstack.os_brick.shared_call import SharedCall
from testbed.polling import wait_until

AT_ONCE = 50


def test_each_call_alone_is_a_call() -> None:
    numbers = itertools.count()
    shared = SharedCall(lambda: next(numbers))
    assert [shared.result() for _ in range(3)] == [0, 1, 2]


def test_those_that_ask_during_a_call_share_the_next_one() -> None:
    numbers = itertools.count()
    go_on = threading.Event()

    def look() -> int:
        number = next(numbers)
        if number == 0:
            go_on.wait()
        return number

    shared = SharedCall(look)
    with ThreadPoolExecutor(1 + AT_ONCE) as pool:
        first = pool.submit(shared.result)
        wait_until(lambda: shared._begun, "the first call")
        entered = threading.Barrier(AT_ONCE + 1)

        def ask() -> int:
            entered.wait()
            return shared.result()

        others = [pool.submit(ask) for _ in range(AT_ONCE)]
        entered.wait()
        threading.Timer(0.2, go_on.set).start()
        assert first.result() == 0
        results = {each.result() for each in others}
    assert min(results) >= 1
    assert max(results) < AT_ONCE
