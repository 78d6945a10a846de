# SPDX-License-Identifier: Apache-2.0
"""Which implementation OpenStack gets under its in-tree names, and from where."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from lightos.doctor.findings import Finding, Findings

CHECK = "name"


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
    `theirs` are the files of the two implementations, empty where there is none.
    """

    name: str
    package: str
    replacement: str
    ours: str
    theirs: str


def findings(
    names: list[NameFacts], overlay: Overlay, interpreter: str, switch: str
) -> list[Finding]:
    """One finding for each name."""
    found = Findings()
    for facts in names:
        top = facts.name.partition(".")[0]
        if not facts.package:
            found.ok(CHECK, facts.name, f"{top} is not installed for {interpreter}")
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
            theirs = f"{top}'s own, {facts.theirs}" if facts.theirs else "nothing"
            said = f"{theirs} ({facts.package})"
            if overlay is Overlay.SWITCHED_OFF:
                fix = f"unset {switch}, which is 0 in this environment, to get lightos-openstack's"
                found.warning(CHECK, facts.name, said, fix)
            else:
                fix = f"lightos_overlay.pth was not read: install with pip for {interpreter}"
                found.critical(CHECK, facts.name, said, fix)
    return found.all
