# SPDX-License-Identifier: Apache-2.0
from hypothesis import given
from hypothesis import strategies as st

from lightos.nvme_tcp.receive_buffer import ReceiveBuffer

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.binary(max_size=20)),
        st.tuples(st.sampled_from(["take", "skip", "peek"]), st.integers(0, 40)),
    ),
    max_size=40,
)


@given(STEPS)
def test_it_is_a_queue_of_bytes_however_they_came(steps: list) -> None:
    buffer, expected = ReceiveBuffer(), b""
    for action, value in steps:
        if action == "append":
            buffer.append(memoryview(value))
            expected += value
        elif action == "peek":
            assert buffer.peek(value) == expected[:value]
        else:
            size = min(value, len(expected))
            if action == "take":
                assert buffer.take(size) == expected[:size]
            else:
                buffer.skip(size)
            expected = expected[size:]
        assert len(buffer) == len(expected)
    buffer.clear()
    assert (len(buffer), buffer.peek(4)) == (0, b"")


def test_a_header_is_as_long_as_it_claims() -> None:
    buffer = ReceiveBuffer()
    buffer.append(b"\x04\x00")
    assert buffer.peek_header() == b"\x04\x00"
    buffer.append(b"\x0c" + bytes(20))
    assert buffer.peek_header() == b"\x04\x00\x0c" + bytes(9)
