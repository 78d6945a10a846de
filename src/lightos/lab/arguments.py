# SPDX-License-Identifier: Apache-2.0
"""What several operations take: UUIDs, names, page sizes. Refusals are InvalidArgument."""

from __future__ import annotations

from typing import TypeVar
from uuid import UUID

from lightos.api.models.values import MAX_LIST_LIMIT
from lightos.api.wire import Model
from lightos.lab.errors import InvalidArgument

R = TypeVar("R", bound=Model)


def uuid_of(field: str, text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise InvalidArgument(f"{field} {text[:64]!r} is not a UUID") from None


def optional_uuid(field: str, text: str) -> UUID | None:
    return uuid_of(field, text) if text else None


def uuid_or_name(uuid: str, name: str, field: str = "UUID") -> UUID | str:
    """What names an object: the UUID, or the name where that is empty."""
    if uuid:
        return uuid_of(field, uuid)
    if not name:
        raise InvalidArgument(f"{field} and name are both empty")
    return name


def checked(message: R) -> R:
    """The message, if it keeps the limits of the contract."""
    if violations := message.violations():
        raise InvalidArgument("; ".join(violations))
    return message


def page_size(limit: int) -> int:
    if limit < 0:
        raise InvalidArgument(f"limit {limit} is negative")
    return min(limit or MAX_LIST_LIMIT, MAX_LIST_LIMIT)
