# SPDX-License-Identifier: Apache-2.0
"""Which implementation OpenStack gets under its in-tree names, and from where."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from lightos.doctor.findings import Finding, Findings, Severity

CHECK = "name"
_FIX_FOR_OLD = (
    "upgrade {top}, or uninstall lightos-openstack from this environment and stay with {top}'s own"
)


class Overlay(enum.Enum):
    """Whether in-tree names give ours to processes of this environment."""

    ON = "on"
    SWITCHED_OFF = "switched off"
    NOT_READ = "not read"
    """Python did not read `lightos_overlay.pth` at its start."""


@dataclass(frozen=True)
class NameFacts:
    """An in-tree name of OpenStack's.

    `package` is the OpenStack package and its version, empty when it is not installed; `ours` and
    `theirs` are the files of the two implementations, empty where there is none. `needed` is the
    version that ours needs where this one is older.
    """

    name: str
    package: str
    replacement: str
    ours: str
    theirs: str
    needed: str = ""


def findings(
    names: list[NameFacts], overlay: Overlay, interpreter: str, switch: str
) -> list[Finding]:
    """One finding for each name."""
    found = Findings()
    for facts in names:
        top = facts.name.partition(".")[0]
        theirs = f"{top}'s own, {facts.theirs}" if facts.theirs else "nothing"
        if not facts.package:
            found.ok(CHECK, facts.name, f"{top} is not installed for {interpreter}")
        elif facts.needed:
            said = f"{theirs} ({facts.package}); lightos-openstack's needs {facts.needed}"
            found.critical(CHECK, facts.name, said, _FIX_FOR_OLD.format(top=top))
        elif overlay is Overlay.ON and facts.ours:
            found.ok(CHECK, facts.name, f"lightos-openstack's, {facts.ours} ({facts.package})")
        elif overlay is Overlay.ON:
            found.critical(
                CHECK,
                facts.name,
                f"it gives {facts.replacement}, which is missing ({facts.package})",
                f"install lightos-openstack again for {interpreter}",
            )
        else:
            said = f"{theirs} ({facts.package})"
            if overlay is Overlay.SWITCHED_OFF:
                fix = f"unset {switch}, which is 0 in this environment, to get lightos-openstack's"
                found.warning(CHECK, facts.name, said, fix)
            else:
                fix = f"lightos_overlay.pth was not read: install with pip for {interpreter}"
                found.critical(CHECK, facts.name, said, fix)
    return found.all


def not_looked_at(files: str, needed: str) -> Finding:
    """In the place of what there is to say of a configuration whose Cinder is too old."""
    return Finding(
        Severity.CRITICAL,
        "cinder-conf",
        files,
        f"it was not looked at: the driver that it is checked for needs {needed}",
        _FIX_FOR_OLD.format(top="cinder"),
    )
