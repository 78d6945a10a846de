# SPDX-License-Identifier: Apache-2.0
"""What the cluster accepts as the name of an object. Pure."""

from __future__ import annotations

import re

from lightos.lab.errors import InvalidArgument

SYSTEM = "system"
"""Stands for the cluster itself where a project is named, so no project can have this name."""
_NAME = re.compile(r"[a-zA-Z0-9._-]{1,253}", re.ASCII)
_PROJECT = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?", re.ASCII)


def check_name(what: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"{what} {name[:64]!r} is not valid: 1 to 253 letters, digits, dots, dashes and "
            "underscores"
        )


def valid_project_name(name: str) -> bool:
    return _PROJECT.fullmatch(name) is not None
