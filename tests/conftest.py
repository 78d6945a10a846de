# SPDX-License-Identifier: Apache-2.0
"""For every kind of tests: how hypothesis works here.

Machines that run these are slow and shared, so no example is judged by the time it took.
"""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "shared-machine",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("shared-machine")
