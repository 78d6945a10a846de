# SPDX-License-Identifier: Apache-2.0
"""The wire rules, one by one and, by hypothesis, for every message through its field table."""

from __future__ import annotations

import importlib
import inspect
import json
import math
import pkgutil
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlencode

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightos.api import models, openapi, wire
from lightos.api.models.cluster import RotationState
from lightos.api.models.events import ListEvents
from lightos.api.models.failures import DETAIL, GatewayError
from lightos.api.models.policies import BandwidthLimit, CreatePolicy, IopsLimit, RateLimit
from lightos.api.models.snapshots import ListSnapshots, Snapshot
from lightos.api.models.values import ALLOW_ANY, ALLOW_NONE, STRINGS, Label
from lightos.api.models.volumes import (
    CreateVolume,
    ListVolumes,
    ProtectionState,
    UpdateVolume,
    Volume,
    VolumeList,
    VolumeState,
    VolumeStatistics,
)
from lightos.api.wire import Kind, Model, WireEnum, WireError

FEW = settings(max_examples=25, deadline=None)
"""For tests that are repeated for every message."""


def _declared(base: type) -> list[type]:
    """What the modules of lightos.api.models make of a base class."""
    modules = [
        importlib.import_module(found.name)
        for found in pkgutil.iter_modules(models.__path__, f"{models.__name__}.")
    ]
    return [
        member
        for module in modules
        for _, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, base) and member.__module__ == module.__name__
    ]


MESSAGES = _declared(Model)
ENUMS = _declared(WireEnum)

_TIMES = st.datetimes(
    min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC)
)
_DURATIONS = st.timedeltas(min_value=timedelta(days=-9999), max_value=timedelta(days=9999))

VALUES: list[tuple[Kind, st.SearchStrategy[Any]]] = [
    (wire.STRING, st.text(max_size=20)),
    (wire.BYTES, st.binary(max_size=20)),
    (wire.BOOLEAN, st.booleans()),
    (wire.INT32, st.integers(-(2**31), 2**31 - 1)),
    (wire.UINT32, st.integers(0, 2**32 - 1)),
    (wire.INT64, st.integers(-(2**63), 2**63 - 1)),
    (wire.UINT64, st.integers(0, 2**64 - 1)),
    (wire.DOUBLE, st.floats(allow_nan=False, allow_infinity=False)),
    (wire.TIMESTAMP, _TIMES),
    (wire.DURATION, _DURATIONS),
    (wire.SWITCH, st.booleans()),
    (wire.SIZE, st.integers(0, 2**64 - 1)),
    (wire.SIZE_ON_CREATE, st.integers(0, 2**64 - 1)),
    (DETAIL, st.dictionaries(st.text(max_size=4), st.integers())),
    (STRINGS, st.lists(st.text(max_size=9), min_size=1, max_size=3).map(tuple)),
]


def _values(kind: Kind) -> st.SearchStrategy[Any]:
    for known, strategy in VALUES:
        if kind is known:
            return strategy
    if kind.schema.get("type") == "array":
        items = kind.schema["items"]
        inner = (
            _component(kind.nested)
            if kind.nested is not None
            else next(strategy for known, strategy in VALUES if known.schema == items)
        )
        return st.lists(inner, max_size=3).map(tuple)
    assert kind.nested is not None
    if "additionalProperties" in kind.schema:
        return st.dictionaries(st.text(max_size=9), _component(kind.nested), max_size=3)
    return _component(kind.nested)


def _component(component: type[Model] | type[WireEnum]) -> st.SearchStrategy[Any]:
    if issubclass(component, WireEnum):
        return st.sampled_from(list(component))
    return _instances(component)


def _instances(model: type[Model]) -> st.SearchStrategy[Any]:
    fields = {
        row.attribute: (st.none() | _values(row.kind)) if row.optional else _values(row.kind)
        for row in model.wire_fields()
    }
    return st.builds(model, **fields)


@pytest.mark.parametrize("model", MESSAGES, ids=lambda model: model.__name__)
def test_every_message_survives_the_wire(model: type[Model]) -> None:
    @FEW
    @given(_instances(model))
    def check(message: Model) -> None:
        text = json.dumps(message.to_wire())
        assert model.from_wire(json.loads(text)) == message

    check()


