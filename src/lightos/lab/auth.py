# SPDX-License-Identifier: Apache-2.0
"""JSON Web Tokens of the management API: issued with the lab's own key, checked on every call.

RS256; the header's `kid` is `<project>:<credential>` and names the key; the claims `sub`,
`exp` and `roles` (each `<project>:<role>`) are required, `nbf` counts where present.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from lightos.lab.errors import LabError, Unauthenticated
from lightos.lab.files import write_secret
from lightos.lab.names import SYSTEM
from lightos.lab.records import CredentialRecord

CLUSTER_ADMIN = "cluster-admin"
ADMIN = "admin"
VIEWER = "viewer"
OWN_CREDENTIAL = "lab"
"""Names the lab's own key, in every project."""
MAX_KEPT_TOKENS = 256
MIN_KEY_BITS = 2048
"""RFC 7518, section 3.3."""
ALGORITHM = "RS256"


@dataclass(frozen=True)
class Caller:
    """Who makes a call: the roles of its token, as `(project, role)`."""

    subject: str
    roles: frozenset[tuple[str, str]]

    @property
    def is_cluster_admin(self) -> bool:
        return (SYSTEM, CLUSTER_ADMIN) in self.roles

    @property
    def readable_projects(self) -> frozenset[str] | None:
        """The projects that it may read; None is all of them."""
        if self.is_cluster_admin:
            return None
        return frozenset(project for project, _ in self.roles if self.may_read(project))

    def may_read(self, project: str) -> bool:
        return self.may_write(project) or (project, VIEWER) in self.roles

    def may_write(self, project: str) -> bool:
        return self.is_cluster_admin or (project, ADMIN) in self.roles


LOCAL_ADMINISTRATOR = Caller("local", frozenset({(SYSTEM, CLUSTER_ADMIN)}))
"""Whoever can open the control socket, which only its owner can."""


