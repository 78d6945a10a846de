# SPDX-License-Identifier: Apache-2.0
"""Every known defect of the drivers of Cinder and Nova and os-brick's connector: they show it, ours
do not.

The scenarios are those of `make defects`, run once for all the tests. Needs the `lab`,
`openstack` and `test` extras, nvme-cli, iproute2, and `unshare` (util-linux) for scenarios that
take a machine of their own.
"""

import json

import pytest

from bench.defects.catalogue import DEFECTS
from bench.defects.defect import Defect
from bench.defects.report import RESULTS, Row, run

GONE = {"9b"}
"""Reported of earlier releases, and not seen in cinder 29.0.0 any more."""


@pytest.fixture(scope="session")
def rows() -> dict[str, Row]:
    return {row.defect.number: row for row in run(DEFECTS)}


def test_every_number_is_covered() -> None:
    assert {each.order[0] for each in DEFECTS} == set(range(1, 28))
    assert len({each.number for each in DEFECTS}) == len(DEFECTS)


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: f"{defect.number}")
def test_the_incumbent_shows_it_and_ours_does_not(defect: Defect, rows: dict[str, Row]) -> None:
    row = rows[defect.number]
    assert not row.incumbent.failed
    assert not row.ours.failed
    assert not row.ours.defect, row.ours.seen
    assert row.incumbent.defect == (defect.number not in GONE), row.incumbent.seen


def test_the_documentation_shows_what_was_seen_now(rows: dict[str, Row]) -> None:
    shown = json.loads(RESULTS.read_text())["defects"]
    for row in shown:
        del row["incumbent"]["seen"], row["ours"]["seen"]  # figures and addresses differ
    assert shown == [
        {
            "number": each.number,
            "what": each.what,
            "incumbent": {"defect": rows[each.number].incumbent.defect},
            "ours": {"defect": rows[each.number].ours.defect},
        }
        for each in DEFECTS
    ]
