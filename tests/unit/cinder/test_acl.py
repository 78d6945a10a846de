# SPDX-License-Identifier: Apache-2.0
"""Who is admitted, who stays, who leaves: the access lists as tables and as properties."""

import itertools

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lightos.api.models.values import ALLOW_ANY, ALLOW_NONE
from lightos.openstack.cinder.acl import (
    ANYONE,
    MAX_ADDRESSES,
    MAX_ADDRESSES_PER_HOST,
    NOBODY,
    Access,
    Host,
    NoRoom,
    admit,
    closed,
    dismiss,
    nearest_first,
    usable,
)

A = Host("nqn.2014-08.org.nvmexpress:uuid:a", ("192.168.75.101",))
B = Host("nqn.2014-08.org.nvmexpress:uuid:b", ("192.168.75.102",))
DATA = ("192.168.75.11", "192.168.75.12")


@pytest.mark.parametrize(
    ("before", "filter_addresses", "after"),
    [
        (Access(NOBODY, NOBODY), True, Access((A.nqn,), A.addresses)),
        (Access(NOBODY, ANYONE), False, Access((A.nqn,), ANYONE)),
        # The filter was switched off: addresses must not shut anyone out any more.
        (Access((B.nqn,), B.addresses), False, Access((B.nqn, A.nqn), ANYONE)),
        # It was switched on: the open list closes around those whom Cinder knows.
        (Access((B.nqn,), ANYONE), True, Access((B.nqn, A.nqn), B.addresses + A.addresses)),
        (Access(ANYONE, ANYONE), True, Access((B.nqn, A.nqn), B.addresses + A.addresses)),
        (Access((B.nqn,), B.addresses), True, Access((B.nqn, A.nqn), B.addresses + A.addresses)),
        # Already in.
        (Access((A.nqn, B.nqn), ("192.168.75.101", "192.168.75.102")), True, None),
    ],
)
def test_admit(before, filter_addresses, after):
    got = admit(before, A, neighbours=[B], filter_addresses=filter_addresses, data_addresses=DATA)
    assert got == (after or before)


@pytest.mark.parametrize(
    ("before", "filter_addresses", "after"),
    [
        (Access((A.nqn,), A.addresses), True, Access(NOBODY, NOBODY)),
        (Access((A.nqn,), ANYONE), False, Access(NOBODY, ANYONE)),
        (Access((A.nqn, B.nqn), A.addresses + B.addresses), True, Access((B.nqn,), B.addresses)),
        (Access((A.nqn, B.nqn), A.addresses + B.addresses), False, Access((B.nqn,), ANYONE)),
        (Access((A.nqn, B.nqn), ANYONE), True, Access((B.nqn,), ANYONE)),
        (Access(ANYONE, ANYONE), True, Access((B.nqn,), ANYONE)),
        # Not there: nothing changes, whatever the addresses are.
        (Access((B.nqn,), A.addresses + B.addresses), True, None),
        (Access(NOBODY, NOBODY), False, None),
    ],
)
def test_dismiss(before, filter_addresses, after):
    got = dismiss(
        before,
        A,
        neighbours=[B] if B.nqn in before.hosts or before.hosts == ANYONE else [],
        filter_addresses=filter_addresses,
    )
    assert got == (after or before)


def test_an_address_that_another_host_shares_stays():
    """Defect 10: hosts behind one address, or with the same bridge address."""
    shared = "10.0.0.1"
    one, other = Host("nqn.1", (shared, "10.0.0.2")), Host("nqn.2", (shared, "10.0.0.3"))
    both = Access((one.nqn, other.nqn), (shared, "10.0.0.2", "10.0.0.3"))
    after = dismiss(both, one, neighbours=[one, other], filter_addresses=True)
    assert after == Access((other.nqn,), (shared, "10.0.0.3"))


def test_an_attached_host_is_never_evicted():
    """Defect 10: a full list refuses the next host and keeps everyone."""
    full = Access(("nqn.1",), tuple(f"10.0.0.{n}" for n in range(1, MAX_ADDRESSES + 1)))
    with pytest.raises(NoRoom, match=r"none is left for 192\.168\.75\.101 of host .*uuid:a"):
        admit(full, A, filter_addresses=True)


def test_sharing_a_useless_address_does_not_count_as_room():
    """Every host has its container bridge's address; that does not carry its data."""
    bridge = "172.17.0.1"
    full = Access(("nqn.1",), (bridge, *(f"10.0.0.{n}" for n in range(1, MAX_ADDRESSES))))
    host = Host("nqn.2", (bridge, "192.168.75.101"))
    with pytest.raises(NoRoom):
        admit(full, host, filter_addresses=True, data_addresses=DATA)