class Authority:
    """The lab's RSA key, which signs tokens."""

    def __init__(self, key: rsa.RSAPrivateKey) -> None:
        self._key = key

    @classmethod
    def at(cls, path: Path) -> Authority:
        """Read the key, or make it on first use. LabError for a file that is no RSA key."""
        if not path.exists():
            return cls.make(path)
        try:
            loaded = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as cause:
            raise LabError(
                f"{path} is not a private key: remove it to have a new one made "
                "(tokens issued before are then refused)"
            ) from cause
        if not isinstance(loaded, rsa.RSAPrivateKey):
            raise LabError(f"{path} is not an RSA key; remove it to have a new one made")
        return cls(loaded)

    @classmethod
    def make(cls, path: Path) -> Authority:
        """Make a new key in place of whatever is there."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        write_secret(path, _pem(key))
        return cls(key)

    @property
    def public_key(self) -> rsa.RSAPublicKey:
        return self._key.public_key()

    def issue(
        self,
        project: str,
        roles: Iterable[tuple[str, str]],
        *,
        now: datetime,
        valid: timedelta,
        subject: str = "lab",
    ) -> str:
        """A token of a project's credential, or of `system`'s; each role is `(project, role)`."""
        claims = {
            "sub": subject,
            "iss": "lightos-lab",
            "iat": now,
            "exp": now + valid,
            "jti": str(uuid4()),  # two tokens of one second differ
            "roles": [f"{where}:{role}" for where, role in roles],
        }
        headers = {"kid": f"{project}:{OWN_CREDENTIAL}"}
        return jwt.encode(claims, self._key, algorithm=ALGORITHM, headers=headers)


def default_role(project: str) -> str:
    """The role that may do everything in a project, or in the whole cluster (`system`)."""
    return CLUSTER_ADMIN if project == SYSTEM else ADMIN


def check_roles(credential_project: str, roles: Iterable[str]) -> list[tuple[str, str]]:
    """`project:role` texts as pairs. LabError for what the cluster would refuse or not heed."""
    checked = []
    for text in roles:
        project, _, role = text.partition(":")
        known = (CLUSTER_ADMIN,) if project == SYSTEM else (ADMIN, VIEWER)
        if role not in known:
            raise LabError(f"project {project} has no role {role!r}; it has {', '.join(known)}")
        if credential_project not in (SYSTEM, project):
            raise LabError(
                f"a credential of project {credential_project} cannot give the role {text!r}; "
                f"one of {project} or of {SYSTEM} can"
            )
        checked.append((project, role))
    return checked


def _pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@dataclass(frozen=True)
class _KnownToken:
    """What a token proved to be, by which credential (project and name) and key."""

    caller: Caller
    expires: datetime
    credential: tuple[str, str]
    key: rsa.RSAPublicKey


class Authenticator:
    """Checks the `Authorization` header; what it found out about a token is kept in memory."""

    def __init__(
        self,
        public_key: rsa.RSAPublicKey,
        projects: Collection[str],
        credentials: Mapping[tuple[str, str], CredentialRecord],
        now: Callable[[], datetime],
    ) -> None:
        """`projects` and `credentials`, by project and name, may change later.

        Every project has the credential of the lab, whose key this is, beside those.
        """
        self._key = public_key
        self._projects = projects
        self._credentials = credentials
        self._now = now
        self._known: dict[str, _KnownToken] = {}

    def trust(self, public_key: rsa.RSAPublicKey) -> None:
        """Accept tokens of this key only."""
        self._key = public_key
        self._known.clear()

    @property
    def public_key_pem(self) -> bytes:
        """The key that the lab's own tokens are checked with."""
        return self._key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def authenticate(self, header: str | None) -> Caller:
        """Who calls. Raises Unauthenticated, whose text never holds the token."""
        scheme, _, token = (header or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("a token is needed: send `Authorization: Bearer <JWT>`")
        known = self._known.get(token)
        if known is None:
            known = self._verify(token)
            if len(self._known) >= MAX_KEPT_TOKENS:
                self._known.clear()
            self._known[token] = known
        elif self._credential_key(*known.credential) is not known.key:
            known = self._known[token] = self._verify(token)
        if known.expires <= self._now():
            raise Unauthenticated(
                f"the token expired at {known.expires:%Y-%m-%dT%H:%M:%SZ}; renew it"
            )
        return known.caller

    def _verify(self, token: str) -> _KnownToken:
        try:
            credential = _credential_of(jwt.get_unverified_header(token).get("kid"))
            key = self._credential_key(*credential)
            claims = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                # Time is checked against the injected clock, and again for a known token.
                options={
                    "require": ["sub", "exp", "roles"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "verify_aud": False,
                },
            )
        except jwt.InvalidAlgorithmError:
            raise Unauthenticated(f"the token is not signed with {ALGORITHM}") from None
        except jwt.InvalidSignatureError:
            raise Unauthenticated("the token's signature is not of this cluster's key") from None
        except jwt.InvalidTokenError as cause:
            raise Unauthenticated(f"the token is not valid: {cause}") from None
        expires = _moment(claims, "exp")
        if "nbf" in claims and _moment(claims, "nbf") > self._now():
            raise Unauthenticated("the token is not valid yet (nbf lies in the future)")
        caller = Caller(str(claims["sub"]), _roles(claims["roles"], credential[0]))
        return _KnownToken(caller, expires, credential, key)

    def _credential_key(self, project: str, name: str) -> rsa.RSAPublicKey:
        """The key of a credential as it is now; a project's credentials end with it."""
        if project == SYSTEM or project in self._projects:
            if name == OWN_CREDENTIAL:
                return self._key
            if (record := self._credentials.get((project, name))) is not None:
                return public_key(record.public_key.encode())
        raise Unauthenticated(
            f"credential '{project[:63]}:{name[:64]}' is not known to this cluster"
        )


@functools.lru_cache(MAX_KEPT_TOKENS)
def public_key(pem: bytes) -> rsa.RSAPublicKey:
    """The RSA key of a PEM text. ValueError for anything else."""
    try:
        loaded = serialization.load_pem_public_key(pem)
    except UnsupportedAlgorithm as cause:
        raise ValueError(str(cause)) from cause
    if not isinstance(loaded, rsa.RSAPublicKey):
        raise ValueError("it is no RSA key")
    if loaded.key_size < MIN_KEY_BITS:
        raise ValueError(f"it has {loaded.key_size} bits, fewer than {MIN_KEY_BITS}")
    return loaded


def _credential_of(kid: Any) -> tuple[str, str]:
    project, _, name = kid.partition(":") if isinstance(kid, str) else ("", "", "")
    if not project or not name:
        raise Unauthenticated("the token's kid is not `<project>:<credential>`")
    return project, name


def _moment(claims: dict[str, Any], name: str) -> datetime:
    value = claims[name]
    try:
        return datetime.fromtimestamp(value, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        raise Unauthenticated(f"the token's {name} is not a time") from None


def _roles(claim: Any, credential_project: str) -> frozenset[tuple[str, str]]:
    """Roles that a credential may give: those of its own project, and all for `system`."""
    if not isinstance(claim, Sequence) or isinstance(claim, str) or not claim:
        raise Unauthenticated("the token's roles are not a list of `<project>:<role>`")
    roles = set()
    for text in claim:
        project, _, role = text.partition(":") if isinstance(text, str) else ("", "", "")
        if not project or not role:
            raise Unauthenticated("the token's roles are not a list of `<project>:<role>`")
        if credential_project not in (SYSTEM, project):
            raise Unauthenticated(
                f"a credential of project {credential_project} cannot give the role {text[:128]!r}"
            )
        roles.add((project, role))
    return frozenset(roles)
