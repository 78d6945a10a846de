# SPDX-License-Identifier: Apache-2.0
"""The pure half of the daemon, as tables of literals."""

from __future__ import annotations

from uuid import UUID

import pytest

from lightos.discovery.desired import (
    Cluster,
    ControllerPath,
    Demand,
    Endpoint,
    Record,
    RecordKind,
    demands,
    discovery_endpoints,
    wanted_paths,
)
from lightos.discovery.entries import DiscoveryEntry
from lightos.discovery.host_identity import HostIdentity, host_id_for
from lightos.discovery.reconcile import Actions, KernelController, reconcile

HOST = "nqn.2014-08.org.nvmexpress:uuid:11111111-1111-4111-8111-111111111111"
HOST_UUID = UUID("11111111-1111-4111-8111-111111111111")
OTHER_HOST = "nqn.2014-08.com.example:other"
A = Cluster(HOST, "nqn.2016-01.com.lightbitslabs:a")
B = Cluster(HOST, "nqn.2016-01.com.lightbitslabs:b")


def entry(address: str, cluster: Cluster = A, **more: object) -> DiscoveryEntry:
    return DiscoveryEntry(
        address,
        8009,
        cluster.host_nqn,
        cluster.subsystem_nqn,
        **more,  # type: ignore[arg-type]
    )


def io(address: str, nqn: str = A.subsystem_nqn) -> Record:
    return Record(RecordKind.IO, Endpoint(address, 4420), nqn)


def referral(address: str) -> Record:
    nqn = "nqn.2014-08.org.nvmexpress.discovery"
    return Record(RecordKind.REFERRAL, Endpoint(address, 8009), nqn)


def path(address: str, cluster: Cluster = A) -> ControllerPath:
    return ControllerPath(cluster, Endpoint(address, 4420))


def test_files_unite_into_one_demand_per_cluster() -> None:
    files = {
        "b.conf": [entry("10.0.0.2"), entry("10.0.0.1", host_id=UUID(int=9))],
        "a.conf": [entry("10.0.0.3", ctrl_loss_timeout_seconds=0), entry("10.0.0.2")],
        "c.conf": [entry("10.0.0.9", B), entry("10.0.0.3", ctrl_loss_timeout_seconds=60)],
        "empty.conf": [],
    }
    three = tuple(Endpoint(f"10.0.0.{n}", 8009) for n in (3, 2, 1))
    assert demands(files) == {
        A: Demand(three, UUID(int=9), 0),
        B: Demand((Endpoint("10.0.0.9", 8009),)),
    }


def test_referrals_follow_the_services_of_the_files() -> None:
    one, two, three, four = (Endpoint(f"10.0.0.{n}", 8009) for n in (1, 2, 3, 4))
    demand = Demand((two,))
    records = [referral("10.0.0.3"), io("10.0.0.7"), referral("10.0.0.1"), referral("10.0.0.2")]
    assert discovery_endpoints(demand, {}) == (two,)
    assert discovery_endpoints(demand, {two: records}) == (two, one, three)
    further = {two: [referral("10.0.0.3")], three: [referral("10.0.0.4")], one: records}
    assert discovery_endpoints(demand, further) == (two, three, four)


def test_only_io_controllers_of_the_named_subsystem_are_wanted() -> None:
    records = [io("10.0.0.1"), io("10.0.0.2", B.subsystem_nqn), referral("10.0.0.3")]
    assert wanted_paths(A, records) == {path("10.0.0.1")}


def controller(name: str, where: ControllerPath, state: str = "live") -> KernelController:
    return KernelController(name, where, state)


ONE, TWO = path("10.0.0.1"), path("10.0.0.2")


@pytest.mark.parametrize(
    ("wanted", "actual", "demanded", "made_here", "actions"),
    [
        pytest.param([], [], [], [], Actions(), id="nothing"),
        pytest.param([TWO, ONE], [], [A], [], Actions(connect=(ONE, TWO)), id="connect"),
        pytest.param([ONE], [controller("nvme0", ONE)], [A], [], Actions(), id="adopt another's"),
        pytest.param(
            [ONE],
            [controller("nvme0", ONE, "connecting")],
            [A],
            [ONE],
            Actions(),
            id="the kernel reconnects",
        ),
        pytest.param(
            [ONE],
            [controller("nvme0", ONE, "deleting")],
            [A],
            [ONE],
            Actions(connect=(ONE,)),
            id="being deleted counts as gone",
        ),
        pytest.param(
            [ONE],
            [controller("nvme0", path("10.0.0.1", B))],
            [A],
            [],
            Actions(connect=(ONE,)),
            id="same address, other subsystem",
        ),
        pytest.param(
            [],
            [controller("nvme0", ONE), controller("nvme1", TWO)],
            [],
            [ONE],
            Actions(disconnect=(controller("nvme0", ONE),)),
            id="only our own are disconnected",
        ),
        pytest.param(
            [], [controller("nvme0", ONE)], [A], [ONE], Actions(), id="left the log, still demanded"
        ),
        pytest.param(
            [ONE],
            [controller("nvme0", ONE), controller("nvme7", path("10.0.0.1", B))],
            [A],
            [ONE, path("10.0.0.1", B)],
            Actions(disconnect=(controller("nvme7", path("10.0.0.1", B)),)),
            id="one cluster of two",
        ),
        pytest.param(
            [], [controller("nvme0", ONE, "dead")], [], [ONE], Actions(), id="dead is left alone"
        ),
    ],
)  # fmt: skip
def test_reconciliation(
    wanted: list[ControllerPath],
    actual: list[KernelController],
    demanded: list[Cluster],
    made_here: list[ControllerPath],
    actions: Actions,
) -> None:
    assert reconcile(wanted, actual, demanded=set(demanded), made_here=set(made_here)) == actions


IN_USE = UUID(int=1)
ASKED = UUID(int=2)
ETC = UUID(int=3)


@pytest.mark.parametrize(
    ("connected", "requested", "configured", "chosen"),
    [
        ([(HOST, IN_USE)], ASKED, (HOST, ETC), IN_USE),
        ([(OTHER_HOST, IN_USE)], ASKED, (HOST, ETC), ASKED),
        ([], None, (HOST, ETC), ETC),
        ([], None, (OTHER_HOST, ETC), HOST_UUID),
        ([], None, None, HOST_UUID),
    ],
)
def test_host_id_goes_with_the_host_nqn(
    connected: list[tuple[str, UUID]],
    requested: UUID | None,
    configured: tuple[str, UUID] | None,
    chosen: UUID,
) -> None:
    assert (
        host_id_for(
            HOST,
            connected=[HostIdentity(*pair) for pair in connected],
            requested=requested,
            configured=HostIdentity(*configured) if configured else None,
        )
        == chosen
    )


@pytest.mark.parametrize(
    ("host_nqn", "connected"),
    [
        (HOST, [HostIdentity(OTHER_HOST, HOST_UUID)]),
        (OTHER_HOST, []),
        (f"nqn.2014-08.org.nvmexpress:uuid:{'-' * 4}{'0' * 32}", []),
        (f"nqn.2014-08.org.nvmexpress:uuid:{'0' * 36}", []),
    ],
)
def test_a_derived_host_id_is_stable_and_nobody_elses(
    host_nqn: str, connected: list[HostIdentity]
) -> None:
    chosen = [
        host_id_for(host_nqn, connected=connected, requested=None, configured=None)
        for _ in range(2)
    ]
    assert chosen[0] == chosen[1]
    assert chosen[0] != HOST_UUID
    assert chosen[0].version == 5
