# SPDX-License-Identifier: Apache-2.0
"""A small OpenStack cloud on one machine; see `Cloud`."""

from testbed.cloud.cloud import Cloud

__all__ = ["Cloud"]
