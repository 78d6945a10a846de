# SPDX-License-Identifier: Apache-2.0
"""`lightos doctor`: which implementation OpenStack gets in this environment, and from where."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder

import click

from lightos.openstack import overlay

DISTRIBUTIONS = {"cinder": "cinder", "os_brick": "os-brick", "nova": "nova"}
"""Top-level package -> distribution that ships it."""


@dataclass(frozen=True)
class Finding:
    """What one in-tree name resolves to."""

    name: str
    package: str
    """The OpenStack package and its version, or that it is not installed."""
    active: str
    origin: str
    ours: bool


def examine(name: str) -> Finding:
    """Resolve an in-tree name as `import` would, without importing anything.

    Nova and Cinder cannot be imported into one process: their options clash.
    """
    top = name.partition(".")[0]
    try:
        package = f"{top} {importlib.metadata.version(DISTRIBUTIONS[top])}"
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, f"{top} is not installed", "nothing", "", ours=False)
    if overlay.installed():
        replacement = overlay.NAMES[name]
        ours = _locate(replacement)
        missing = f"{replacement} is missing: install lightos-openstack again"
        return Finding(name, package, "lightos-openstack", ours or missing, ours=ours is not None)
    theirs = _locate(name)
    return Finding(name, package, f"{top}'s own" if theirs else "nothing", theirs or "", ours=False)


def _locate(name: str) -> str | None:
    """The file of a module, found from package to package; None when there is none."""
    path: Sequence[str] | None = None
    origin = None
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:depth]), path)
        if spec is None:
            return None
        path, origin = spec.submodule_search_locations, spec.origin
    return origin


def _switch() -> str:
    if overlay.installed():
        return "on"
    if not overlay.enabled():
        return f"off: {overlay.SWITCH}=0 is set in this environment"
    return "off: lightos_overlay.pth was not read; install lightos-openstack with pip"


@click.command()
def doctor() -> None:
    """Say which LightOS drivers OpenStack gets here, ours or its own, and from which files.

    Ends with 1 when an installed OpenStack package does not get ours.
    """
    click.echo(f"overlay {_switch()}, in {sys.executable}")
    findings = [examine(name) for name in overlay.NAMES]
    for finding in findings:
        click.echo(f"\n{finding.name} ({finding.package})\n    {finding.active} {finding.origin}")
    if any(finding.origin and not finding.ours for finding in findings):
        raise SystemExit(1)
