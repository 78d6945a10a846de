# SPDX-License-Identifier: Apache-2.0
"""The client over real HTTPS: failover, lost replies, ETags, and what counts as evidence."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lightos.api import client as client_module
from lightos.api import errors
from lightos.api.client import LightOSClient
from lightos.api.credentials import TokenFile
from lightos.api.models.policies import (
    BandwidthLimit,
    CreatePolicy,
    IopsLimit,
    IopsPerGbLimit,
    PolicyVisibility,
    RateLimit,
    UpdatePolicy,
)
from lightos.api.models.projects import CreateProject, DefaultPolicy, PolicyType
from lightos.api.models.snapshots import CreateSnapshot, LbaRange, SnapshotState
from lightos.api.models.values import ALLOW_NONE
from lightos.api.models.volumes import CreateVolume, UpdateVolume, VolumeState
from lightos.waiting import SYSTEM_CLOCK
from tests.unit.api.conftest import Serve, unsigned_token
from tests.unit.api.fake_cluster import FakeCluster, answers, lost_after, lost_before
from tests.unit.api.https_server import Answer, HttpsServer, Seen, refusal, reply
from tests.unit.clock import FakeClock

TOKEN = "eyJhbGciOiJSUzI1NiJ9.c2VjcmV0.c2lnbmF0dXJl"
OLD = TOKEN
NEW = "eyJhbGciOiJSUzI1NiJ9.bmV3.c2lnbmF0dXJl"
VOLUME = CreateVolume(name="v", size_bytes=1 << 30, acl=(ALLOW_NONE,), replica_count=3)
Connect = Callable[..., LightOSClient]


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def server(serve: Serve, cluster: FakeCluster) -> HttpsServer:
    return serve(cluster)


@pytest.fixture
def connect(ca_file: str, clock: FakeClock) -> Iterator[Connect]:
    """Make clients whose pauses take no time; the sockets are real."""
    made: list[LightOSClient] = []

    def make(
        server: HttpsServer, addresses: tuple[str, ...] = ("127.0.0.1",), **more: Any
    ) -> LightOSClient:
        options = {"jwt": TOKEN, "verify": ca_file, "clock": clock} | more
        jwt = options.pop("jwt")
        made.append(LightOSClient.connect(addresses, server.port, jwt, **options))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def client(connect: Connect, server: HttpsServer) -> LightOSClient:
    return connect(server)


# --- reading -----------------------------------------------------------------------------------


def test_an_object_by_uuid_and_by_name(client: LightOSClient, cluster: FakeCluster) -> None:
    volume = cluster.add_volume(name="v")
    deadline = client.deadline(30)
    assert client.get_version(deadline).api_version == "v2.0"
    assert client.get_volume("default", volume.uuid, deadline) == volume
    assert client.get_volume_by_name("default", "v", deadline) == volume
    with pytest.raises(errors.NotFound, match="GetVolume of volume w of project default failed"):
        client.get_volume_by_name("default", "w", deadline)


def test_one_connection_serves_many_calls(
    client: LightOSClient, cluster: FakeCluster, server: HttpsServer
) -> None:
    volume = cluster.add_volume(name="v")
    for _ in range(10):
        client.get_volume("default", volume.uuid, client.deadline(30))
    assert (len(server.requests), server.connections) == (10, 1)


def test_lists_are_read_to_their_end(
    client: LightOSClient, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MAX_LIST_LIMIT", 3)
    volumes = [cluster.add_volume(name=f"v{index}") for index in range(7)]
    deadline = client.deadline(30)
    assert list(client.list_volumes("default", deadline)) == volumes
    assert cluster.calls == ["ListVolumes"] * 3
    assert list(client.list_volumes(None, deadline)) == volumes
    assert list(client.list_snapshots("default", deadline)) == []


def test_pages_that_do_not_advance_end_in_an_error(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MAX_LIST_LIMIT", 1)
    client = connect(serve(lambda _: reply({"volumes": [{"UUID": "u"}]})))
    with pytest.raises(errors.ServerFault, match=r"ListVolumes of .* do not advance"):
        list(client.list_volumes("default", client.deadline(30)))


def test_changed_blocks_are_read_to_their_end(serve: Serve, connect: Connect) -> None:
    pages = {
        "": {"lbaRanges": [{"lbaEnd": "3"}], "nextOffsetLBA": "128"},
        "128": {"nextOffsetLBA": "200"},
        "200": {"lbaRanges": [{"lbaStart": "192", "lbaEnd": "255", "dataBitMap": "/w=="}]},
    }
    asked = []

    def answer(seen: Seen) -> Answer:
        asked.append((seen.path, seen.query))
        return reply(pages[seen.query.get("offsetLBA", [""])[0]])

    client = connect(serve(answer))
    found = list(client.list_changed_blocks("p", "s", client.deadline(30), base_uuid="b"))
    assert found == [
        LbaRange(lba_end=3),
        LbaRange(lba_start=192, lba_end=255, data_bitmap=b"\xff"),
    ]
    assert {path for path, _ in asked} == {"/api/v2/projects/p/snapshots/diff/s"}
    assert [query["baseSnapshotUUID"] for _, query in asked] == [["b"]] * 3


def test_changed_blocks_that_do_not_advance_end_in_an_error(serve: Serve, connect: Connect) -> None:
    client = connect(serve(lambda _: reply({"nextOffsetLBA": "64"})))
    with pytest.raises(errors.ServerFault, match=r"ListChangedBlocks of .* do not advance"):
        list(client.list_changed_blocks("p", "s", client.deadline(30)))


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refusal(400, 3, "unrelated snapshots"), errors.Refused),
        (refusal(403, 7, "no"), errors.Forbidden),
        (refusal(404, 5, "no such snapshot"), errors.NotFound),
        (refusal(501, 12, "not on this cluster"), errors.Refused),
        (reply({"lbaRanges": [{"lbaStart": "first"}]}), errors.ServerFault),
    ],
)
def test_changed_blocks_that_the_cluster_does_not_tell(
    serve: Serve, connect: Connect, answer: Answer, error: type[errors.LightOSError]
) -> None:
    client = connect(serve(lambda _: answer))
    with pytest.raises(error, match=r"ListChangedBlocks of snapshot s of project p"):
        list(client.list_changed_blocks("p", "s", client.deadline(30)))


@pytest.mark.parametrize(
    "answer",
    [
        Answer(body=b"<html>sign in</html>"),
        Answer(body=b""),
        reply([]),
        reply({}),
        reply({"volumes": []}),
        reply({"UUID": "another", "name": "v"}),
        reply({"UUID": "u", "size": "big"}),
        Answer(302, headers={"Location": "/"}),
    ],
)
def test_a_reply_of_something_else_is_no_volume(
    serve: Serve, connect: Connect, answer: Answer
) -> None:
    client = connect(serve(lambda _: answer))
    with pytest.raises(errors.ServerFault):
        client.get_volume("default", "u", client.deadline(30))


@pytest.mark.parametrize("answer", [reply({}), Answer(body=b"not json"), reply({"UUID": "u"})])
def test_a_reply_of_something_else_is_no_new_volume(
    serve: Serve, connect: Connect, answer: Answer
) -> None:
    client = connect(serve(lambda _: answer))
    with pytest.raises(errors.ServerFault):
        client.create_volume("default", VOLUME, client.deadline(30))


@pytest.mark.parametrize("body", [b"Not Found\n", b"<html>", b""])
def test_a_404_of_something_else_is_not_not_found(
    serve: Serve, connect: Connect, body: bytes
) -> None:
    client = connect(serve(lambda _: Answer(404, body)))
    with pytest.raises(errors.Refused):
        client.get_volume("default", "u", client.deadline(30))


def test_nothing_is_sent_for_an_object_without_a_name(
    client: LightOSClient, server: HttpsServer
) -> None:
    deadline = client.deadline(30)
    for call in (
        lambda: client.get_volume("default", "", deadline),
        lambda: client.get_volume("", "u", deadline),
        lambda: client.delete_volume("default", "", deadline),
        lambda: client.delete_snapshot("default", "", deadline),
        lambda: client.get_volume("..", "u", deadline),
    ):
        with pytest.raises(ValueError, match=r"is empty|cannot be part of a path"):
            call()
    assert server.requests == []


# --- addresses ---------------------------------------------------------------------------------


def test_a_dead_address_is_left_for_the_next_and_not_asked_again(
    connect: Connect,
    cluster: FakeCluster,
    serve: Serve,
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = serve(cluster, "127.0.0.2")
    client = connect(server, ("127.0.0.1", "127.0.0.2"))
    for _ in range(5):
        client.get_version(client.deadline(30))
    assert len(server.requests) == 5
    assert clock.slept == []
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [record.getMessage() for record in warnings] == [
        "API address 127.0.0.1 gave no answer: Connection refused"
    ]


@pytest.mark.parametrize(
    "answer",
    [
        None,
        refusal(503, 14, "unavailable"),
        Answer(503, b"<html>"),
        Answer(502, b"<html>"),
        refusal(500, 13, "internal"),
        Answer(body=b"{}", cut=1),
    ],
)
def test_a_read_goes_to_the_next_address(
    connect: Connect, cluster: FakeCluster, serve: Serve, answer: Answer | None
) -> None:
    bad = serve(lambda _: answer)
    good = serve(cluster, "127.0.0.2", bad.port)
    client = connect(good, ("127.0.0.1", "127.0.0.2"))
    assert client.get_version(client.deadline(30)).api_version == "v2.0"
    assert (len(bad.requests), len(good.requests)) == (1, 1)
    client.get_version(client.deadline(30))
    assert (len(bad.requests), len(good.requests)) == (1, 2)


def test_nobody_there_is_said_at_once_to_whoever_is_not_patient(
    connect: Connect, server: HttpsServer, clock: FakeClock
) -> None:
    client = connect(server, ("127.0.0.5", "127.0.0.6"))
    with pytest.raises(errors.Unreachable, match=r"127\.0\.0\.5: .*; 127\.0\.0\.6: "):
        client.get_cluster_info(client.deadline(30), patient=False)
    assert clock.slept == []


def test_addresses_that_the_cluster_tells_are_used_and_forgotten(
    connect: Connect, cluster: FakeCluster, serve: Serve
) -> None:
    first = serve(cluster)
    second = serve(cluster, "127.0.0.2", first.port)
    told = [f"127.0.0.2:{first.port}", "127.0.0.3:1", "not an address"]
    first.script = lambda seen: (
        reply({"UUID": "u", "apiEndpoints": told}) if "clusterinfo" in seen.path else cluster(seen)
    )
    client = connect(first)
    client.get_cluster_info(client.deadline(30))
    assert repr(client) == "LightOSClient(127.0.0.1, 127.0.0.2)"

    first.script = lambda _: None
    client.get_version(client.deadline(30))
    assert len(second.requests) == 1

    second.script = lambda _: reply({"UUID": "u", "apiEndpoints": [f"127.0.0.3:{first.port}"]})
    client.get_cluster_info(client.deadline(30))
    assert repr(client) == "LightOSClient(127.0.0.1, 127.0.0.3)"


def test_a_told_address_is_not_given_the_token_unless_its_certificate_is_trusted(
    connect: Connect, cluster: FakeCluster, serve: Serve
) -> None:
    right = serve(cluster)
    wrong = serve(cluster, "127.0.0.4", right.port)  # its certificate names others
    told = [f"127.0.0.4:{right.port}"]
    right.script = lambda seen: reply({"UUID": "u", "apiEndpoints": told})
    client = connect(right)
    client.get_cluster_info(client.deadline(30))
    asked = len(right.requests)
    right.script = lambda _: None
    with pytest.raises(errors.LightOSError):
        client.get_version(client.deadline(5))
    assert len(right.requests) > asked
    assert wrong.connections > 0
    assert wrong.requests == []


def test_a_silent_address_costs_one_request_timeout(
    connect: Connect, cluster: FakeCluster, serve: Serve
) -> None:
    silence = threading.Event()

    def wait(_: Seen) -> None:
        silence.wait(10)

    silent = serve(wait)
    good = serve(cluster, "127.0.0.2", silent.port)
    client = connect(good, ("127.0.0.1", "127.0.0.2"), request_timeout_seconds=0.2)
    client.get_version(client.deadline(30))
    silence.set()
    assert (len(silent.requests), len(good.requests)) == (1, 1)


def test_nobody_there_is_said_for_each_address_at_the_deadline(
    connect: Connect, server: HttpsServer, clock: FakeClock
) -> None:
    client = connect(server, ("127.0.0.5", "127.0.0.6"))
    started = clock.now
    with pytest.raises(errors.Unreachable) as caught:
        client.get_version(client.deadline(10))
    assert "127.0.0.5: Connection refused; 127.0.0.6: Connection refused" in str(caught.value)
    assert clock.now == started + 10
    assert len(clock.slept) < 25


def test_a_cluster_that_comes_back_before_the_deadline_is_found(
    connect: Connect, cluster: FakeCluster, serve: Serve, clock: FakeClock
) -> None:
    server = serve(cluster)
    port = server.port
    server.close()
    client = connect(server)
    real_sleep = clock.sleep

    def sleep(seconds: float) -> None:
        real_sleep(seconds)
        if len(clock.slept) == 3:
            serve(cluster, "127.0.0.1", port)

    clock.sleep = sleep  # type: ignore[method-assign]
    assert client.get_version(client.deadline(30)).api_version == "v2.0"


def test_an_untrusted_cluster_is_refused_at_once(
    connect: Connect, cluster: FakeCluster, serve: Serve, clock: FakeClock, other_ca_file: str
) -> None:
    first = serve(cluster)
    serve(cluster, "127.0.0.2", first.port)
    client = connect(first, ("127.0.0.1", "127.0.0.2"), verify=other_ca_file)
    with pytest.raises(errors.Untrusted, match="Check the CA file"):
        client.get_version(client.deadline(30))
    assert clock.slept == []
    assert cluster.calls == []


def test_one_untrusted_address_is_left_for_a_trusted_one(
    connect: Connect, cluster: FakeCluster, serve: Serve
) -> None:
    wrong = serve(cluster, "127.0.0.4")
    right = serve(cluster, "127.0.0.2", wrong.port)
    client = connect(right, ("127.0.0.4", "127.0.0.2"))
    client.get_version(client.deadline(30))
    assert (len(wrong.requests), len(right.requests)) == (0, 1)


def test_a_deadline_that_has_passed_sends_nothing(
    client: LightOSClient, server: HttpsServer
) -> None:
    with pytest.raises(errors.TimedOut, match="had passed before the request"):
        client.get_version(client.deadline(0))
    assert server.requests == []


# --- busy, and refused for good ----------------------------------------------------------------


def test_a_busy_cluster_is_asked_again_with_growing_pauses(
    client: LightOSClient, cluster: FakeCluster, clock: FakeClock
) -> None:
    volume = cluster.add_volume(name="v")
    cluster.faults = [("DELETE", answers(503, 14))] * 3
    client.delete_volume("default", volume.uuid, client.deadline(30))
    assert clock.slept == [0.05, 0.1, 0.2]
    assert cluster.volumes == {}


def test_busy_until_the_deadline_is_raised_as_such(
    client: LightOSClient, cluster: FakeCluster, clock: FakeClock
) -> None:
    volume = cluster.add_volume(name="v")
    cluster.faults = [("DELETE", answers(503, 14, "updating"))] * 100
    started = clock.now
    with pytest.raises(errors.Busy, match="updating"):
        client.delete_volume("default", volume.uuid, client.deadline(10))
    assert clock.now == started + 10
    assert volume.uuid in cluster.volumes


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, 3, errors.Refused),
        (400, 9, errors.WrongState),
        (401, 16, errors.Unauthorized),
        (403, 7, errors.Forbidden),
        (409, 6, errors.AlreadyExists),
        (500, 13, errors.ServerFault),
        (501, 12, errors.Refused),
    ],
)
def test_a_write_that_is_refused_is_not_sent_again(
    client: LightOSClient,
    cluster: FakeCluster,
    status: int,
    code: int,
    expected: type[errors.LightOSError],
) -> None:
    cluster.faults = [("POST", answers(status, code))]
    with pytest.raises(expected):
        client.create_volume("default", VOLUME, client.deadline(30))
    assert cluster.calls == ["CreateVolume"]


# --- the token ---------------------------------------------------------------------------------


def write_token(file: Path, token: str) -> None:
    """Replace a token file as one should: in one step."""
    partial = file.with_suffix(".new")
    partial.write_text(f"{token}\n")
    partial.chmod(0o600)
    partial.replace(file)


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "cinder.jwt"
    write_token(file, OLD)
    return file


def only(*tokens: str) -> Callable[[Seen], Answer]:
    """A cluster that knows these tokens and no others."""

    def script(seen: Seen) -> Answer:
        if seen.headers["Authorization"].removeprefix("Bearer ") in tokens:
            return reply({"apiVersion": "v2.0"})
        return refusal(401, 16, "token is not valid")

    return script


def test_a_rotated_token_is_used_without_a_restart(
    serve: Serve, connect: Connect, token_file: Path
) -> None:
    server = serve(only(OLD))
    client = connect(server, jwt=TokenFile(token_file))
    client.get_version(client.deadline(30))
    server.script = only(NEW)
    write_token(token_file, NEW)
    client.get_version(client.deadline(30))
    assert len(server.requests) == 2


def test_a_token_that_is_refused_is_read_again_even_if_its_file_looks_the_same(
    serve: Serve, connect: Connect, token_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a file system whose attributes are cached."""
    server = serve(only(OLD))
    tokens = TokenFile(token_file)
    client = connect(server, jwt=tokens)
    monkeypatch.setattr(tokens, "_identity", lambda seen=tokens._seen: seen)
    server.script = only(NEW)
    write_token(token_file, NEW)
    client.get_version(client.deadline(30))
    assert len(server.requests) == 2


