# SPDX-License-Identifier: Apache-2.0
"""QoS specs: the policy that each asks for, and what is said of those that none can hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightos.api.models.policies import (
    BandwidthLimit,
    IopsLimit,
    IopsPerGbLimit,
    Policy,
    PolicyVisibility,
)
from lightos.api.models.volumes import Volume
from lightos.openstack.cinder.qos import (
    LEGAL_KEYS,
    POLICY_DESCRIPTION,
    InvalidQosSpecs,
    Limit,
    LimitKind,
    PolicyRef,
    is_made_on_demand,
    limit_of,
)


@pytest.mark.parametrize("consumer", ["back-end", "both"])
@pytest.mark.parametrize(
    ("specs", "name", "limit"),
    [
        (
            {"total_iops_sec": "5120"},
            "cinder-iops-5120",
            IopsLimit(read_iops=5120, write_iops=5120),
        ),
        ({"total_iops_sec": "1"}, "cinder-iops-256", IopsLimit(read_iops=256, write_iops=256)),
        ({"total_iops_sec": "257"}, "cinder-iops-512", IopsLimit(read_iops=512, write_iops=512)),
        (
            {"total_bytes_sec": "100000000"},
            "cinder-mb-100",
            BandwidthLimit(read_mb_per_second=100, write_mb_per_second=100),
        ),
        (
            {"total_bytes_sec": str(100 * 2**20)},
            "cinder-mb-105",
            BandwidthLimit(read_mb_per_second=105, write_mb_per_second=105),
        ),
        (
            {"total_iops_sec_per_gb": " 10 "},
            "cinder-iops-per-gb-10",
            IopsPerGbLimit(read_iops_per_gb=10, write_iops_per_gb=10),
        ),
    ],
)
def test_what_specs_ask_for(consumer, specs, name, limit):
    found = limit_of(consumer, specs)
    assert found.policy_name == name
    assert found.rate_limit.limit == limit
    assert found.rate_limit.visibility is PolicyVisibility.GLOBAL
    assert found.is_that_of(Policy(rate_limit=found.rate_limit))


@pytest.mark.parametrize(
    ("consumer", "specs"),
    [("front-end", {"total_iops_sec": "100"}), ("front-end", {"any": "thing"}), ("both", {})],
)
def test_specs_that_ask_nothing_of_the_back_end(consumer, specs):
    assert limit_of(consumer, specs) is None


@pytest.mark.parametrize(
    ("specs", "named"),
    [
        ({"read_iops_sec": "100"}, "read_iops_sec"),
        ({"maxIOPS": "100", "minIOPS": "1"}, "maxIOPS, minIOPS"),
        ({"total_iops_sec": "256", "total_iops_sec_max": "512"}, "total_iops_sec_max"),
        ({"total_iops_sec": "256", "total_bytes_sec": "1"}, "total_bytes_sec and total_iops_sec"),
    ],
)
def test_keys_that_no_policy_holds_are_named_with_the_legal_ones(specs, named):
    with pytest.raises(InvalidQosSpecs) as raised:
        limit_of("back-end", specs)
    assert named in str(raised.value)
    assert all(key in str(raised.value) for key in LEGAL_KEYS)


@pytest.mark.parametrize("key", LEGAL_KEYS)
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", "", "²", "9" * 5000, None])
def test_a_bad_number_is_named_with_the_legal_ones(key, value):
    with pytest.raises(InvalidQosSpecs, match=rf"'{key}' is .*; legal: a whole number .* 1 to \d+"):
        limit_of("back-end", {key: value})


@given(st.sampled_from(LEGAL_KEYS), st.integers(min_value=1, max_value=2**32 // 256 * 256 - 256))
def test_a_limit_is_the_next_step_up(key, number):
    found = limit_of("both", {key: str(number)})
    asked = number / (1_000_000 if found.kind is LimitKind.BANDWIDTH else 1)
    step = 256 if found.kind is LimitKind.IOPS else 1
    assert asked <= found.amount < asked + step


def test_the_largest_limits():
    for key, most in (
        ("total_iops_sec", 2**32 - 256),
        ("total_bytes_sec", (2**32 - 1) * 1_000_000),
        ("total_iops_sec_per_gb", 2**32 - 1),
    ):
        assert limit_of("both", {key: str(most)}).amount <= 2**32 - 1
        with pytest.raises(InvalidQosSpecs, match=str(most)):
            limit_of("both", {key: str(most + 1)})


def test_a_policy_with_another_limit_is_not_that_one():
    limit = Limit(LimitKind.IOPS, 256)
    assert not limit.is_that_of(Policy())
    assert not limit.is_that_of(Policy(rate_limit=Limit(LimitKind.IOPS, 512).rate_limit))
    assert not limit.is_that_of(Policy(rate_limit=Limit(LimitKind.IOPS_PER_GB, 256).rate_limit))


@pytest.mark.parametrize(
    ("name", "description", "ours"),
    [
        ("cinder-iops-256", POLICY_DESCRIPTION, True),
        ("cinder-iops-256", "made by hand", False),
        ("gold", POLICY_DESCRIPTION, False),
    ],
)
def test_only_policies_made_on_demand_are_deleted_again(name, description, ours):
    assert is_made_on_demand(Policy(name=name, description=description)) is ours


@pytest.mark.parametrize(
    ("policy", "uuid", "name", "change"),
    [
        (PolicyRef(uuid="A"), "a", "gold", {}),
        (PolicyRef(uuid="A"), "b", "gold", {"qos_policy_uuid": "A"}),
        (PolicyRef(name="gold"), "a", "gold", {}),
        (PolicyRef(name="gold"), "", "", {"qos_policy_name": "gold"}),
        (PolicyRef(), "", "", {}),
        (PolicyRef(), "a", "gold", {"qos_policy_uuid": ""}),
    ],
)
def test_the_change_to_a_policy(policy, uuid, name, change):
    assert policy.change_of(Volume(qos_policy_uuid=uuid, qos_policy_name=name)) == change
