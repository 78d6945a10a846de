# SPDX-License-Identifier: Apache-2.0
"""A small part of `make fuzz`, and what it rests on.

Needs root, for a network namespace of its own, and the `lab` and `test` extras.
"""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from lightos.nvme_tcp.commands import Completion
from lightos.nvme_tcp.constants import PduType, Status
from tests.fuzz import target, workers
from tests.fuzz.codec import exchanges
from tests.fuzz.exchanges import SETTINGS, pdus
from tests.fuzz.finding import Input, minimised
from tests.fuzz.run import run

PDUS, LINES = 8000, 4000
SEED = 11
"""One seed, so that a change is judged by what the change before it passed; `make fuzz` draws
another every time."""


def test_malformed_input_does_no_harm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = run(SEED, PDUS, LINES, tmp_path, lambda _text: None)
    with capsys.disabled():
        print(f"\nfuzz: {sum(row.count for row in rows)} inputs, seed {SEED}")
    assert all(row.outcomes.total() >= row.count for row in rows if row.outcomes)


@pytest.mark.parametrize("maker", workers.MAKERS)
def test_an_input_is_made_again_from_seed_and_number(maker: str) -> None:
    make = workers.MAKERS[maker]
    assert make(SEED, 77) == make(SEED, 77)
    assert len({make(SEED, number) for number in range(100)}) > 90


@pytest.mark.parametrize("variant", range(len(exchanges())))
def test_what_is_broken_keeps_the_rules_before(variant: int) -> None:
    exchange = exchanges()[variant]
    for kind, stream in (("controller", exchange.to_controller), ("host", exchange.to_host)):
        assert workers.outcome(Input(kind, variant, stream)) == "ended"


@pytest.mark.parametrize("kind", target.HEAD)
def test_the_target_takes_what_is_broken_later(kind: str, tmp_path: Path) -> None:
    """Else all that is fuzzed is how it refuses the first command."""
    with target.bed(tmp_path) as on:
        for variant in range(len(SETTINGS)):
            good = b"".join(target.exchange(kind, variant).to_controller)
            stream = target.aimed(good, on.place, on.controller_id)
            port = target.port(kind, on.place)
            with socket.create_connection((on.place.address, port)) as connection:
                answer = pdus(target.conversed(connection, [stream]))
            responses = [pdu for pdu in answer if pdu[0] == PduType.CAPSULE_RESP]
            failed = {Completion.decode(pdu[8:24]).status for pdu in responses}
            assert len(responses) > 5
            assert failed <= {Status.SUCCESS, Status.ABORT_REQUESTED}


def test_a_finding_is_made_small() -> None:
    given = Input("line", 0, (b"a good deal of text", b", the harm, and more of it"))
    small = minimised(given, lambda tried: b"harm" in b"".join(tried.pieces))
    assert small.pieces == (b"harm",)


def test_a_finding_is_read_back_as_it_was_kept(tmp_path: Path) -> None:
    given = Input("target_io", 5, (b"\x04\x00", b"\xff"))
    path = tmp_path / given.name
    path.write_text(f"# why\n{given.text()}")
    assert Input.load(path) == given
