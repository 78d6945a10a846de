# SPDX-License-Identifier: Apache-2.0
"""What the messages of several objects share: names, lists that can be unset, limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lightos.api.wire import JSON, STRING, Kind, Model, WireEnum, many, wired

ALLOW_ANY: Final = "ALLOW_ANY"
"""The only entry of an ACL that admits everyone."""
ALLOW_NONE: Final = "ALLOW_NONE"
"""The only entry of an ACL that admits nobody; an emptied ACL must be written so."""
DEFAULT_PROJECT: Final = "default"
"""The project that every cluster has."""
MAX_LIST_LIMIT: Final = 1000
"""Objects in one reply of a list call, at most and by default."""


def rounded_up(number: int, granularity: int) -> int:
    """What a cluster keeps of a number: the next multiple of `granularity`."""
    return -(-number // granularity) * granularity


@dataclass(frozen=True, kw_only=True)
class StringList(Model, schema="StringList"):
    """A list that can be told apart from an unset one."""

    values: tuple[str, ...] = wired("values", many(STRING))


def _read_string_list(value: JSON) -> tuple[str, ...] | None:
    """Read a StringList; one whose values are null or absent counts as unset, as Cinder sends it.

    An empty list does not: who sends it means to change something.
    """
    values = StringList.from_wire(value).values
    given = isinstance(value, dict) and value.get("values") is not None
    return values if given else None


def _write_string_list(values: tuple[str, ...]) -> JSON:
    return StringList(values=values).to_wire()


STRINGS = Kind(
    {"$ref": "#/components/schemas/StringList"},
    _read_string_list,
    _write_string_list,
    (),
    nested=StringList,
)
OBJECT_NAME = {"pattern": r"^[a-zA-Z0-9-_\.]{1,253}$", "minLength": 1, "maxLength": 253}
LABEL_TEXT = {"pattern": r"^[a-zA-Z0-9_.-]{1,253}$", "minLength": 1, "maxLength": 253}
DESCRIPTION = {"maxLength": 256, "x-max-bytes": 256}
ACL = {"x-special-values": [ALLOW_ANY, ALLOW_NONE]}


class HealthState(WireEnum, schema="ClusterHealth.State"):
    """Health of the whole cluster."""

    NONE = 0, "None"
    OK = 1, "OK"
    WARNING = 2, "Warning"
    ERROR = 3, "Error"


@dataclass(frozen=True, kw_only=True)
class Label(Model, schema="Label"):
    """A key and a value that the user gives to an object."""

    key: str = wired("key", STRING, limits=LABEL_TEXT)
    value: str = wired("value", STRING, limits=LABEL_TEXT)


PAGE_LIMIT = {"x-default": str(MAX_LIST_LIMIT), "x-maximum": str(MAX_LIST_LIMIT)}