@pytest.mark.parametrize("model", MESSAGES, ids=lambda model: model.__name__)
def test_what_is_written_fits_the_schema_of_its_own_document(model: type[Model]) -> None:
    schema = {**model.schema(), "components": openapi.document()["components"]}
    schema.pop("required", None)
    validator = jsonschema.Draft4Validator(schema)

    @FEW
    @given(_instances(model))
    def check(message: Model) -> None:
        broken = {re.split(r"[ \[]", problem)[0] for problem in message.violations()}
        written = message.to_wire()
        validator.validate({name: written[name] for name in written if name not in broken})

    check()


@pytest.mark.parametrize("model", MESSAGES, ids=lambda model: model.__name__)
def test_zero_values_are_left_out_and_null_means_unset(model: type[Model]) -> None:
    empty = model()
    written = empty.to_wire()
    assert set(written) <= {"compression"}
    assert model.from_wire({}) == empty
    assert model.from_wire({row.name: None for row in model.wire_fields()}) == empty
    assert model.from_wire({"notInTheContract": 1}) == empty


@pytest.mark.parametrize("members", ENUMS, ids=lambda members: members.__name__)
def test_enums_read_names_and_numbers_and_write_the_first_name(members: type[WireEnum]) -> None:
    kind = wire.enumeration(members)
    for member in members:
        assert kind.write(member) == member.wire_names[0]
        assert kind.read(int(member)) is member
        for name in member.wire_names:
            assert kind.read(name) is member


def test_an_enum_value_of_a_newer_cluster_reads_as_unknown() -> None:
    volume = Volume.from_wire({"state": "Hibernating", "protectionState": 99})
    assert volume.state is VolumeState.UNKNOWN
    assert volume.protection_state is ProtectionState.UNKNOWN


def test_an_unknown_enum_value_in_a_request_is_refused() -> None:
    with pytest.raises(WireError, match=r"sectorSize: 'sectorSize_1K' is none of"):
        CreateVolume.from_wire({"sectorSize": "sectorSize_1K"})


def test_the_second_name_of_an_enum_number_is_read_but_not_written() -> None:
    kind = wire.enumeration(RotationState)
    member = kind.read("EncryptyingDEKs")
    assert member is RotationState.ENCRYPTING_DEKS
    assert kind.write(member) == "EncryptingDEKs"


def test_the_create_request_of_the_driver_in_cinder_29() -> None:
    request = CreateVolume.from_wire(
        {
            "name": "volume-1",
            "size": "10 gib",
            "replicaCount": "3",
            "compression": "True",
            "acl": {"values": ["ALLOW_NONE"]},
            "IPAcl": {"values": ["ALLOW_ANY"]},
            "sourceSnapshotUUID": None,
            "sourceSnapshotName": None,
        }
    )
    assert request == CreateVolume(
        name="volume-1",
        size_bytes=10 << 30,
        replica_count=3,
        compression=True,
        acl=(ALLOW_NONE,),
        ip_acl=(ALLOW_ANY,),
    )


def test_a_volume_is_written_as_the_contract_has_it() -> None:
    volume = Volume(
        uuid="u-1",
        name="v",
        project="default",
        state=VolumeState.AVAILABLE,
        size_bytes=1 << 40,
        replica_count=3,
        acl=("a", "b"),
        nsid=7,
        sector_size_bytes=4096,
        creation_time=datetime(2026, 3, 4, 5, 6, 7, 890000, tzinfo=UTC),
    )
    assert volume.to_wire() == {
        "UUID": "u-1",
        "name": "v",
        "projectName": "default",
        "state": "Available",
        "size": "1099511627776",
        "replicaCount": 3,
        "compression": "false",
        "acl": {"values": ["a", "b"]},
        "nsid": 7,
        "sectorSize": 4096,
        "creationTime": "2026-03-04T05:06:07.890Z",
    }


def test_compression_is_text_in_a_volume_and_a_boolean_in_a_snapshot() -> None:
    assert Volume.from_wire({"compression": "TRUE"}).compression is True
    assert Snapshot.from_wire({"compression": True}).compression is True
    assert Snapshot(compression=True).to_wire() == {"compression": True}
    with pytest.raises(WireError, match="compression: expected a string, got a boolean"):
        Volume.from_wire({"compression": True})


