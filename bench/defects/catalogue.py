# SPDX-License-Identifier: Apache-2.0
"""The list of defects: all that the modules of scenarios hold, by number."""

from __future__ import annotations

from bench.defects import access, addresses, connector, nova, service, volumes
from bench.defects.defect import Defect

DEFECTS = sorted(
    (
        value
        for module in (access, addresses, connector, nova, service, volumes)
        for value in vars(module).values()
        if isinstance(value, Defect)
    ),
    key=lambda defect: defect.order,
)
