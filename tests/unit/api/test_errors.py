# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightos.api import errors
from lightos.api.errors import HTTP_STATUS, GrpcCode, LightOSError, from_reply
from lightos.api.models.failures import GatewayError


def kind(status: int, body: Any, *, if_match: bool = False) -> type[LightOSError]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return type(from_reply("Op", "object", status, content, sent_if_match=if_match))


def coded(code: int) -> dict[str, Any]:
    return {"error": "why", "code": code, "message": "why"}


# The gateway's own table: every gRPC code with the status it travels under.
@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        (1, 408, errors.Busy),
        (2, 500, errors.ServerFault),
        (3, 400, errors.Refused),
        (4, 504, errors.Busy),
        (5, 404, errors.NotFound),
        (6, 409, errors.AlreadyExists),
        (7, 403, errors.Forbidden),
        (8, 429, errors.Busy),
        (9, 400, errors.WrongState),
        (10, 409, errors.Busy),
        (11, 400, errors.Refused),
        (12, 501, errors.Refused),
        (13, 500, errors.ServerFault),
        (14, 503, errors.Busy),
        (15, 500, errors.ServerFault),
        (16, 401, errors.Unauthorized),
    ],
)
def test_every_grpc_code_both_ways(code: int, status: int, expected: type[LightOSError]) -> None:
    assert HTTP_STATUS[GrpcCode(code)] == status
    assert kind(status, GatewayError(error="why", code=code, message="why").to_wire()) is expected


@pytest.mark.parametrize(
    ("status", "body", "if_match", "expected"),
    [
        # 412 in the proto, 400 from a gateway; the code alone cannot tell, If-Match can.
        (412, coded(9), True, errors.StaleEtag),
        (400, coded(9), True, errors.StaleEtag),
        (400, coded(9), False, errors.WrongState),
        (412, coded(9), False, errors.StaleEtag),
        (400, coded(3), True, errors.Refused),
        # An object without a code, and the bare integer of the proto.
        (404, {"message": "gone"}, False, errors.NotFound),
        (404, 5, False, errors.NotFound),
        (409, {"message": "busy"}, False, errors.Busy),
        (503, {}, False, errors.Busy),
        # Not the API's own words.
        (404, b"Not Found\n", False, errors.Refused),
        (404, b"<html>404</html>", False, errors.Refused),
        (404, b"", False, errors.Refused),
        (404, coded(12), False, errors.Refused),
        (401, b"", False, errors.Unauthorized),
        (403, b"<html>", False, errors.Forbidden),
        (502, b"<html>", False, errors.Busy),
        (503, b"<html>", False, errors.Busy),
        (500, b"[" * 100_000, False, errors.ServerFault),
        (405, b"Method Not Allowed\n", False, errors.Refused),
        (302, b"", False, errors.ServerFault),
        (505, b"", False, errors.ServerFault),
        # A code that contradicts the status does not turn a fault into something harmless.
        (500, coded(5), False, errors.ServerFault),
        (500, coded(999), False, errors.ServerFault),
    ],
)
def test_other_replies(
    status: int, body: Any, if_match: bool, expected: type[LightOSError]
) -> None:
    assert kind(status, body, if_match=if_match) is expected


def test_the_message_says_what_failed_on_which_object_why_and_what_to_do() -> None:
    body = json.dumps(coded(16) | {"message": "token expired."}).encode()
    error = from_reply("GetVolume", "volume X of project p", 401, body, sent_if_match=False)
    assert str(error) == (
        "GetVolume of volume X of project p failed: token expired (HTTP 401). Renew the JWT."
    )
    assert (error.operation, error.http_status, error.grpc_code) == ("GetVolume", 401, 16)


def test_a_page_in_place_of_an_answer_is_quoted_in_short() -> None:
    body = b"<html>\n  <p>proxy</p>\n" + b"x" * 10_000
    error = from_reply("GetCluster", "the cluster", 500, body, sent_if_match=False)
    assert "not an answer of the management API: <html> <p>proxy</p>" in str(error)
    assert len(str(error)) < 700


@given(
    status=st.integers(300, 599),
    body=st.binary(max_size=40)
    | st.dictionaries(
        st.sampled_from(["error", "code", "message", "details"]),
        st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2),
    ).map(lambda data: json.dumps(data).encode()),
    if_match=st.booleans(),
)
def test_any_reply_makes_some_error_and_not_found_only_from_404(
    status: int, body: bytes, if_match: bool
) -> None:
    error = from_reply("Op", "object", status, body, sent_if_match=if_match)
    assert isinstance(error, LightOSError)
    assert error.http_status == status
    assert status == 404 or not isinstance(error, errors.NotFound)


def test_the_tree() -> None:
    assert issubclass(errors.Untrusted, errors.Unreachable)
    assert issubclass(errors.WrongState, errors.Refused)