def test_an_update_tells_unset_from_empty() -> None:
    assert UpdateVolume.from_wire({}).acl is None
    assert UpdateVolume.from_wire({"acl": {"values": None}}).acl is None
    assert UpdateVolume.from_wire({"acl": {"values": []}}).acl == ()
    assert UpdateVolume(compression=False).to_wire() == {"compression": "false"}
    assert UpdateVolume(qos_policy_uuid="").to_wire() == {"qosPolicyUUID": ""}
    assert UpdateVolume(size_bytes=4096).to_wire() == {"size": "4096"}


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("10737418240", 10 << 30),
        ("10737418240b", 10 << 30),
        ("10 gib", 10 << 30),
        ("10GiB", 10 << 30),
        ("4 KIB", 4096),
        ("3 mib", 3 << 20),
        ("1 tib", 1 << 40),
        ("0", 0),
        (str(2**64 - 1), 2**64 - 1),
    ],
)
def test_sizes(text: str, size_bytes: int) -> None:
    assert wire.parse_size(text) == size_bytes


@pytest.mark.parametrize(
    "text",
    ["", "-1", "1.5 gib", "10 gb", "gib", "1 gib x", " 1", "1\n", "\u0661", str(2**64), "9" * 400],
)
def test_bad_sizes(text: str) -> None:
    with pytest.raises(WireError):
        wire.parse_size(text)


@pytest.mark.parametrize(
    ("kind", "value", "read"),
    [
        (wire.UINT32, "7", 7),
        (wire.UINT64, 7, 7),
        (wire.UINT64, "18446744073709551615", 2**64 - 1),
        (wire.INT64, "-3", -3),
        (wire.DOUBLE, 2, 2.0),
        (wire.DOUBLE, "1.5e3", 1500.0),
        (wire.DOUBLE, "Infinity", math.inf),
        (wire.TIMESTAMP, "2026-01-02T03:04:05.123456789+02:00",
         datetime(2026, 1, 2, 1, 4, 5, 123456, tzinfo=UTC)),
        (wire.TIMESTAMP, "2026-01-02t03:04:05z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (wire.DURATION, "-1.5s", timedelta(seconds=-1.5)),
        (wire.DURATION, "3600s", timedelta(hours=1)),
        (wire.BYTES, "++//", b"\xfb\xef\xff"),
        (wire.BYTES, "--__", b"\xfb\xef\xff"),
        (wire.BYTES, "/w", b"\xff"),
    ],
)  # fmt: skip
def test_readers_take_every_form_of_the_mapping(kind: Kind, value: Any, read: Any) -> None:
    assert kind.read(value) == read


def test_doubles_that_are_not_finite_are_written_as_text() -> None:
    statistics = VolumeStatistics(compression_ratio=-math.inf)
    assert statistics.to_wire() == {"compressionRatio": "-Infinity"}
    assert wire.DOUBLE.write(math.nan) == "NaN"
    assert math.isnan(wire.DOUBLE.read("NaN"))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (wire.STRING, 5),
        (wire.BOOLEAN, "true"),
        (wire.BOOLEAN, 1),
        (wire.UINT32, -1),
        (wire.UINT32, 2**32),
        (wire.UINT32, True),
        (wire.UINT32, 1.0),
        (wire.UINT32, "007"),
        (wire.UINT32, "1_0"),
        (wire.UINT64, "18446744073709551616"),
        (wire.UINT64, "9" * 100_000),
        (wire.DOUBLE, True),
        (wire.DOUBLE, "one"),
        (wire.DOUBLE, 10**400),
        (wire.TIMESTAMP, "2026-01-02"),
        (wire.TIMESTAMP, "2026-13-02T03:04:05Z"),
        (wire.TIMESTAMP, "0001-01-01T00:00:00+14:00"),
        (wire.DURATION, "1h"),
        (wire.DURATION, "999999999999s"),
        (wire.SWITCH, "maybe"),
        (wire.BYTES, "a"),
        (wire.BYTES, "a b="),
        (wire.BYTES, "\u00e9"),
        (wire.many(wire.STRING), "a"),
        (wire.STRING, "nqn.\ud800"),
        (STRINGS, ["a"]),
        (DETAIL, 3),
    ],
)
def test_readers_refuse_everything_else(kind: Kind, value: Any) -> None:
    with pytest.raises(WireError):
        kind.read(value)


