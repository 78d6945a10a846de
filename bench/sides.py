# SPDX-License-Identifier: Apache-2.0
"""The names of what is measured beside each other."""

OURS, INCUMBENT = "ours", "incumbent"
SIDES = (OURS, INCUMBENT)
