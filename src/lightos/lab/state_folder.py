# SPDX-License-Identifier: Apache-2.0
"""The folder that one lab keeps everything in, and the lock that says whether it runs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from lightos.lab.errors import LabError
from lightos.lab.files import write_file

_DESCRIPTION = "lab.json"
_LOCK = "lab.lock"
_LOG = "lab.log"
_DATABASE = "cluster.sqlite"


class NotRunning(LabError):
    """No lab runs on the folder."""


@dataclass(frozen=True)
class StateFolder:
    """Names of the files in `path`; making the object touches nothing."""

    path: Path

    @classmethod
    def default(cls) -> Self:
        """`lightos-lab` in the user's state directory (XDG Base Directory Specification)."""
        home = os.environ.get("XDG_STATE_HOME", "")
        base = Path(home) if home.startswith("/") else Path.home() / ".local" / "state"
        return cls(base / "lightos-lab")

    @property
    def description(self) -> Path:
        """lab.json: there while the lab is ready, left behind by one that was killed."""
        return self.path / _DESCRIPTION

    @property
    def log(self) -> Path:
        return self.path / _LOG

    @property
    def database(self) -> Path:
        return self.path / _DATABASE

    @property
    def blocks(self) -> Path:
        return self.path / "blocks"

    @property
    def tls(self) -> Path:
        return self.path / "tls"

    @property
    def tokens(self) -> Path:
        return self.path / "tokens"

    @property
    def page_key(self) -> Path:
        """What whoever opens the lab's web page must know."""
        return self.path / "page.key"

    @property
    def control_socket(self) -> Path:
        return self.path / "control.sock"

    def make(self) -> None:
        """Make the folder if need be. LabError when it cannot be used, or is someone else's."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            names = set(os.listdir(self.path))
        except OSError as cause:
            raise LabError(
                f"cannot use the state folder {self.path}: {cause.strerror}; "
                "choose another --state-dir"
            ) from cause
        foreign = names - {_LOCK, _LOG}
        if _DATABASE not in names and foreign:
            raise LabError(
                f"{self.path} holds other files ({min(foreign)}) and no lab: "
                "choose an empty or new folder as --state-dir"
            )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Own the folder. LabError when a running lab does."""
        try:
            handle = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as cause:
            raise LabError(
                f"cannot lock the state folder {self.path}: {cause.strerror}; "
                "check its permissions, or choose another --state-dir"
            ) from cause
        with open(handle, "w", encoding="ascii") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LabError(
                    f"a lab already runs on {self.path} (pid {self.running_pid()}): end it with "
                    f"`lightos lab down --state-dir {self.path}`, or choose another --state-dir"
                ) from None
            os.truncate(handle, 0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield

    def running_pid(self) -> int | None:
        """The process that owns the folder; None when none does."""
        try:
            with open(self.path / _LOCK, encoding="ascii") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    text = file.read().strip()
                    return int(text) if text.isdecimal() else 0
        except FileNotFoundError:
            pass
        except OSError as cause:
            raise LabError(
                f"cannot read the state folder {self.path}: {cause.strerror}; "
                "check its permissions, or choose another --state-dir"
            ) from cause
        return None

    def require_running(self) -> dict[str, Any]:
        """The content of lab.json of a lab that runs and is ready. NotRunning otherwise."""
        pid = self.running_pid()
        if pid is None:
            left = self.description.exists()
            raise NotRunning(
                f"no lab runs on {self.path}"
                + (": the one that wrote lab.json was killed" if left else "")
                + "; "
                + ("resume" if self.database.exists() else "start")
                + f" it with `lightos lab up --state-dir {self.path}`"
            )
        try:
            description: dict[str, Any] = json.loads(self.description.read_bytes())
            description["nodes"]
        except FileNotFoundError:
            raise NotRunning(f"the lab on {self.path} (pid {pid}) is not ready yet") from None
        except (ValueError, TypeError, LookupError):
            raise LabError(
                f"{self.description} is damaged: `lightos lab down --state-dir {self.path}` and "
                "then `lab up` write it anew; volumes stay"
            ) from None
        return description

    def publish(self, description: dict[str, Any]) -> None:
        """Write lab.json: the lab is ready."""
        write_file(self.description, json.dumps(description, indent=2).encode() + b"\n")

    def clear(self) -> None:
        """Remove what only a running lab has."""
        self.description.unlink(missing_ok=True)
        self.control_socket.unlink(missing_ok=True)

    @contextlib.contextmanager
    def control_address(self) -> Iterator[str]:
        """A path of the control socket short enough for a socket address (108 bytes)."""
        handle = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield f"/proc/self/fd/{handle}/{self.control_socket.name}"
        finally:
            os.close(handle)
