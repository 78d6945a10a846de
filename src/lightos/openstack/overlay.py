# SPDX-License-Identifier: Apache-2.0
"""Makes OpenStack's in-tree names resolve to this distribution.

Cinder, os-brick and Nova look the LightOS classes up under names inside their own packages and
offer no plug-in point for them. A finder in front of `sys.meta_path` answers for exactly those
names and nothing else; no file of another package is touched, so uninstalling this distribution
(which removes `lightos_overlay.pth`) gives the names back.

The module object is ours under both names: one class, one set of options, and pickles that name
`lightos.openstack...`. `LIGHTOS_OVERLAY=0` in the environment turns the finder off for a process.
Of an OpenStack package that is older than ours works with, the names stay its own.

Every Python interpreter of the environment imports this module at start, so it imports only what
the interpreter has loaded by then; the rest is imported when one of the names is looked up.
"""

import os
import sys

SWITCH = "LIGHTOS_OVERLAY"

NAMES = {
    "cinder.volume.drivers.lightos": "lightos.openstack.cinder.driver",
    "os_brick.initiator.connectors.lightos": "lightos.openstack.os_brick.connector",
    "os_brick.privileged.lightos_discovery": "lightos.openstack.os_brick.privileged",
    "nova.virt.libvirt.volume.lightos": "lightos.openstack.nova.volume_driver",
}
"""In-tree module name -> our module. The privileged one is new: privsep runs only what is below
`os_brick.privileged`, and the incumbent's own must stay for processes that keep its connector."""

NEEDED = {
    "cinder": ("cinder", (29,), "2026.2"),
    "os_brick": ("os-brick", (6, 11), "2025.1"),
    "nova": ("nova", (31,), "2025.1"),
}
"""Package -> its distribution, the oldest version that ours works with, and of which OpenStack.

The driver asks the database by `cinder.db.models` and `cinder.db.api.main_context_manager`, which
Cinder 29 has first. The other two pass their tests with all that is named here and later.
"""

_told: set[str] = set()


class OverlayFinder:
    """Finder and loader (PEP 451) for the names above."""

    def find_spec(self, name, path=None, target=None):
        replacement = NAMES.get(name)
        if replacement is None or _is_left_alone(name.partition(".")[0]):
            return None
        from importlib.machinery import ModuleSpec  # noqa: PLC0415 - not at interpreter start

        # A loader by its methods: importing the base class would cost every interpreter start.
        return ModuleSpec(name, self, origin=replacement)  # type: ignore[arg-type]

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        """Put our module in the place of the empty one that the import system made."""
        from importlib import import_module  # noqa: PLC0415

        sys.modules[module.__name__] = import_module(NAMES[module.__name__])


def installed_version(package) -> str:
    """Of an OpenStack package, by the name it is imported by; empty when it is not there."""
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    try:
        return version(NEEDED[package][0]) or ""
    except PackageNotFoundError:
        return ""


def is_old(version, oldest) -> bool:
    """Whether a version is below the oldest that will do; one before its release is as new.

    A checkout without tags has version 0.0.1, which tells nothing; such people know what they do.
    """
    import re  # noqa: PLC0415

    numbers = re.split(r"[^0-9.]", version)[0].split(".")
    found = tuple(int(number) for number in numbers if number)
    return found < oldest and found[:1] != (0,)


def lacking(package) -> str:
    """What ours needs in the place of the version that is installed; empty when that will do."""
    distribution, oldest, release = NEEDED[package]
    if not is_old(installed_version(package), oldest):
        return ""
    return f"{distribution} {'.'.join(map(str, oldest))} or later (OpenStack {release})"


def _is_left_alone(package) -> bool:
    """Whether its names stay its own; said once, for an operator who expects ours."""
    needed = lacking(package)
    if needed and package not in _told:
        import logging  # noqa: PLC0415

        _told.add(package)
        logging.getLogger(__name__).warning(
            "lightos-openstack is not in force for %s: it needs %s, and here is %s. "
            "OpenStack's own LightOS support is used.",
            package,
            needed,
            installed_version(package) or "one without version",
        )
    return bool(needed)


def enabled() -> bool:
    """Whether this process wants the overlay; only the value `0` turns it off."""
    return os.environ.get(SWITCH) != "0"


def installed() -> bool:
    """Whether the names resolve to ours in this process."""
    return any(isinstance(finder, OverlayFinder) for finder in sys.meta_path)


def install() -> None:
    """Called by `lightos_overlay.pth` at interpreter start. Doing it twice changes nothing."""
    if enabled() and not installed():
        sys.meta_path.insert(0, OverlayFinder())
