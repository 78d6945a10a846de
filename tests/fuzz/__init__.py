# SPDX-License-Identifier: Apache-2.0
"""Malformed input for everything that reads what others wrote; `run` is the way in."""
