# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import stat
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from lightos.lab.auth import Authenticator, Authority, Caller
from lightos.lab.errors import LabError, Unauthenticated

HOUR = timedelta(hours=1)
START = datetime(2030, 1, 1, tzinfo=UTC)
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CLAIMS = {"sub": "a", "exp": START + HOUR, "roles": ["system:cluster-admin"]}


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authenticator(clock: Clock) -> Authenticator:
    return Authenticator(KEY.public_key(), {"default", "blue"}, {}, clock)


def token(
    claims: Mapping[str, Any] = CLAIMS,
    kid: str | None = "system:lab",
    key: Any = KEY,
    algorithm: str = "RS256",
) -> str:
    headers = {} if kid is None else {"kid": kid}
    return jwt.encode(dict(claims), key, algorithm=algorithm, headers=headers)


def test_an_issued_token_is_accepted(authenticator: Authenticator) -> None:
    issued = Authority(KEY).issue("system", [("system", "cluster-admin")], now=START, valid=HOUR)
    caller = authenticator.authenticate(f"Bearer {issued}")
    assert caller.is_cluster_admin
    assert caller.may_write("anything")
    assert authenticator.authenticate(f"bearer {issued}") is caller  # remembered


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (None, "a token is needed"),
        ("", "a token is needed"),
        ("Basic abc", "a token is needed"),
        ("Bearer ", "a token is needed"),
        ("Bearer abc", "not valid"),
        (f"Bearer {token(key=OTHER_KEY)}", "signature"),
        (f"Bearer {token()[:-8]}AAAAAAAA", "signature"),
        (f"Bearer {token(key='x' * 64, algorithm='HS256')}", "RS256"),
        (f"Bearer {token(key=None, algorithm='none')}", "RS256"),
        (f"Bearer {token(kid=None)}", "kid"),
        (f"Bearer {token(kid='system')}", "kid"),
        (f"Bearer {token(kid='system:other')}", "not known"),
        (f"Bearer {token(kid='green:lab')}", "not known"),
        (f"Bearer {token({**CLAIMS, 'exp': START - HOUR})}", "expired at 2029-12-31T23:00:00Z"),
        (f"Bearer {token({**CLAIMS, 'exp': START})}", "expired"),
        (f"Bearer {token({**CLAIMS, 'nbf': START + HOUR})}", "not valid yet"),
        (f"Bearer {token({k: v for k, v in CLAIMS.items() if k != 'exp'})}", "exp"),
        (f"Bearer {token({k: v for k, v in CLAIMS.items() if k != 'sub'})}", "sub"),
        (f"Bearer {token({k: v for k, v in CLAIMS.items() if k != 'roles'})}", "roles"),
        (f"Bearer {token({**CLAIMS, 'roles': []})}", "roles"),
        (f"Bearer {token({**CLAIMS, 'roles': 'system:cluster-admin'})}", "roles"),
        (f"Bearer {token({**CLAIMS, 'roles': ['admin']})}", "roles"),
        (f"Bearer {token(kid='blue:lab')}", "credential of project blue"),
    ],
)
def test_refused(authenticator: Authenticator, header: str | None, reason: str) -> None:
    with pytest.raises(Unauthenticated, match=reason) as refused:
        authenticator.authenticate(header)
    secret = (header or "").removeprefix("Bearer ").strip()
    assert len(secret) < 8 or secret not in str(refused.value)


def test_a_token_in_use_expires(authenticator: Authenticator, clock: Clock) -> None:
    header = f"Bearer {token()}"
    authenticator.authenticate(header)
    clock.now += HOUR
    with pytest.raises(Unauthenticated, match="expired"):
        authenticator.authenticate(header)


@pytest.mark.parametrize(
    ("roles", "reads", "writes"),
    [
        ({("blue", "admin")}, True, True),
        ({("blue", "viewer")}, True, False),
        ({("default", "admin")}, False, False),
        ({("blue", "unheard-of")}, False, False),
        ({("system", "cluster-admin")}, True, True),
        ({("system", "viewer")}, False, False),
    ],
)
def test_roles(roles: set[tuple[str, str]], reads: bool, writes: bool) -> None:
    caller = Caller("a", frozenset(roles))
    assert (caller.may_read("blue"), caller.may_write("blue")) == (reads, writes)


def test_the_key_is_made_once_and_kept_secret(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    first, second = Authority.at(path), Authority.at(path)
    assert first.public_key.public_numbers() == second.public_key.public_numbers()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("not a key")
    with pytest.raises(LabError, match="not a private key"):
        Authority.at(path)
