# SPDX-License-Identifier: Apache-2.0
"""Token files as they are replaced, and what a token says of its own time."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lightos.api.credentials import (
    FixedToken,
    TokenFile,
    TokenUnusable,
    expiry,
    is_expired,
    refusal_hint,
    roles,
    whole_days_left,
)
from tests.unit.api.conftest import unsigned_token

ONE, OTHER = unsigned_token(n=1), unsigned_token(n=2)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(f"{ONE}\n")
    file.chmod(0o600)
    return file


def test_the_file_is_read_again_when_it_changed(file: Path) -> None:
    tokens = TokenFile(file)
    assert tokens.current() == ONE
    file.write_text(OTHER)
    assert tokens.current() == OTHER


def test_the_token_last_read_is_told_without_a_look_at_the_file(file: Path) -> None:
    tokens = TokenFile(file)
    file.write_text(OTHER)
    assert tokens.last_read == ONE
    assert tokens.current() == OTHER
    assert tokens.last_read == OTHER
    assert FixedToken(f"{ONE}\n").last_read == ONE


@pytest.mark.parametrize("content", ["", "half a tok", "a.b", f"{OTHER}\n{OTHER}", "é.é.é"])
def test_a_file_in_the_middle_of_a_change_keeps_the_last_token(
    file: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = TokenFile(file)
    file.write_text(content)
    assert [tokens.current(), tokens.current(), tokens.reread()] == [ONE] * 3
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    file.write_text(OTHER)
    assert tokens.current() == OTHER


def test_a_file_that_is_gone_for_a_moment_keeps_the_last_token(file: Path) -> None:
    tokens = TokenFile(file)
    file.unlink()
    assert tokens.current() == ONE
    file.write_text(OTHER)
    assert tokens.current() == OTHER


def test_a_file_without_token_is_refused_at_first(tmp_path: Path) -> None:
    with pytest.raises(TokenUnusable, match=r"cannot read .*none: No such file"):
        TokenFile(tmp_path / "none")
    with pytest.raises(TokenUnusable, match="Is a directory"):
        TokenFile(tmp_path)
    (tmp_path / "text").write_text("secret words")
    with pytest.raises(TokenUnusable, match="does not hold one JWT") as caught:
        TokenFile(tmp_path / "text")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, False), (0o644, True)])
def test_a_file_that_others_can_read_is_warned_of_once(
    file: Path, mode: int, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    file.chmod(mode)
    tokens = TokenFile(file)
    tokens.reread()
    assert caplog.text.count("others on this machine can use the token") == warned


def test_the_token_shows_nowhere(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        tokens = TokenFile(file, "lightos_jwt_file")
        file.write_text(OTHER)
        tokens.reread()
        text = repr(tokens) + repr(FixedToken(ONE)) + refusal_hint(tokens)
    assert not [token for token in (ONE, OTHER) if token in text + caplog.text]


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (unsigned_token(exp=1767225600), NOW),
        (unsigned_token(exp=1767225600.5), datetime(2026, 1, 1, 0, 0, 0, 500000, UTC)),
        (unsigned_token(exp="soon"), None),
        (unsigned_token(exp=10**30), None),
        (unsigned_token(), None),
        ("a.b.c", None),
        ("no token", None),
        ("", None),
    ],
)
def test_expiry(token: str, expected: datetime | None) -> None:
    assert expiry(token) == expected


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (unsigned_token(roles=["default:admin", "blue:viewer"]), {"default:admin", "blue:viewer"}),
        (unsigned_token(roles="default:admin"), set()),
        (ONE, set()),
        ("no token", set()),
    ],
)
def test_roles(token: str, expected: set[str]) -> None:
    assert roles(token) == expected


def test_time_left() -> None:
    day = 86400
    start = int(NOW.timestamp())
    assert whole_days_left(unsigned_token(exp=start + 7 * day - 1), NOW) == 6
    assert whole_days_left(unsigned_token(exp=start - 1), NOW) == -1
    assert whole_days_left(unsigned_token(), NOW) is None
    assert is_expired(unsigned_token(exp=start), lambda: NOW)
    assert not is_expired(unsigned_token(exp=start + 1), lambda: NOW)
    assert not is_expired("", lambda: NOW)


@pytest.mark.parametrize(
    ("token", "hint"),
    [
        ("", "lightos_jwt is not set"),
        ("a.b.c", "the token is that of lightos_jwt"),
        (unsigned_token(exp=0), "the token of lightos_jwt expired 1970-01-01 00:00 UTC"),
        (unsigned_token(exp=1767225601), "the token of lightos_jwt expires 2026-01-01 00:00 UTC"),
    ],
)
def test_what_is_said_of_a_refused_token(token: str, hint: str) -> None:
    assert refusal_hint(FixedToken(token, "lightos_jwt"), lambda: NOW) == hint
