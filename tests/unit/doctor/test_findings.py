# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from lightos.doctor.checks import names
from lightos.doctor.checks.names import NameFacts, Overlay
from lightos.doctor.findings import Finding, Severity, summary, worst, worst_first

OK, WARNING, CRITICAL = (Finding(each, "check", "subject", "said") for each in Severity)
NAME = "cinder.volume.drivers.lightos"
FACTS = NameFacts(NAME, "cinder 29.0.0", "lightos.driver", "/ours.py", "/theirs.py")


def test_the_worst_finding_is_the_status_and_comes_first() -> None:
    found = [OK, WARNING, CRITICAL, OK]
    assert worst(found) is Severity.CRITICAL
    assert worst([]) is Severity.OK
    assert summary(found) == "LIGHTOS CRITICAL - 1 critical, 1 warning, 2 ok"
    assert worst_first(found) == [CRITICAL, WARNING, OK, OK]


@pytest.mark.parametrize(
    ("facts", "overlay", "severity", "words"),
    [
        (FACTS, Overlay.ON, Severity.OK, "lightos-openstack's, /ours.py (cinder 29.0.0)"),
        (FACTS, Overlay.SWITCHED_OFF, Severity.WARNING, "cinder's own, /theirs.py"),
        (FACTS, Overlay.NOT_READ, Severity.CRITICAL, "cinder's own, /theirs.py"),
        (
            NameFacts(NAME, "cinder 29.0.0", "lightos.driver", "", "/theirs.py"),
            Overlay.ON,
            Severity.CRITICAL,
            "it gives lightos.driver, which is missing",
        ),
        (
            NameFacts(
                NAME, "cinder 28.0.0", "lightos.driver", "/ours.py", "/theirs.py", "cinder 29"
            ),
            Overlay.ON,
            Severity.CRITICAL,
            "cinder's own, /theirs.py (cinder 28.0.0); lightos-openstack's needs cinder 29",
        ),
        (
            NameFacts(NAME, "", "lightos.driver", "/ours.py", "", "cinder 29"),
            Overlay.NOT_READ,
            Severity.OK,
            "cinder is not installed",
        ),
    ],
)
def test_what_a_name_gives(
    facts: NameFacts, overlay: Overlay, severity: Severity, words: str
) -> None:
    (found,) = names.findings([facts], overlay, "/bin/python", "LIGHTOS_OVERLAY")
    assert found.severity is severity
    assert words in found.said
    assert bool(found.fix) == (severity is not Severity.OK)