def test_a_token_that_the_cluster_replaces_first_is_waited_for(
    serve: Serve, connect: Connect, token_file: Path, clock: FakeClock
) -> None:
    real_sleep = clock.sleep

    def sleep(seconds: float) -> None:
        real_sleep(seconds)
        if len(clock.slept) == 3:
            write_token(token_file, NEW)

    clock.sleep = sleep  # type: ignore[method-assign]
    server = serve(only(NEW))
    client = connect(server, jwt=TokenFile(token_file))
    client.get_version(client.deadline(30))
    assert len(server.requests) == 2


def test_an_expired_token_is_not_waited_for(
    serve: Serve, connect: Connect, token_file: Path, clock: FakeClock
) -> None:
    write_token(token_file, unsigned_token(exp=1))
    client = connect(serve(only(NEW)), jwt=TokenFile(token_file, "lightos_jwt_file"))
    with pytest.raises(
        errors.Unauthorized, match=r"token of lightos_jwt_file expired 1970-01-01 00:00 UTC"
    ):
        client.get_version(client.deadline(30))
    assert clock.slept == []


def test_a_rotation_under_load_fails_nothing(
    serve: Serve, connect: Connect, token_file: Path
) -> None:
    server = serve(only(OLD))
    client = connect(server, jwt=TokenFile(token_file), clock=SYSTEM_CLOCK)
    rotated = threading.Event()

    def work() -> None:
        for _ in range(5):
            client.get_version(client.deadline(30))
        rotated.wait()
        for _ in range(5):
            client.get_version(client.deadline(30))

    with ThreadPoolExecutor(8) as pool:
        workers = [pool.submit(work) for _ in range(8)]
        while len(server.requests) < 20:
            client.get_version(client.deadline(30))
        server.script = only(NEW)
        rotated.set()
        write_token(token_file, NEW)
        for worker in workers:
            worker.result()


