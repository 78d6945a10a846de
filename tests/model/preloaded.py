# SPDX-License-Identifier: Apache-2.0
"""What every cinder-volume of the model test is forked with; it makes no threads or connections."""

from sqlalchemy import orm
from taskflow import deciders, retry  # noqa: F401 - else imported by the first operation

import lightos.openstack.cinder.driver  # noqa: F401
import testbed.cinder.volume_manager  # noqa: F401

orm.configure_mappers()