def test_an_error_names_the_place() -> None:
    with pytest.raises(WireError, match=r"^volumes\[1\]\.labels\[0\]\.key: expected a string, got"):
        VolumeList.from_wire({"volumes": [{}, {"labels": [{"key": 5}]}]})
    with pytest.raises(WireError, match=r"^acl\.values\[0\]: expected a string, got null"):
        CreateVolume.from_wire({"acl": {"values": [None]}})


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@pytest.mark.parametrize("model", [Volume, CreateVolume, GatewayError])
def test_any_json_is_read_or_refused_in_one_way(model: type[Model]) -> None:
    names = st.sampled_from([row.name for row in model.wire_fields()])

    @FEW
    @given(_JSON | st.dictionaries(names, _JSON))
    def check(data: Any) -> None:
        try:
            message = model.from_wire(data)
        except WireError:
            return
        assert model.from_wire(message.to_wire()).to_wire() == message.to_wire()

    check()


def test_query_parameters() -> None:
    query = {"limit": ["10"], "showAll": ["1", "0"], "name": [""], "other": ["x"], "Name": ["y"]}
    request = ListVolumes.from_query(query)
    assert request == ListVolumes(limit=10, show_all=True)
    assert request.to_query() == {"limit": "10", "showAll": "true"}
    with pytest.raises(WireError, match="showAll: expected true or false, got 'yes'"):
        ListVolumes.from_query({"showAll": ["yes"]})
    with pytest.raises(WireError, match="limit: expected an integer"):
        ListVolumes.from_query({"limit": ["ten"]})


@given(_instances(ListSnapshots))
def test_query_parameters_survive(request: ListSnapshots) -> None:
    query = parse_qs(urlencode(request.to_query(), doseq=True))
    assert ListSnapshots.from_query(query) == request


@given(_instances(ListEvents))
def test_a_list_repeats_its_query_parameter(request: ListEvents) -> None:
    query = parse_qs(urlencode(request.to_query(), doseq=True), keep_blank_values=True)
    if "" not in request.severity[:1]:
        assert ListEvents.from_query(query) == request


def test_violations_name_every_broken_limit() -> None:
    request = CreateVolume(
        name="a b",
        replica_count=4,
        qos_policy_uuid="u",
        qos_policy_name="n",
        labels=(Label(key="ok", value="no/slash"),) * 17,
    )
    assert request.violations() == [
        r"name 'a b' does not match ^[a-zA-Z0-9-_\.]{1,253}$",
        "size is required",
        "acl is required",
        "replicaCount 4 is more than 3",
        "projectName is required",
        "qosPolicyUUID and qosPolicyName exclude each other",
        "labels has more than 16 items",
        *(
            rf"labels[{index}].value 'no/slash' does not match ^[a-zA-Z0-9_.-]{{1,253}}$"
            for index in range(17)
        ),
    ]


@pytest.mark.parametrize("name", ["a\n", "", "é", "a" * 254, "a/b", "a:b"])
def test_names_that_no_volume_may_have(name: str) -> None:
    request = CreateVolume(name=name, size_bytes=1, acl=("x",), replica_count=1, project="p")
    assert len(request.violations()) == 1


def test_a_request_within_the_limits_has_no_violations() -> None:
    request = CreateVolume(
        name="A-1_b.c", size_bytes=4096, acl=("x",), replica_count=3, project="p"
    )
    assert request.violations() == []


def test_violations_reach_into_a_message_in_a_field() -> None:
    limit = RateLimit(iops=IopsLimit(), bandwidth=BandwidthLimit())
    request = CreatePolicy(name="p", rate_limit=limit)
    assert request.violations() == [
        "qoSRateLimitPolicy.limitIOPS and limitBw exclude each other",
    ]


def test_a_limit_of_nothing_is_still_a_limit() -> None:
    limit = RateLimit.from_wire({"limitIOPS": {}})
    assert limit.limit == IopsLimit()
    assert limit.to_wire() == {"limitIOPS": {}}
    assert RateLimit().limit is None
