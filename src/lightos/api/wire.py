# SPDX-License-Identifier: Apache-2.0
"""How one value of the management API v2 is read, written and described.

The API is protobuf behind a JSON gateway, so the rules are those of the protobuf JSON mapping
with original field names: 64-bit integers are strings, enums are names, timestamps RFC 3339,
durations `3600s`; zero values are left out. Readers also take quoted 32-bit numbers, plain
64-bit numbers, enum numbers, and null for unset.

A `Kind` holds the three sides of one wire type: `read`, `write`, and its OpenAPI `schema`. A
`Model` is a frozen dataclass whose fields, made with `wired`, say name, kind and limits; the
table drives `from_wire`, `to_wire`, `violations` and the OpenAPI document alike.
"""

from __future__ import annotations

import base64
import dataclasses
import enum
import functools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Self

JSON = Any
"""What `json.loads` gives."""
Schema = Mapping[str, JSON]


class WireError(ValueError):
    """A value that the protobuf JSON mapping does not allow; says where and what."""

    def __init__(self, problem: str, path: str = "") -> None:
        self.problem = problem
        self.path = path
        super().__init__(f"{path}: {problem}" if path else problem)

    def within(self, outer: str) -> WireError:
        """Return the same error, seen from one level further out."""
        joined = outer + self.path if self.path.startswith("[") else f"{outer}.{self.path}"
        return WireError(self.problem, joined if self.path else outer)


class WireEnum(enum.IntEnum):
    """A protobuf enum: members are `NUMBER, "WireName", *other names of the same number`."""

    wire_names: tuple[str, ...]
    schema_name: ClassVar[str]

    def __init_subclass__(cls, *, schema: str = "", **rest: Any) -> None:
        """Remember the name of the enum in the OpenAPI document."""
        super().__init_subclass__(**rest)
        cls.schema_name = schema

    def __new__(cls, number: int, *wire_names: str) -> Self:
        """Make the member with its number as value."""
        member = int.__new__(cls, number)
        member._value_ = number
        member.wire_names = wire_names
        return member

    @property
    def wire_name(self) -> str:
        """The name that is written."""
        return self.wire_names[0]

    @classmethod
    def by_wire_name(cls) -> Mapping[str, Self]:
        """Return every name on the wire, in the order of declaration."""
        return {name: member for member in cls for name in member.wire_names}

    @classmethod
    def schema(cls) -> Schema:
        """Describe the enum for the OpenAPI document."""
        names = cls.by_wire_name()
        numbers = [int(member) for member in names.values()]
        return {"type": "string", "enum": list(names), "x-enum-numbers": numbers}


@dataclass(frozen=True)
class Kind:
    """One wire type. `zero` is the value that is left out when written (None: never)."""

    schema: Schema
    read: Callable[[JSON], Any]
    write: Callable[[Any], JSON]
    zero: object = None
    parse_query: Callable[[str], Any] | None = None
    """How the text of a query parameter is read, where that differs from `read`."""
    nested: type[Model] | type[WireEnum] | None = None
    """The component of the OpenAPI document that the schema refers to."""


def _type_name(value: JSON) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")


def _expected(what: str, value: JSON) -> WireError:
    return WireError(f"expected {what}, got {_type_name(value)}")


def _same(value: Any) -> Any:
    return value


def _read_string(value: JSON) -> str:
    if not isinstance(value, str):
        raise _expected("a string", value)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise WireError("half of a surrogate pair is no character") from None
    return value


def _read_boolean(value: JSON) -> bool:
    if not isinstance(value, bool):
        raise _expected("a boolean", value)
    return value


def _parse_boolean(text: str) -> bool:
    """Read a query value as the gateway (Go's strconv.ParseBool) does."""
    if text in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    if text in ("0", "f", "F", "FALSE", "false", "False"):
        return False
    raise WireError(f"expected true or false, got {text!r}")


_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)", re.ASCII)


def _integer(minimum: int, maximum: int) -> Callable[[JSON], int]:
    digits = len(str(maximum)) + 1

    def read(value: JSON) -> int:
        if isinstance(value, str):
            # The length is bounded first: int() of a very long string is slow.
            if len(value) > digits or not _INTEGER.fullmatch(value):
                raise WireError(f"expected an integer, got {value[:40]!r}")
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise _expected("an integer", value)
        if not minimum <= value <= maximum:
            raise WireError(f"{value} is not in {minimum}..{maximum}")
        return value

    return read


_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?|NaN|-?Infinity", re.ASCII)


