# SPDX-License-Identifier: Apache-2.0
"""Which tempest tests are run, and for which reasons one of them may be skipped."""

from __future__ import annotations

import re
from collections.abc import Iterable

from testbed.tempest.results import SKIPPED, Outcome

SELECTED = (
    r"^(tempest\.api\.volume|cinder_tempest_plugin\.api)\."
    r"(?!volume\.(admin\.)?test_volume_backup)"
)
"""The plugin's own backup tests take as long as all else together, and go the same ways as those
of tempest.api.volume and tests/cloud."""

QUICK = r"^tempest\.api\.volume\.(?!(admin\.)?test_volumes_backup)"
"""Without backups, which tests/cloud has, and the plugin, whose tests move images for minutes."""

NOT_ON_INSTANCES = {
    "test_assisted_volume_snapshots": "these snapshots are of volumes that are files; the test "
    "does not look at what came of them",
    "test_rebuild_volume_backed_server": "it logs in to its instance, a boot sector; tests/nova "
    "rebuilds one",
}
"""Parts of the names of tests that `WITH_INSTANCES` leaves out, and why."""

WITH_INSTANCES = (
    rf"^tempest\.api\.(?!.*({'|'.join(NOT_ON_INSTANCES)}))(compute\..*[Vv]olume|"
    r"volume\..*(\[[^]]*compute|[Aa]ttached|in_use|_online|multiattach))"
)
"""Those that make instances, which run on compute hosts if there are any: the compute service's
with volumes, and the volume service's with instances."""

EXCUSES = {
    "Volume replication feature disabled": "the management API has no replication between clusters",
    "consistency group feature disabled": "the management API has no group snapshots",
    "hw_scsi_model=virtio-scsi not set on image": "a boot sector drives virtio-blk only",
    "Validation must be enabled": "nobody can log in to a boot sector",
    "Instance validation tests are disabled": "nobody can log in to a boot sector",
    "Swapping volumes is not supported": "Nova swaps volumes at Cinder's word only: bug 2112187",
    "Skipped until [Bb]ug": "an open bug of OpenStack, named in the reason",
}
"""Part of the reason that a skipped test gives: why it can't run here. Any other skip is a fault
of this testbed, since what the driver can do must be tried."""


def excuse(reason: str) -> str | None:
    """Why a test with this reason may be skipped, or None."""
    return next((why for part, why in EXCUSES.items() if re.search(part, reason)), None)


def unexcused(outcomes: Iterable[Outcome]) -> list[Outcome]:
    return [each for each in outcomes if each.status == SKIPPED and excuse(each.reason) is None]
