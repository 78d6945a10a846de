# SPDX-License-Identifier: Apache-2.0
"""The messages of the management API v2, each a frozen dataclass with one field table.

Attribute names are ours, with units; the wire name stands beside each. Every field has the
zero value of its kind (or None, where unset differs from zero) as default, because the cluster
leaves zero values out. See `lightos.api.wire` for the rules.
"""
