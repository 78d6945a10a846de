# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightos.discovery.entries import (
    DiscoveryEntry,
    InvalidEntry,
    format_file,
    format_line,
    parse,
    parse_line,
    validated_address,
    validated_nqn,
)

HOST = "nqn.2014-08.org.nvmexpress:uuid:11111111-1111-4111-8111-111111111111"
SUBSYSTEM = "nqn.2016-01.com.lightbitslabs:uuid:5c0b9f9e-3f3e-4ad1-b8d0-4d1c1b1f9a01"
ENTRY = DiscoveryEntry("192.168.75.11", 8009, HOST, SUBSYSTEM)

nqns = st.builds(
    "nqn.{:04}-{:02}.{}:{}".format,
    st.integers(0, 9999),
    st.integers(1, 12),
    st.from_regex(r"[a-z0-9][a-z0-9.-]{0,20}", fullmatch=True),
    st.text(min_size=1, max_size=40).filter(
        lambda t: t.isprintable() and not set(t) & set(" ,=#") and t.split() == [t]
    ),
)
addresses = st.one_of(
    st.ip_addresses()
    .filter(lambda address: not address.is_unspecified and not address.is_multicast)
    .map(str),
    st.just("storage-1.example.com"),
)
entries = st.builds(
    DiscoveryEntry,
    addresses,
    st.integers(1, 65535),
    nqns,
    nqns,
    st.none() | st.uuids(),
    st.none() | st.integers(-1, 999999999),
)


@given(st.lists(entries, max_size=5), st.sampled_from(["", "a volume", "# twice"]))
def test_what_is_formatted_is_read_back(written: list[DiscoveryEntry], comment: str) -> None:
    read = parse(format_file(written, comment), "x.conf")
    assert read.errors == ()
    assert read.entries == tuple(dict.fromkeys(written))


@given(st.text())
def test_any_text_is_parsed_into_entries_and_errors_with_line_numbers(text: str) -> None:
    read = parse(text, "x.conf")
    lines = text.split("\n")
    for error in read.errors:
        assert lines[error.line_number - 1].strip()
    assert all(parse_line(format_line(entry)) == entry for entry in read.entries)