def _read_double(value: JSON) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _expected("a number", value)
    if isinstance(value, str) and not _DECIMAL.fullmatch(value):
        raise WireError(f"expected a number, got {value[:40]!r}")
    try:
        return float(value)
    except OverflowError:
        raise WireError("the number does not fit a double") from None


def _write_double(value: float) -> JSON:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


_RFC_3339 = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)


def _read_timestamp(value: JSON) -> datetime:
    """Read RFC 3339, kept to the microsecond."""
    match = _RFC_3339.fullmatch(_read_string(value))
    if match is None:
        raise WireError(f"expected an RFC 3339 time, got {value[:40]!r}")
    day, second, fraction, zone = match.groups()
    micro = (fraction or "").ljust(6, "0")[:6]
    try:
        parsed = datetime.fromisoformat(f"{day}T{second}.{micro}{zone.upper()}")
        return parsed.astimezone(UTC)
    except (ValueError, OverflowError) as cause:
        raise WireError(f"{value!r} is not a time: {cause}") from None


def _fraction(microseconds: int) -> str:
    """Write none, three or six digits, as protobuf does."""
    if not microseconds:
        return ""
    return f".{microseconds // 1000:03d}" if microseconds % 1000 == 0 else f".{microseconds:06d}"


def _write_timestamp(value: datetime) -> str:
    moment = value.astimezone(UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") + _fraction(moment.microsecond) + "Z"


_DURATION = re.compile(r"(-?)([0-9]{1,12})(?:\.([0-9]{1,9}))?s", re.ASCII)
_LONGEST_DURATION_SECONDS = 315_576_000_000  # google.protobuf.Duration


def _read_duration(value: JSON) -> timedelta:
    match = _DURATION.fullmatch(_read_string(value))
    if match is None:
        raise WireError(f"expected a duration such as 3600s, got {value[:40]!r}")
    sign, seconds, fraction = match.groups()
    if int(seconds) > _LONGEST_DURATION_SECONDS:
        raise WireError(f"the duration {value} is too long")
    micro = (fraction or "").ljust(6, "0")[:6]
    length = timedelta(seconds=int(seconds), microseconds=int(micro))
    return -length if sign else length


def _write_duration(value: timedelta) -> str:
    seconds, micro = divmod(abs(value) // timedelta(microseconds=1), 1_000_000)
    return f"{'-' if value < timedelta() else ''}{seconds}{_fraction(micro)}s"


def _read_bytes(value: JSON) -> bytes:
    """Read base64, standard or URL-safe, padded or not."""
    text = _read_string(value).rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise WireError(f"expected base64, got {value[:40]!r}") from None


def _write_bytes(value: bytes) -> str:
    return base64.b64encode(value).decode()


COMPRESSION_ON = ("true", "enable", "enabled")
COMPRESSION_OFF = ("false", "disable", "disabled")


def _read_switch(value: JSON) -> bool | None:
    word = _read_string(value).lower()
    if word in COMPRESSION_ON:
        return True
    if word in COMPRESSION_OFF:
        return False
    if not word:
        return None
    raise WireError(f"{value[:40]!r} is none of {', '.join(COMPRESSION_ON + COMPRESSION_OFF)}")


_UNITS = {"": 0, "b": 0, "kib": 10, "mib": 20, "gib": 30, "tib": 40, "pib": 50}
_SIZE = re.compile(r"([0-9]{1,20}) *([a-z]*)", re.ASCII | re.IGNORECASE)
MAX_UINT64 = (1 << 64) - 1


def parse_size(text: str) -> int:
    """Return the bytes of `10 gib`, `10737418240b` or `10737418240`; WireError otherwise."""
    match = _SIZE.fullmatch(text)
    if match is None or match[2].lower() not in _UNITS:
        raise WireError(f"expected a size such as 10737418240 or 10 gib, got {text[:40]!r}")
    size_bytes = int(match[1]) << _UNITS[match[2].lower()]
    if size_bytes > MAX_UINT64:
        raise WireError(f"the size {text} does not fit 64 bits")
    return size_bytes


def _read_size(value: JSON) -> int | None:
    return parse_size(value) if _read_string(value) else None


STRING = Kind({"type": "string"}, _read_string, _same, "")
BYTES = Kind({"type": "string", "format": "byte"}, _read_bytes, _write_bytes, b"")
BOOLEAN = Kind({"type": "boolean"}, _read_boolean, _same, False, _parse_boolean)
INT32 = Kind({"type": "integer", "format": "int32"}, _integer(-(1 << 31), (1 << 31) - 1), _same, 0)
UINT32 = Kind(
    {"type": "integer", "format": "uint32", "minimum": 0}, _integer(0, (1 << 32) - 1), _same, 0
)
INT64 = Kind({"type": "string", "format": "int64"}, _integer(-(1 << 63), (1 << 63) - 1), str, 0)
UINT64 = Kind({"type": "string", "format": "uint64"}, _integer(0, MAX_UINT64), str, 0)
DOUBLE = Kind({"type": "number", "format": "double"}, _read_double, _write_double, 0.0)
TIMESTAMP = Kind({"type": "string", "format": "date-time"}, _read_timestamp, _write_timestamp)
DURATION = Kind(
    {
        "type": "string",
        "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$",
        "x-proto-type": "google.protobuf.Duration",
    },
    _read_duration,
    _write_duration,
)
SWITCH = Kind({"type": "string"}, _read_switch, lambda on: "true" if on else "false")
"""A boolean that travels as text: `compression` everywhere but in Snapshot."""
SIZE = Kind({"type": "string"}, _read_size, str)
"""Bytes in an update."""
SIZE_ON_CREATE = Kind({"type": "string"}, _read_size, lambda size_bytes: f"{size_bytes}b")
"""Bytes in a create, where `b` keeps servers from guessing a unit."""


def enumeration(members: type[WireEnum], *, unknown: WireEnum | None = None) -> Kind:
    """Return an enum's kind. Names we do not know read as `unknown`, or are refused without it.

    Replies of a newer cluster may hold states that this code has never heard of; requests may
    not.
    """
    names = members.by_wire_name()
    numbers = {int(member): member for member in members}

    def read(value: JSON) -> WireEnum:
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise _expected("an enum name", value)
        member = names.get(value) if isinstance(value, str) else numbers.get(value)
        member = unknown if member is None else member
        if member is None:
            raise WireError(f"{str(value)[:40]!r} is none of {', '.join(names)}")
        return member

    def write(value: WireEnum) -> str:
        return value.wire_name

    return Kind(_reference(members), read, write, numbers.get(0), nested=members)


def message(model: type[Model]) -> Kind:
    """Return the kind of a nested message."""
    return Kind(_reference(model), model.from_wire, lambda value: value.to_wire(), nested=model)


def many(item: Kind) -> Kind:
    """Return the kind of a repeated field: a tuple of `item`."""

    def read(value: JSON) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise _expected("an array", value)
        found = []
        for index, entry in enumerate(value):
            try:
                found.append(item.read(entry))
            except WireError as error:
                raise error.within(f"[{index}]") from None
        return tuple(found)

    def write(value: tuple[Any, ...]) -> list[JSON]:
        return [item.write(entry) for entry in value]

    schema = {"type": "array", "items": item.schema}
    return Kind(schema, read, write, (), nested=item.nested)


def mapping(item: Kind) -> Kind:
    """Return the kind of a map from strings to `item`."""

    def read(value: JSON) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _expected("an object", value)
        found = {}
        for key, entry in value.items():
            try:
                found[key] = item.read(entry)
            except WireError as error:
                raise error.within(key) from None
        return found

    def write(value: Mapping[str, Any]) -> dict[str, JSON]:
        return {key: item.write(entry) for key, entry in value.items()}

    schema = {"type": "object", "additionalProperties": item.schema}
    return Kind(schema, read, write, nested=item.nested)


def _reference(component: type[Model] | type[WireEnum]) -> Schema:
    return {"$ref": f"#/components/schemas/{component.schema_name}"}


@dataclass(frozen=True)
class WireField:
    """One row of a model's field table."""

    attribute: str
    name: str
    kind: Kind
    required: bool
    limits: Schema
    """OpenAPI keywords beyond those of the kind; `violations` checks the standard ones."""
    optional: bool
    """Whether unset (None) differs from the zero value."""

    @property
    def schema(self) -> Schema:
        """Describe the field for the OpenAPI document."""
        if "$ref" in self.kind.schema and self.limits:
            return {"allOf": [self.kind.schema], **self.limits}
        return {**self.kind.schema, **self.limits}

    def is_left_out(self, value: object) -> bool:
        """Say whether a value is absent from what is written."""
        return value is None or (not self.optional and value == self.kind.zero)


_KIND_ZERO: Any = object()


def wired(
    name: str,
    kind: Kind,
    *,
    default: Any = _KIND_ZERO,
    required: bool = False,
    limits: Schema | None = None,
) -> Any:
    """Declare a model field: its wire name, its kind, and its default (else the kind's zero)."""
    if default is _KIND_ZERO:
        default = kind.zero
    row = {"name": name, "kind": kind, "required": required, "limits": limits or {}}
    return field(default=default, metadata={"wire": row})


class Model:
    """A message of the API: a frozen dataclass whose fields are all `wired`."""

    schema_name: ClassVar[str]

    def __init_subclass__(cls, *, schema: str) -> None:
        """Remember the name of the message in the OpenAPI document."""
        super().__init_subclass__()
        cls.schema_name = schema

    @classmethod
    @functools.cache
    def wire_fields(cls) -> tuple[WireField, ...]:
        """Return the field table, in the order of declaration."""
        return tuple(
            WireField(row.name, optional=row.default is None, **row.metadata["wire"])
            for row in dataclasses.fields(cls)  # type: ignore[arg-type]
        )

    @classmethod
    def from_wire(cls, data: JSON) -> Self:
        """Read a JSON object; unknown fields are ignored, WireError names a bad one."""
        if not isinstance(data, Mapping):
            raise _expected("an object", data)
        values: dict[str, Any] = {}
        for row in cls.wire_fields():
            raw = data.get(row.name)
            if raw is None:
                continue
            try:
                value = row.kind.read(raw)
            except WireError as error:
                raise error.within(row.name) from None
            if value is not None:
                values[row.attribute] = value
        return cls(**values)

    @classmethod
    def from_query(cls, query: Mapping[str, Sequence[str]]) -> Self:
        """Read query parameters; unknown keys are ignored.

        A repeated field has all that its key is given for; for others the first counts.
        """
        values: dict[str, Any] = {}
        for row in cls.wire_fields():
            texts = query.get(row.name)
            if not texts or not texts[0]:
                continue
            given: JSON = list(texts) if row.kind.zero == () else texts[0]
            try:
                values[row.attribute] = (row.kind.parse_query or row.kind.read)(given)
            except WireError as error:
                raise error.within(row.name) from None
        return cls(**values)

    def to_wire(self) -> dict[str, JSON]:
        """Write a JSON object without zero values."""
        return {
            row.name: row.kind.write(value)
            for row in self.wire_fields()
            if not row.is_left_out(value := getattr(self, row.attribute))
        }

    def to_query(self) -> dict[str, str | list[str]]:
        """Write query parameters without zero values; a list stands for a repeated key."""
        return {
            name: list(map(_query_text, value)) if isinstance(value, list) else _query_text(value)
            for name, value in self.to_wire().items()
        }

    def violations(self) -> list[str]:
        """List every limit of the contract that the values break; empty when all hold."""
        found = []
        one_of: dict[str, str] = {}
        for row in self.wire_fields():
            value = getattr(self, row.attribute)
            if row.is_left_out(value):
                if row.required:
                    found.append(f"{row.name} is required")
                continue
            found += [f"{row.name} {problem}" for problem in _broken_limits(row.limits, value)]
            if isinstance(value, Model):
                found += [f"{row.name}.{problem}" for problem in value.violations()]
            for index, item in enumerate(value if isinstance(value, tuple) else ()):
                if isinstance(item, Model):
                    found += [f"{row.name}[{index}].{problem}" for problem in item.violations()]
            group = row.limits.get("x-oneof")
            if group and one_of.setdefault(group, row.name) != row.name:
                found.append(f"{one_of[group]} and {row.name} exclude each other")
        return found

    @classmethod
    def schema(cls, without: frozenset[str] = frozenset()) -> Schema:
        """Describe the message for the OpenAPI document, leaving out the fields `without`."""
        rows = [row for row in cls.wire_fields() if row.name not in without]
        schema: dict[str, JSON] = {"type": "object"}
        if rows:
            schema["properties"] = {row.name: row.schema for row in rows}
        if required := [row.name for row in rows if row.required]:
            schema["required"] = required
        return schema


def _query_text(value: JSON) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _broken_limits(limits: Schema, value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if len(value) > limits.get("maxLength", len(value)):
            yield f"is longer than {limits['maxLength']} characters"
        elif "pattern" in limits and not re.fullmatch(limits["pattern"], value, re.ASCII):
            yield f"{value!r} does not match {limits['pattern']}"
    elif isinstance(value, tuple):
        if len(value) > limits.get("maxItems", len(value)):
            yield f"has more than {limits['maxItems']} items"
    elif isinstance(value, int):
        if value < limits.get("minimum", value):
            yield f"{value} is less than {limits['minimum']}"
        if value > limits.get("maximum", value):
            yield f"{value} is more than {limits['maximum']}"
