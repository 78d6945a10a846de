# SPDX-License-Identifier: Apache-2.0
"""The one place where errors of the cluster become errors of Cinder."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from cinder import exception

from lightos.api import errors
from lightos.openstack.cinder.acl import NoRoom
from lightos.openstack.cinder.options import unusable_option
from lightos.openstack.cinder.qos import InvalidQosSpecs
from lightos.openstack.cinder.volume_types import InvalidSpec

P = ParamSpec("P")
R = TypeVar("R")

_OPTION_TO_CHECK: dict[type[errors.LightOSError], str] = {
    errors.Untrusted: "driver_ssl_cert_path",
    errors.Unreachable: "lightos_api_address",
}


def in_cinder_terms(method: Callable[P, R]) -> Callable[P, R]:
    """Decorate a driver method: what the cluster refuses leaves it as a Cinder exception."""

    @functools.wraps(method)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except InvalidSpec as error:
            raise exception.InvalidVolumeType(reason=str(error)) from error
        except InvalidQosSpecs as error:
            raise exception.InvalidQoSSpecs(reason=str(error)) from error
        except (errors.LightOSError, NoRoom) as error:
            raise exception.VolumeBackendAPIException(data=str(error)) from error

    return wrapper


def misconfigured(
    error: errors.LightOSError, token_option: str
) -> exception.InvalidConfigurationValue:
    """What to tell the operator when the cluster cannot be used at start: which option to check."""
    if isinstance(error, errors.Unauthorized | errors.Forbidden):
        return unusable_option(token_option, str(error))
    for kind, option in _OPTION_TO_CHECK.items():
        if isinstance(error, kind):
            return unusable_option(option, str(error))
    return unusable_option("lightos_api_address", f"the cluster cannot be used: {error}")
