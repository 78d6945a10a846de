# SPDX-License-Identifier: Apache-2.0
"""Looks, and judges nothing: each module gathers the facts that the check of its name needs."""
