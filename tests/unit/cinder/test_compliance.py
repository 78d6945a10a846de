# SPDX-License-Identifier: Apache-2.0
"""The driver is one by Cinder's own check, `cinder.tests.compliance`, and by its interfaces."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import cinder
import pytest
from cinder.interface import (
    volume_driver,
    volume_manageable_driver,
    volume_snapshot_revert,
    volume_snapshotmanagement_driver,
)

from lightos.openstack.cinder.driver import LightOSVolumeDriver

INTERFACES = (
    volume_driver.VolumeDriverCore,
    volume_manageable_driver.VolumeListManageableDriver,
    volume_snapshot_revert.VolumeSnapshotRevertDriver,
    volume_snapshotmanagement_driver.VolumeSnapshotManagementDriver,
)
CHECK = """
import sys, unittest
from cinder.tests.compliance import test_volume_drivers as compliance
number, ours = next(
    (number, info) for number, info in enumerate(compliance.VOLUME_DRIVERS, 1)
    if info.class_name == "LightOSVolumeDriver"
)
print(ours.class_fqn, ours.version, ours.ci_wiki_name, ours.supported, len(ours.driver_options))
names = unittest.defaultTestLoader.getTestCaseNames(compliance.TestVolumeDrivers)
numbered = {int(n.rpartition("_")[2]): n for n in names if n[-1].isdigit()}
name = numbered[number]
outcome = unittest.TextTestRunner(verbosity=2).run(compliance.TestVolumeDrivers(name))
sys.exit(not (outcome.wasSuccessful() and outcome.testsRun == 1 and not outcome.skipped))
"""


def test_cinders_own_compliance_test_passes_our_driver() -> None:
    """Cinder looks for drivers below the working folder, which is where its package is."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHECK],
        cwd=Path(cinder.__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    name, version, wiki_name, supported, options = done.stdout.splitlines()[-1].split()
    assert name == "lightos.openstack.cinder.driver.LightOSVolumeDriver"
    assert (version, supported) == (LightOSVolumeDriver.VERSION, "True")
    assert wiki_name == LightOSVolumeDriver.CI_WIKI_NAME
    assert int(options) == len(LightOSVolumeDriver.get_driver_options())


def methods() -> list[Any]:
    """Cinder's check counts the arguments of class methods only, so these are looked at here."""
    return [
        pytest.param(function, id=f"{interface.__name__}.{name}")
        for interface in INTERFACES
        for name, function in inspect.getmembers(interface, inspect.isfunction)
        # The interface has as methods what Cinder reads as properties.
        if not name.startswith("__") and callable(getattr(LightOSVolumeDriver, name))
    ]


@pytest.mark.parametrize("asked", methods())
def test_a_method_takes_what_the_interface_says(asked: Any) -> None:
    takes = inspect.signature(getattr(LightOSVolumeDriver, asked.__name__))
    given = [
        parameter
        for parameter in inspect.signature(asked).parameters.values()
        if parameter.default is inspect.Parameter.empty
    ]
    takes.bind(*given)
