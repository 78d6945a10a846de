# SPDX-License-Identifier: Apache-2.0
"""The cluster's key and the files with tokens: for its administrator and for each project's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path

from lightos.lab.auth import Authenticator, Authority, default_role
from lightos.lab.errors import Internal
from lightos.lab.files import write_secret
from lightos.lab.names import SYSTEM
from lightos.lab.records import CredentialRecord

LIFETIME = timedelta(days=365)


def key_file(directory: Path) -> Path:
    return directory / "key.pem"


def token_file(directory: Path, project: str) -> Path:
    """The file with the token of a project's administrator, or of the cluster's (`system`)."""
    return directory / f"{project}.jwt"


class Tokens:
    """Issues the tokens in a directory, and anew while the cluster runs."""

    def __init__(
        self,
        directory: Path,
        projects: Collection[str],
        credentials: Mapping[tuple[str, str], CredentialRecord],
        now: Callable[[], datetime],
    ) -> None:
        """Read the key or make it, and write a token for each of `projects`.

        These and `credentials`, by project and name, may change later.

        Raises LabError for a key file that is none, OSError from the disk.
        """
        self._directory = directory
        self._projects = projects
        self._now = now
        self._turn = asyncio.Lock()
        directory.mkdir(mode=0o700, exist_ok=True)
        authority = Authority.at(key_file(directory))
        self._write(authority, tuple(projects))
        self.authenticator = Authenticator(authority.public_key, projects, credentials, now)

    async def renew(self) -> None:
        """Write new tokens; those issued before stay good. Raises Internal (disk)."""
        await self._issue(Authority.at)

    async def replace(self) -> None:
        """Have a new key, and write tokens of it; those issued before are refused from now on.

        Raises Internal (disk), with the old key still good unless it says otherwise.
        """
        await self._issue(Authority.make)

    async def drop_others(self) -> None:
        """Remove the files with tokens of projects that are no more. Raises Internal (disk)."""
        kept = {token_file(self._directory, name) for name in (SYSTEM, *self._projects)}
        with self._disk_errors():
            for path in self._directory.glob("*.jwt"):
                if path not in kept:
                    path.unlink(missing_ok=True)

    async def _issue(self, authority_at: Callable[[Path], Authority]) -> None:
        async with self._turn:
            with self._disk_errors():
                authority = await asyncio.to_thread(authority_at, key_file(self._directory))
                self.authenticator.trust(authority.public_key)
                await asyncio.to_thread(self._write, authority, tuple(self._projects))

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as cause:
            raise Internal(
                f"the lab cannot write tokens in {self._directory}: {cause}; free space on "
                "that disk and try again"
            ) from cause

    def _write(self, authority: Authority, projects: Collection[str]) -> None:
        for project in (SYSTEM, *projects):
            roles = [(project, default_role(project))]
            token = authority.issue(project, roles, now=self._now(), valid=LIFETIME)
            write_secret(token_file(self._directory, project), token.encode() + b"\n")
