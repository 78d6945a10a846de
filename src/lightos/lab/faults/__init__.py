# SPDX-License-Identifier: Apache-2.0
"""Faults that the lab shows on purpose: a plan of rules, seeded, in memory only.

`rules` reads and validates a rule, `plan` decides which rule a call meets; both are pure.
`calls` holds the plan and lets it happen to calls of the management API, `states` to volumes and
snapshots; what happens to whole addresses is in `lightos.lab.node_services` and
`lightos.lab.silence`.
"""