@given(
    st.lists(
        st.sampled_from(
            [
                "-t",
                "tcp",
                "-a",
                "10.0.0.1",
                "-s",
                "8009",
                "-q",
                HOST,
                "-n",
                SUBSYSTEM,
                "-p",
                "-I",
                "-l",
                "-1",
                "=",
                "#",
                "x",
            ]
        )
    )
)
def test_any_order_of_words_gives_an_entry_or_a_reason(words: list[str]) -> None:
    read = parse(" ".join(words), "x.conf")
    assert len(read.entries) + len(read.errors) <= 1


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        (f"-t tcp -a 192.168.75.11 -s 8009 -q {HOST} -n {SUBSYSTEM}", ENTRY),
        (f"  -p -a 192.168.75.11\t-t tcp -q {HOST}  -s 8009 -n {SUBSYSTEM}  ", ENTRY),
        (f"--transport=tcp --traddr=192.168.75.11 --trsvcid=8009 --hostnqn={HOST} "
         f"--nqn={SUBSYSTEM} --persistent", ENTRY),
        (f"-a 192.168.75.11 -s 8009 -q {HOST} --subsysnqn {SUBSYSTEM} # the first node\r", ENTRY),
        (f"-a [fd00::0:1] -s 4420 -q {HOST} -n {SUBSYSTEM}",
         DiscoveryEntry("fd00::1", 4420, HOST, SUBSYSTEM)),
        (f"-a fe80::1%eth0 -s 4420 -q {HOST} -n {SUBSYSTEM}",
         DiscoveryEntry("fe80::1%eth0", 4420, HOST, SUBSYSTEM)),
        (f"-a Node1.Example -s 4420 -q {HOST} -n {SUBSYSTEM} -l -1 -I {UUID(int=7)}",
         DiscoveryEntry("node1.example", 4420, HOST, SUBSYSTEM, UUID(int=7), -1)),
        ("", None),
        ("   # only a comment", None),
        ("\r", None),
    ],
)  # fmt: skip
def test_lines_that_are_accepted(line: str, entry: DiscoveryEntry | None) -> None:
    assert parse_line(line) == entry


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (f"-t rdma -a 10.0.0.1 -s 8009 -q {HOST} -n {SUBSYSTEM}", "'rdma' is not tcp"),
        (f"-a 10.0.0.1 -s 8009 -q {HOST}", "missing -n SUBSYSNQN"),
        (f"-s 8009 -q {HOST} -n {SUBSYSTEM}", "missing -a ADDRESS"),
        ("-p", "missing -a"),
        (f"-a 10.0.0.256 -s 8009 -q {HOST} -n {SUBSYSTEM}", "10.0.0.256"),
        (f"-a 10.0.0.1:8009 -s 8009 -q {HOST} -n {SUBSYSTEM}", "is not an IP address"),
        (f"-a 10.0.0.1 -s 0 -q {HOST} -n {SUBSYSTEM}", "port 0"),
        (f"-a 10.0.0.1 -s 65536 -q {HOST} -n {SUBSYSTEM}", "port 65536"),
        (f"-a 10.0.0.1 -s http -q {HOST} -n {SUBSYSTEM}", "port 'http' is not a number"),
        (f"-a 10.0.0.1 -s 8009 -q None -n {SUBSYSTEM}", "host NQN 'None'"),
        (f"-a 10.0.0.1 -s 8009 -q {HOST} -n x", "subsystem NQN 'x'"),
        (f"-a 10.0.0.1 -a 10.0.0.2 -s 8009 -q {HOST} -n {SUBSYSTEM}", "-a is given twice"),
        (f"-a 10.0.0.1 -s 8009 -q {HOST} -n", "-n has no value"),
        (f"-a 10.0.0.1 -s 8009 -q {HOST} -n {SUBSYSTEM} --frob", "unknown option '--frob'"),
        (f"-a 10.0.0.1 -s 8009 -q {HOST} -n {SUBSYSTEM} -I me", "host id 'me' is not a UUID"),
        (f"-a 10.0.0.1 -s 8009 -q {HOST} -n {SUBSYSTEM} -l -2", "below -1"),
    ],
)
def test_bad_lines_say_what_is_wrong_and_skip_only_themselves(line: str, reason: str) -> None:
    read = parse(f"{format_line(ENTRY)}\n{line}\n", "bad.conf")
    assert read.entries == (ENTRY,)
    (error,) = read.errors
    assert str(error).startswith("bad.conf:2: ")
    assert reason in str(error)


@pytest.mark.parametrize(
    "nqn",
    [
        "nqn.2014-08.org.nvmexpress.discovery",
        HOST,
        "nqn.2014-08.com.example:nvme:" + "x" * (223 - len("nqn.2014-08.com.example:nvme:")),
    ],
)
def test_nqns_that_are_valid(nqn: str) -> None:
    assert validated_nqn(nqn) == nqn


@pytest.mark.parametrize(
    "nqn",
    [
        "",
        None,
        7,
        "nqn.2014-13.org.nvmexpress:x",
        "iqn.2014-08.org.nvmexpress:x",
        "nqn.2014-08.org:a,traddr=6.6.6.6",
        "nqn.2014-08.org:a b",
        "nqn.2014-08.org:a\nb",
        "nqn.2014-08.org:a#b",
        "nqn.2014-08.org:\udcff",
        "nqn.2014-08.com.example:" + "é" * 100,
    ],
)
def test_nqns_that_are_not(nqn: object) -> None:
    with pytest.raises(InvalidEntry):
        validated_nqn(nqn)


@pytest.mark.parametrize(
    "address",
    ["", "-", "::", "224.0.0.1", "[::1", "a b", "1.2.3", "fe80::1%a,b", "x" * 254, "a..b", 5],
)
def test_addresses_that_are_none(address: object) -> None:
    with pytest.raises(InvalidEntry):
        validated_address(address)


def test_of_a_long_bad_word_the_reason_quotes_the_begin() -> None:
    read = parse(f"-a 10.0.0.1 -s {'8' * 100_000} -q {HOST} -n {SUBSYSTEM}", "bad.conf")
    assert len(str(read.errors[0])) < 400