def test_a_token_that_stays_bad_is_tried_once(serve: Serve, connect: Connect) -> None:
    server = serve(lambda _: refusal(401, 16, "token expired"))
    client = connect(server)
    with pytest.raises(errors.Unauthorized, match=r"token expired; .* Renew the JWT"):
        client.get_version(client.deadline(30))
    assert len(server.requests) == 1


def test_the_token_shows_nowhere(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(lambda seen: refusal(403, 7, f"no role: {seen.headers['Authorization']}"))
    client = connect(server)
    with caplog.at_level(logging.DEBUG), pytest.raises(errors.Forbidden) as caught:
        client.get_version(client.deadline(30))
    assert "[token]" in str(caught.value)
    for text in (str(caught.value), repr(caught.value), caplog.text, repr(client)):
        assert TOKEN not in text


@pytest.mark.parametrize("jwt", [f" {TOKEN}\n", TOKEN])
def test_a_token_may_come_with_space_around_it(
    connect: Connect, server: HttpsServer, jwt: str
) -> None:
    client = connect(server, jwt=jwt)
    client.get_version(client.deadline(30))
    assert server.requests[0].headers["Authorization"] == f"Bearer {TOKEN}"


# --- lost replies ------------------------------------------------------------------------------


def test_a_create_whose_reply_was_lost_is_found_by_name(
    client: LightOSClient, cluster: FakeCluster
) -> None:
    cluster.faults = [("POST", lost_after)]
    volume = client.create_volume("default", VOLUME, client.deadline(30))
    assert cluster.volumes == {volume.uuid: volume}
    assert cluster.calls == ["CreateVolume", "GetVolume"]


def test_a_create_that_did_not_happen_is_sent_again(
    client: LightOSClient, cluster: FakeCluster
) -> None:
    cluster.faults = [("POST", lost_before)]
    volume = client.create_volume("default", VOLUME, client.deadline(30))
    assert cluster.volumes == {volume.uuid: volume}
    assert cluster.calls == ["CreateVolume", "GetVolume", "CreateVolume"]


@pytest.mark.parametrize(("status", "code"), [(504, 4), (502, 0), (408, 1)])
def test_a_gateway_that_gave_up_leaves_the_outcome_open(
    client: LightOSClient, cluster: FakeCluster, status: int, code: int
) -> None:
    def gave_up(seen: Seen, serve: Callable[[], Answer]) -> Answer:
        serve()
        return refusal(status, code)

    cluster.faults = [("POST", gave_up)]
    volume = client.create_volume("default", VOLUME, client.deadline(30))
    assert cluster.calls == ["CreateVolume", "GetVolume"]
    assert list(cluster.volumes) == [volume.uuid]


def test_a_create_still_under_way_when_sent_again_is_found_after_its_409(
    client: LightOSClient, cluster: FakeCluster
) -> None:
    def not_yet(seen: Seen, serve: Callable[[], Answer]) -> Answer:
        cluster.add_volume(name="v", state=VolumeState.CREATING)
        return refusal(404, 5)

    cluster.faults = [("POST", lost_before), ("GET", not_yet)]
    volume = client.create_volume("default", VOLUME, client.deadline(30))
    assert cluster.calls == ["CreateVolume", "GetVolume", "CreateVolume", "GetVolume"]
    assert list(cluster.volumes) == [volume.uuid]


def test_a_rounded_size_is_still_ours(client: LightOSClient, cluster: FakeCluster) -> None:
    cluster.faults = [("POST", lost_after)]
    request = replace(VOLUME, size_bytes=1_000_000)
    assert client.create_volume("default", request, client.deadline(30)).size_bytes == 1_003_520


@pytest.mark.parametrize(
    "difference",
    [
        {"size_bytes": 2 << 30},
        {"replica_count": 1},
        {"source_snapshot_uuid": "s"},
        {"qos_policy_uuid": "p"},
    ],
)
def test_another_volume_of_the_name_is_not_taken_for_ours(
    client: LightOSClient, cluster: FakeCluster, difference: dict[str, Any]
) -> None:
    cluster.add_volume(name="v", **difference)
    cluster.faults = [("POST", lost_before)]
    request = replace(VOLUME, **{key: "t" for key in difference if key.endswith("_uuid")})
    with pytest.raises(errors.AlreadyExists, match="another volume, volume-1, has this name"):
        client.create_volume("default", request, client.deadline(30))
    assert len(cluster.volumes) == 1


def test_a_name_that_was_taken_before_the_first_try_is_never_adopted(
    client: LightOSClient, cluster: FakeCluster
) -> None:
    cluster.add_volume(name="v")
    with pytest.raises(errors.AlreadyExists):
        client.create_volume("default", VOLUME, client.deadline(30))


def test_a_snapshot_whose_reply_was_lost_is_found_by_name(
    client: LightOSClient, cluster: FakeCluster
) -> None:
    cluster.faults = [("POST", lost_after)]
    request = CreateSnapshot(name="s", source_volume_uuid="u")
    snapshot = client.create_snapshot("default", request, client.deadline(30))
    assert snapshot.state is SnapshotState.CREATING
    assert cluster.calls == ["CreateSnapshot", "GetSnapshot"]
    cluster.faults = [("POST", lost_before)]
    with pytest.raises(errors.AlreadyExists, match="another snapshot"):
        client.create_snapshot(
            "default", replace(request, source_volume_uuid="w"), client.deadline(30)
        )


@pytest.mark.parametrize("fault", [lost_after, lost_before])
def test_a_delete_whose_reply_was_lost(
    client: LightOSClient, cluster: FakeCluster, fault: Any
) -> None:
    volume = cluster.add_volume(name="v")
    cluster.faults = [("DELETE", fault)]
    client.delete_volume("default", volume.uuid, client.deadline(30))
    assert cluster.volumes == {}
    deletes = 1 if fault is lost_after else 2
    assert cluster.calls.count("DeleteVolume") == deletes


def test_a_delete_of_what_never_was_is_not_found(
    client: LightOSClient, cluster: FakeCluster
) -> None:
    with pytest.raises(errors.NotFound):
        client.delete_volume("default", "u", client.deadline(30))
    with pytest.raises(errors.NotFound):
        client.delete_snapshot("default", "u", client.deadline(30))


def test_a_delete_is_not_done_because_nobody_answers(
    client: LightOSClient, cluster: FakeCluster
) -> None:
    volume = cluster.add_volume(name="v")
    cluster.faults = [("DELETE", lost_before)] + [("GET", lost_before)] * 100
    with pytest.raises(errors.TimedOut, match="a reply was lost, and then GetVolume failed"):
        client.delete_volume("default", volume.uuid, client.deadline(10))
    assert volume.uuid in cluster.volumes


@pytest.mark.parametrize("etag", ["", "1"])
@pytest.mark.parametrize("fault", [lost_after, lost_before])
def test_an_update_whose_reply_was_lost(
    client: LightOSClient, cluster: FakeCluster, fault: Any, etag: str
) -> None:
    volume = cluster.add_volume(name="v")
    cluster.faults = [("PUT", fault)]
    request = UpdateVolume(acl=("host",))
    client.update_volume("default", volume.uuid, request, client.deadline(30), etag=etag)
    assert cluster.volumes[volume.uuid].acl == ("host",)
    assert cluster.calls.count("UpdateVolume") == (1 if fault is lost_after else 2)


def test_an_update_lost_while_another_came_in_is_stale(
    client: LightOSClient, cluster: FakeCluster
) -> None:
    volume = cluster.add_volume(name="v")

    def overtaken(seen: Seen, serve: Callable[[], Answer]) -> None:
        cluster.change(volume.uuid, acl=("other",))

    cluster.faults = [("PUT", overtaken)]
    with pytest.raises(errors.StaleEtag, match="changed while the reply was lost"):
        client.update_volume(
            "default",
            volume.uuid,
            UpdateVolume(acl=("host",)),
            client.deadline(30),
            etag=volume.etag,
        )
    assert cluster.volumes[volume.uuid].acl == ("other",)


def test_a_rollback_whose_reply_was_lost_is_seen_by_its_state(
    client: LightOSClient, cluster: FakeCluster
) -> None:
    volume = cluster.add_volume(name="v")
    cluster.faults = [("PUT", lost_after)]
    client.rollback_volume("default", volume.uuid, "s", client.deadline(30))
    assert cluster.calls == ["RollbackVolume", "GetVolume"]


def test_stopping_a_node_may_be_said_twice(client: LightOSClient, cluster: FakeCluster) -> None:
    cluster.faults = [("POST", lost_after)]
    client.stop_node("n", client.deadline(30))
    assert cluster.calls == ["StopNodeInstance"] * 2


# --- QoS policies and projects -----------------------------------------------------------------

POLICY = CreatePolicy(
    name="gold",
    rate_limit=RateLimit(
        visibility=PolicyVisibility.GLOBAL, iops=IopsLimit(read_iops=1000, write_iops=512)
    ),
)


def test_a_policy_from_its_making_to_its_end(client: LightOSClient, cluster: FakeCluster) -> None:
    deadline = client.deadline(30)
    policy = client.create_policy(POLICY, deadline)
    assert policy.rate_limit is not None
    assert policy.rate_limit.limit == IopsLimit(read_iops=1024, write_iops=512)
    assert client.get_policy(policy.uuid, deadline) == policy
    assert client.get_policy_by_name("gold", deadline) == policy
    assert list(client.list_policies(deadline)) == [policy]
    limit = RateLimit(bandwidth=BandwidthLimit(read_mb_per_second=10, write_mb_per_second=20))
    client.update_policy(policy.uuid, UpdatePolicy(rate_limit=limit), deadline)
    assert client.get_policy(policy.uuid, deadline).rate_limit == limit
    client.delete_policy(policy.uuid, deadline)
    with pytest.raises(errors.NotFound, match="GetPolicy of QoS policy gold failed"):
        client.get_policy_by_name("gold", deadline)
    for call in (
        lambda: client.get_policy(policy.uuid, deadline),
        lambda: client.update_policy(policy.uuid, UpdatePolicy(description="d"), deadline),
        lambda: client.delete_policy(policy.uuid, deadline),
    ):
        with pytest.raises(errors.NotFound):
            call()


def test_a_policy_whose_reply_was_lost_is_found_by_name_though_it_was_rounded(
    client: LightOSClient, cluster: FakeCluster
) -> None:
    cluster.faults = [("POST", lost_after)]
    policy = client.create_policy(POLICY, client.deadline(30))
    assert cluster.policies == {policy.uuid: policy}
    assert cluster.calls == ["CreatePolicy", "GetPolicy"]


@pytest.mark.parametrize(
    "limit",
    [
        RateLimit(),
        RateLimit(iops=IopsLimit(read_iops=1280, write_iops=512)),
        RateLimit(iops_per_gb=IopsPerGbLimit(read_iops_per_gb=1024, write_iops_per_gb=512)),
    ],
)
def test_another_policy_of_the_name_is_not_taken_for_ours(
    client: LightOSClient, cluster: FakeCluster, limit: RateLimit
) -> None:
    client.create_policy(replace(POLICY, rate_limit=limit), client.deadline(30))
    cluster.faults = [("POST", lost_before)]
    with pytest.raises(errors.AlreadyExists, match="another policy, policy-1, has this name"):
        client.create_policy(POLICY, client.deadline(30))
    assert len(cluster.policies) == 1


@pytest.mark.parametrize("fault", [lost_after, lost_before])
def test_writes_of_a_policy_whose_replies_were_lost(
    client: LightOSClient, cluster: FakeCluster, fault: Any
) -> None:
    deadline = client.deadline(30)
    policy = client.create_policy(POLICY, deadline)
    tries = 1 if fault is lost_after else 2
    cluster.faults = [("PUT", fault)]
    request = UpdatePolicy(description="new", rate_limit=POLICY.rate_limit)
    client.update_policy(policy.uuid, request, deadline)
    assert cluster.policies[policy.uuid].description == "new"
    assert cluster.calls.count("UpdatePolicy") == tries
    cluster.faults = [("DELETE", fault)]
    client.delete_policy(policy.uuid, deadline)
    assert cluster.policies == {}
    assert cluster.calls.count("DeletePolicy") == tries


def test_a_lost_update_that_shows_in_part_is_sent_again(
    client: LightOSClient, cluster: FakeCluster
) -> None:
    policy = client.create_policy(POLICY, client.deadline(30))
    narrowed = RateLimit(visibility=PolicyVisibility.SCOPED, projects=("a",), iops=IopsLimit())
    cluster.faults = [("PUT", lost_before)]
    client.update_policy(policy.uuid, UpdatePolicy(rate_limit=narrowed), client.deadline(30))
    assert cluster.policies[policy.uuid].rate_limit == narrowed


def test_a_policy_of_a_project_is_asked_for_with_it(serve: Serve, connect: Connect) -> None:
    server = serve(lambda _: reply({"UUID": "u", "name": "gold"}))
    client = connect(server)
    deadline = client.deadline(30)
    client.get_policy("u", deadline, project="a")
    client.get_policy_by_name("gold", deadline, project="a")
    assert [(seen.path, seen.query) for seen in server.requests] == [
        ("/api/v2/policies/u", {"projectName": ["a"]}),
        ("/api/v2/policies/", {"name": ["gold"], "projectName": ["a"]}),
    ]


@pytest.mark.parametrize("answer", [reply({}), reply({"UUID": "u"}), reply({"name": "other"})])
def test_a_reply_of_something_else_is_no_policy_and_no_project(
    serve: Serve, connect: Connect, answer: Answer
) -> None:
    client = connect(serve(lambda _: answer))
    deadline = client.deadline(30)
    for call in (
        lambda: client.create_policy(POLICY, deadline),
        lambda: client.get_policy("v", deadline),
        lambda: client.get_policy_by_name("gold", deadline),
        lambda: client.create_project(CreateProject(name="a"), deadline),
        lambda: client.get_project("a", deadline),
    ):
        with pytest.raises(errors.ServerFault, match="about another object"):
            call()


def test_nothing_is_sent_for_a_policy_or_project_without_a_name(
    client: LightOSClient, server: HttpsServer
) -> None:
    deadline = client.deadline(30)
    for call in (
        lambda: client.create_policy(CreatePolicy(), deadline),
        lambda: client.get_policy("", deadline),
        lambda: client.update_policy("", UpdatePolicy(), deadline),
        lambda: client.delete_policy("", deadline),
        lambda: client.delete_project("", deadline),
    ):
        with pytest.raises(ValueError, match="is empty"):
            call()
    assert server.requests == []


@pytest.mark.parametrize("fault", [None, lost_after, lost_before])
def test_a_project_from_its_making_to_its_end(
    client: LightOSClient, cluster: FakeCluster, fault: Any
) -> None:
    deadline = client.deadline(30)
    cluster.faults = [(method, fault) for method in ("POST", "PUT", "DELETE") if fault]
    project = client.create_project(CreateProject(name="a", description="d"), deadline)
    assert list(client.list_projects(deadline)) == [project]
    default = DefaultPolicy(policy_type=PolicyType.QOS_RATE_LIMIT, policy_uuid="u")
    client.update_project("a", (default,), deadline)
    assert client.get_project("a", deadline).default_policies == (default,)
    client.delete_project("a", deadline)
    assert cluster.projects == {}
    with pytest.raises(errors.NotFound):
        client.delete_project("a", deadline)


def test_another_project_of_the_name_is_not_taken_for_ours(
    client: LightOSClient, cluster: FakeCluster
) -> None:
    client.create_project(CreateProject(name="a", description="theirs"), client.deadline(30))
    cluster.faults = [("POST", lost_before)]
    with pytest.raises(errors.AlreadyExists, match="another project"):
        client.create_project(CreateProject(name="a"), client.deadline(30))


# --- configuration -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("addresses", "port", "expected"),
    [
        ([], 443, "no API address"),
        (["10.0.0.1:443"], 443, "give the port separately"),
        (["10.0.0.1"], 0, "port 0"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused_at_once(
    addresses: list[str], port: int, expected: str
) -> None:
    with pytest.raises(ValueError, match=expected):
        LightOSClient.connect(addresses, port, TOKEN)
