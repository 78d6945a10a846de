# SPDX-License-Identifier: Apache-2.0
"""Resolves in-tree names as `import` would, without importing anything.

Nova and Cinder cannot be imported into one process: their options clash.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.machinery import PathFinder

from lightos.doctor.checks.names import NameFacts, Overlay
from lightos.openstack import overlay


def names() -> list[NameFacts]:
    """Each in-tree name in this environment."""
    return [_look(name, replacement) for name, replacement in overlay.NAMES.items()]


def overlay_state() -> Overlay:
    """Whether the names give ours in this process."""
    if overlay.installed():
        return Overlay.ON
    return Overlay.NOT_READ if overlay.enabled() else Overlay.SWITCHED_OFF


def _look(name: str, replacement: str) -> NameFacts:
    top = name.partition(".")[0]
    version = overlay.installed_version(top)
    package = f"{top} {version}" if version else ""
    needed = overlay.lacking(top)
    return NameFacts(name, package, replacement, _locate(replacement), _locate(name), needed)


def _locate(name: str) -> str:
    """The file of a module, found from package to package; empty when there is none."""
    path: Sequence[str] | None = None
    origin = None
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:depth]), path)
        if spec is None:
            return ""
        path, origin = spec.submodule_search_locations, spec.origin
    return origin or ""
