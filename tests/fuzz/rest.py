# SPDX-License-Identifier: Apache-2.0
"""Malformed calls of the management API of a running lab: refused, and no failure of its own."""

from __future__ import annotations

import http.client
import json
import random
import ssl
from typing import Any

from testbed.cluster import PROJECT, Cluster
from tests.fuzz.exchanges import HOST_NQN
from tests.fuzz.finding import Harm, Input
from tests.fuzz.mutator import INSIDE, generator

ANSWER_SECONDS = 30.0
DEEP = 50_000
A_PROJECT = f"/api/v2/projects/{PROJECT}"
A_UUID = "5c0b9f9e-3f3e-4ad1-b8d0-4d1c1b1f9a01"
VOLUME = {
    "name": "fuzz",
    "size": "1gib",
    "replicaCount": 1,
    "acl": {"values": [HOST_NQN]},
    "IPAcl": {"values": ["ALLOW_ANY"]},
    "compression": False,
    "sectorSize": 4096,
    "labels": [{"key": "a", "value": "b"}],
}
POLICY = {
    "name": "fuzz",
    "qoSRateLimitPolicy": {"limitIOPS": {"read": 256, "write": 256}},
    "projectsNamesScope": [PROJECT],
}
CALLS: tuple[tuple[str, str, Any], ...] = (
    ("POST", f"{A_PROJECT}/volumes", VOLUME),
    ("PUT", f"{A_PROJECT}/volumes/{A_UUID}", {"size": "2gib", "acl": {"values": ["ALLOW_NONE"]}}),
    ("GET", f"{A_PROJECT}/volumes?limit=5&offsetUUID={A_UUID}&showAll=true", None),
    ("DELETE", f"{A_PROJECT}/volumes/{A_UUID}", None),
    ("POST", f"{A_PROJECT}/snapshots", {"name": "s", "sourceVolumeUUID": A_UUID}),
    ("GET", f"{A_PROJECT}/snapshots/diff/{A_UUID}?offsetLBA=0", None),
    ("POST", "/api/v2/policies", POLICY),
    ("POST", "/api/v2/projects", {"name": "fuzz", "description": "x"}),
    ("GET", "/api/v2/nodes", None),
    ("GET", "/api/v2/clusterinfo", None),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1 << 31, 1 << 63, 1 << 64, 10**400, 1.5, 1e308, "", "x" * 70_000),
    *(
        "\0",
        "\ud800",
        "\u0661",
        "1 eib",
        "-1",
        "NaN",
        [],
        {},
        [[]],
        [None],
        {"": None},
        {"values": 5},
    ),
)
RAW = (b"", b"{", b"[]", b"null", b'"', b"\xff\xfe{}", b"NaN", b"[" * DEEP, b'{"a":' * DEEP)


def broken_json(chance: random.Random, value: Any) -> Any:
    """The value with one thing in it replaced, left out or added."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        rest = {name: each for name, each in value.items() if name != key}
        match chance.randrange(5):
            case 0:
                return rest
            case 1:
                added = chance.choice(("", "UUID", "projectName", "x"))
                return {**value, added: chance.choice(VALUES)}
            case 2:
                return {**rest, key: chance.choice(VALUES)}
            case _:
                return {**rest, key: broken_json(chance, value[key])}
    if isinstance(value, list) and value and chance.random() < 0.7:
        return [*value[1:], broken_json(chance, value[0])] * chance.choice((1, 2, 500))
    return chance.choice(VALUES)


def make(seed: int, number: int) -> Input:
    """Input `number`: method, path and body."""
    chance = generator(seed, "rest", number)
    variant = chance.randrange(len(CALLS))
    method, path, body = CALLS[variant]
    raw = b"" if body is None else json.dumps(body).encode()
    choice = chance.random()
    if body is not None and choice < 0.6:
        raw = json.dumps(broken_json(chance, body)).encode()
    elif choice < 0.7:
        raw = chance.choice(RAW)
    elif choice < 0.8:
        raw = chance.choice(INSIDE)(chance, raw)
    elif choice < 0.85:
        method = chance.choice(("PATCH", "HEAD", "OPTIONS", "TRACE", "X", "GET", "PUT", "DELETE"))
    else:
        at = chance.randrange(8, len(path) + 1)
        noise = chance.choice(
            ("%00", "%ff", "..", "//", "%2e%2e%2f", "?", "&", "=", "%", "a" * 5000)
        )
        path = path[:at] + noise + path[at + chance.randrange(3) :]
    return Input("rest", variant, (method.encode(), path.encode(), raw))


class Caller:
    """One connection to the management API, made again when it was ended."""

    def __init__(self, api: Cluster) -> None:
        lab = api.lab
        self._headers = {"Authorization": f"Bearer {api.jwt}", "Content-Type": "application/json"}
        self._connection = http.client.HTTPSConnection(
            lab["api_addresses"][-1],
            lab["api_port"],
            timeout=ANSWER_SECONDS,
            context=ssl.create_default_context(cafile=lab["ca_file"]),
        )

    def send(self, given: Input) -> str:
        """Send one input; what it was answered. Harm if that is a failure of the server."""
        method, path, body = given.pieces
        try:
            self._connection.request(method.decode(), path.decode(), body, self._headers)
            response = self._connection.getresponse()
            response.read()
        except TimeoutError:
            raise Harm(f"no answer in {ANSWER_SECONDS:g} s") from None
        except (http.client.HTTPException, OSError):
            self._connection.close()
            return "ended the connection"
        if response.status >= 500 and response.status not in (501, 503):
            raise Harm(f"answered {response.status}")
        return str(response.status)

    def close(self) -> None:
        self._connection.close()