def test_the_addresses_nearest_to_the_nodes_are_taken():
    many = tuple(f"172.{n}.0.1" for n in range(16, 36))
    host = Host("nqn.1", (*many, "192.168.75.101", "fe80::1%eth0", "127.0.0.1"))
    addresses = admit(
        closed(filter_addresses=True), host, filter_addresses=True, data_addresses=DATA
    ).addresses
    assert addresses[0] == "192.168.75.101"
    assert len(addresses) == MAX_ADDRESSES_PER_HOST


def test_two_hosts_fit_whatever_addresses_they_have():
    """A live migration needs both."""
    hosts = [Host(f"nqn.{n}", tuple(f"10.{n}.0.{m}" for m in range(1, 30))) for n in (1, 2)]
    access = closed(filter_addresses=True)
    for host in hosts:
        access = admit(access, host, filter_addresses=True)
    assert access.hosts == ("nqn.1", "nqn.2")
    assert {address.split(".")[1] for address in access.addresses} == {"1", "2"}


def test_an_open_list_is_not_closed_over_a_host_without_room():
    neighbours = [Host(f"nqn.{n}", (f"10.0.1.{n}",)) for n in range(1, MAX_ADDRESSES + 1)]
    opened = Access(tuple(host.nqn for host in neighbours), ANYONE)
    with pytest.raises(NoRoom, match=r"would cut off nqn\.16"):
        admit(opened, A, neighbours=neighbours, filter_addresses=True)


@pytest.mark.parametrize("addresses", [(), ("fe80::1",), ("127.0.0.1", "::1", "bogus")])
def test_a_host_without_usable_address_is_refused(addresses):
    with pytest.raises(NoRoom, match="no IP address"):
        admit(closed(filter_addresses=True), Host("nqn.1", addresses), filter_addresses=True)


def test_usable_addresses_are_normalised_and_told_once():
    given_ = ["10.0.0.1", "fd00:0::0001", "FD00::1", "fe80::1%eth0", "0.0.0.0", "::", "224.0.0.1"]
    assert usable(given_) == ("10.0.0.1", "fd00::1")


def test_nearest_first_compares_within_one_family():
    addresses = ["fd00::9", "10.0.0.9", "192.168.75.9", "fd00:1::9"]
    assert nearest_first(addresses, ("192.168.75.11", "fd00:1::1")) == (
        "192.168.75.9",
        "fd00:1::9",
        "10.0.0.9",
        "fd00::9",
    )


hosts = st.builds(
    Host,
    st.sampled_from([f"nqn.2014-08.org.nvmexpress:uuid:{n}" for n in range(6)]),
    st.lists(
        st.sampled_from([f"10.0.0.{n}" for n in range(1, 8)] + ["fd00::1"]),
        min_size=1,
        max_size=4,
        unique=True,
    ).map(tuple),
)


@given(st.lists(hosts, max_size=12), st.booleans())
def test_exactly_those_attached_have_access(moves, filter_addresses):
    """Whatever the order of attaches and detaches, the lists hold who is attached, no more."""
    attached: dict[str, Host] = {}
    access = closed(filter_addresses=filter_addresses)
    for host in moves:
        if host.nqn in attached:
            left = attached.pop(host.nqn)
            access = dismiss(
                access,
                left,
                neighbours=attached.values(),
                filter_addresses=filter_addresses,
            )
        else:
            access = admit(access, host, filter_addresses=filter_addresses)
            attached[host.nqn] = host
        assert set(access.hosts) == (set(attached) or {ALLOW_NONE})
        wanted = set(itertools.chain.from_iterable(h.addresses for h in attached.values()))
        assert set(access.addresses) == (
            (wanted or {ALLOW_NONE}) if filter_addresses else {ALLOW_ANY}
        )
        assert len(set(access.addresses)) == len(access.addresses) <= MAX_ADDRESSES


@given(hosts, hosts, st.booleans())
def test_admitting_and_dismissing_again_changes_nothing(host, other, filter_addresses):
    assume(host.nqn != other.nqn)
    before = admit(
        closed(filter_addresses=filter_addresses), other, filter_addresses=filter_addresses
    )
    once = admit(before, host, filter_addresses=filter_addresses)
    assert admit(once, host, filter_addresses=filter_addresses) == once
    assert dismiss(once, host, neighbours=[other], filter_addresses=filter_addresses) == before


@given(st.lists(hosts, unique_by=lambda host: host.nqn, min_size=2))
def test_the_order_of_attaches_does_not_decide_who_has_access(attaching):
    def lists(order):
        access = closed(filter_addresses=True)
        for host in order:
            access = admit(access, host, filter_addresses=True)
        return set(access.hosts), set(access.addresses)

    assert lists(attaching) == lists(reversed(attaching))
