# SPDX-License-Identifier: Apache-2.0
"""Extra specs: what each value asks for, and what the error says of a value that cannot be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightos.openstack.cinder.qos import InvalidQosSpecs, Limit, LimitKind
from lightos.openstack.cinder.volume_types import (
    InvalidSpec,
    VolumeSpecs,
    check_source_project,
    parse,
)

POLICY = "7D1F0F2F-1c1c-4d57-9a83-0d2c3d1a8a52"


def specs(extra_specs):
    return parse(extra_specs, default_replica_count=3, default_compression=False)


@pytest.mark.parametrize(
    ("extra_specs", "expected"),
    [
        (None, VolumeSpecs(replica_count=3, compression=False)),
        ({}, VolumeSpecs(replica_count=3, compression=False)),
        ({"multiattach": "<is> True"}, VolumeSpecs(replica_count=3, compression=False)),
        ({"compression": "<is> True"}, VolumeSpecs(replica_count=3, compression=True)),
        ({"compression": "<is> False"}, VolumeSpecs(replica_count=3, compression=False)),
        ({"compression": "true"}, VolumeSpecs(replica_count=3, compression=True)),
        ({"lightos:num_replicas": "1"}, VolumeSpecs(replica_count=1, compression=False)),
        (
            {"lightos:project_name": "tenant-a.1"},
            VolumeSpecs(replica_count=3, compression=False, project="tenant-a.1"),
        ),
        (
            {"lightos:qos_policy": POLICY},
            VolumeSpecs(replica_count=3, compression=False, qos_policy_uuid=POLICY.lower()),
        ),
        (
            {"lightos:qos_policy": "gold"},
            VolumeSpecs(replica_count=3, compression=False, qos_policy_name="gold"),
        ),
    ],
)
def test_parse(extra_specs, expected):
    assert specs(extra_specs) == expected


@pytest.mark.parametrize(
    ("spec", "value", "legal"),
    [
        ("compression", "maybe", "'<is> True' or '<is> False'"),
        ("compression", "<is>", "'<is> True' or '<is> False'"),
        ("compression", "", "'<is> True' or '<is> False'"),
        ("lightos:num_replicas", "0", "1 to 3"),
        ("lightos:num_replicas", "4", "1 to 3"),
        ("lightos:num_replicas", "two", "1 to 3"),
        ("lightos:num_replicas", "²", "1 to 3"),
        ("lightos:project_name", "", "1 to 253 of"),
        ("lightos:project_name", "../system", "1 to 253 of"),
        ("lightos:project_name", "a b", "1 to 253 of"),
        ("lightos:project_name", "a" * 254, "1 to 253 of"),
        ("lightos:qos_policy", "", "UUID or the name"),
        ("lightos:qos_policy", "a b", "UUID or the name"),
        ("lightos:qos", "gold", "only lightos:num_replicas, lightos:qos_policy"),
    ],
)
def test_the_error_names_spec_value_and_legal_values(spec, value, legal):
    with pytest.raises(InvalidSpec) as raised:
        specs({spec: value})
    assert repr(spec) in str(raised.value)
    assert repr(value) in str(raised.value)
    assert legal in str(raised.value)


def test_a_policy_and_a_limit_exclude_each_other():
    limit = Limit(LimitKind.IOPS, 256)
    found = parse({}, limit, default_replica_count=3, default_compression=False)
    assert found.qos_limit == limit
    assert found.has_qos
    with pytest.raises(InvalidQosSpecs, match=r"'lightos:qos_policy' and QoS spec 'total_iops_sec"):
        parse(
            {"lightos:qos_policy": "gold"},
            limit,
            default_replica_count=3,
            default_compression=False,
        )


def test_a_source_in_another_project_is_refused_with_both_names():
    found = specs({"lightos:project_name": "tenant"})
    check_source_project(found, "tenant")
    with pytest.raises(InvalidSpec, match="'tenant'; legal: 'default'"):
        check_source_project(found, "default")


NAMES = ["compression", "lightos:num_replicas", "lightos:project_name", "lightos:qos_policy"]


@given(st.dictionaries(st.sampled_from(NAMES), st.text(max_size=70)))
def test_any_text_gives_usable_specs_or_a_clear_error(extra_specs):
    try:
        found = specs(extra_specs)
    except InvalidSpec as error:
        refused = error.spec
    else:
        refused = None
        assert 1 <= found.replica_count <= 3
        assert " " not in found.project
        assert not (found.qos_policy_uuid and found.qos_policy_name)
    assert refused is None or refused in extra_specs
