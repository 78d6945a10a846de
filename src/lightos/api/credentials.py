# SPDX-License-Identifier: Apache-2.0
"""The bearer token: where it comes from, how it is replaced in use, and when it expires.

The token itself shows in no message, log or repr. Its claims are read without verification,
which is the cluster's business, and only to tell the operator when it expires.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import stat
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from lightos.waiting import utc_now

LOG = logging.getLogger(__name__)

LONGEST_TOKEN_BYTES = 64 << 10
WARNING_DAYS = 7

_SEGMENT = r"[A-Za-z0-9_-]+"
_JWT = re.compile(rf"{_SEGMENT}\.{_SEGMENT}\.{_SEGMENT}", re.ASCII)
"""JWS compact serialization (RFC 7515, 3.1), with a signature."""

_OTHERS = stat.S_IRWXO | stat.S_IWGRP


def is_open_to_others(mode: int) -> bool:
    """Whether a file of this mode lets more users at a secret than its owner and readers of its
    group."""
    return bool(mode & _OTHERS)


class TokenUnusable(ValueError):
    """There is no token to send; says where it should have come from and why not."""


class TokenSource(Protocol):
    """Gives the token to send. `name` is what the operator knows it by."""

    name: str
    last_read: str
    """The token as it was last read, and nothing is waited for; empty for none."""

    @property
    def may_change(self) -> bool:
        """Whether another token can come from here."""

    def current(self) -> str:
        """Return the token to use now; empty for none. TokenUnusable."""

    def reread(self) -> str:
        """Return the token after the cluster refused one; never from memory. TokenUnusable."""


class FixedToken:
    """A token that never changes, empty for a cluster without multi-tenancy."""

    may_change = False

    def __init__(self, token: str, name: str = "the JWT") -> None:
        self.name = name
        self.last_read = token.strip()

    def __repr__(self) -> str:
        return f"FixedToken({self.name})"

    def current(self) -> str:
        """Return the token."""
        return self.last_read

    def reread(self) -> str:
        """Return the token."""
        return self.last_read


class TokenFile:
    """A token in a file, which is read again whenever the file changed. Thread-safe.

    While the file is missing or holds no token, as in the middle of being replaced, the last
    good one stays in use.
    """

    may_change = True

    def __init__(self, path: str | Path, name: str = "the JWT") -> None:
        """Read the file. TokenUnusable says what is wrong with it."""
        self.name = name
        self._path = Path(path)
        self._lock = threading.Lock()
        self.last_read = ""
        self._seen: tuple[int, ...] | None = None
        self._read(self._identity())

    def __repr__(self) -> str:
        return f"TokenFile({self._path})"

    def current(self) -> str:
        """Return the token as the file has it now."""
        identity = self._identity()
        if identity != self._seen:
            self._refresh(identity)
        return self.last_read

    def reread(self) -> str:
        """Read the file whether it looks changed or not."""
        self._refresh(self._identity())
        return self.last_read

    def _refresh(self, identity: tuple[int, ...] | None) -> None:
        with self._lock:
            changed = identity != self._seen
            try:
                self._read(identity)
            except TokenUnusable as error:
                self._seen = identity
                if changed:
                    LOG.warning("%s; the token read before stays in use", error)

    def _identity(self) -> tuple[int, ...] | None:
        """What tells one content of the file from the next; None when it is not there."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def _read(self, identity: tuple[int, ...] | None) -> None:
        try:
            with self._path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                content = file.read(LONGEST_TOKEN_BYTES + 1)
        except OSError as cause:
            reason = cause.strerror or type(cause).__name__
            raise TokenUnusable(f"cannot read the token file {self._path}: {reason}") from None
        token = content.decode("ascii", "replace").strip()
        if not _JWT.fullmatch(token):
            raise TokenUnusable(f"the token file {self._path} does not hold one JWT and no more")
        if token == self.last_read:
            self._seen = identity
            return
        if is_open_to_others(mode):
            LOG.warning(
                "The token file %s has mode %04o: others on this machine can use the token. "
                "Run chmod 0640, with the service's group, or 0600 on it.",
                self._path,
                stat.S_IMODE(mode),
            )
        if self.last_read:
            LOG.info("A new token was read from %s", self._path)
        self.last_read, self._seen = token, identity


def _claims(token: str) -> dict[str, Any]:
    """What a token says; nothing when it is no JWT."""
    if not _JWT.fullmatch(token):
        return {}
    payload = token.split(".")[1]
    try:
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def expiry(token: str) -> datetime | None:
    """When a token says that it expires; None when it does not say or is no JWT."""
    try:
        return datetime.fromtimestamp(_claims(token)["exp"], UTC)
    except (ValueError, TypeError, KeyError, OverflowError, OSError):
        return None


def roles(token: str) -> frozenset[str]:
    """The roles that a token says it has, each `PROJECT:ROLE`; none when it does not say."""
    said = _claims(token).get("roles")
    return frozenset(map(str, said)) if isinstance(said, list) else frozenset()


def whole_days_left(token: str, now: datetime) -> int | None:
    """Days until a token expires, negative afterwards; None when it does not say."""
    expires = expiry(token)
    return None if expires is None else (expires - now).days


def is_expired(token: str, now: Callable[[], datetime] = utc_now) -> bool:
    """Whether a token says that its time is over."""
    expires = expiry(token)
    return expires is not None and expires <= now()


class ExpiryWarning:
    """Tells the operator once a day that the token expires soon, or has expired."""

    def __init__(self, source: TokenSource, now: Callable[[], datetime] = utc_now) -> None:
        self._source = source
        self._now = now
        self._told: int | None = None

    def look(self) -> None:
        """Warn if the token in use has less than a week left and today's warning is not out."""
        days = whole_days_left(self._source.current(), self._now())
        if days is None or days >= WARNING_DAYS:
            self._told = None
        elif days != self._told:
            self._told = days
            when = "has expired" if days < 0 else f"expires in {days} days"
            LOG.warning("The token of %s %s: renew it", self._source.name, when)


def refusal_hint(source: TokenSource, now: Callable[[], datetime] = utc_now) -> str:
    """What to say of the token when the cluster has refused it."""
    token = source.current()
    if not token:
        return f"{source.name} is not set"
    expires = expiry(token)
    if expires is None:
        return f"the token is that of {source.name}"
    tense = "expired" if expires <= now() else "expires"
    return f"the token of {source.name} {tense} {expires:%Y-%m-%d %H:%M} UTC"
