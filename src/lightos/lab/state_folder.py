# SPDX-License-Identifier: Apache-2.0
"""The folder that one lab keeps everything in, and the lock that says whether it runs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from lightos.lab.errors import LabError
from lightos.lab.files import write_file

_DESCRIPTION = "lab.json"
_LOCK = "lab.lock"
_LOG = "lab.log"
_DATABASE = "cluster.sqlite"
_MEMORY_ONLY = "lightos-lab-in-memory"
_MARK = (
    "The lab of this folder keeps nothing: the folder, with all in it, is removed when it ends.\n"
)
_IN_MEMORY = ("tmpfs", "ramfs")
MEMORY = Path("/dev/shm")  # noqa: S108 - the folder in it is made private, or refused


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

    @classmethod
    def default_in_memory(cls) -> Self:
        """A folder of the user's in the machine's memory."""
        return cls(MEMORY / f"lightos-lab-{os.getuid()}")

    @classmethod
    def present(cls) -> Self:
        """The default folder that is meant: the one in memory while a lab runs on it."""
        in_memory = cls.default_in_memory()
        runs = in_memory._is_own() and in_memory.running_pid() is not None
        return in_memory if runs else cls.default()

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

    @property
    def is_memory_only(self) -> bool:
        """Whether the lab of this folder keeps nothing when it ends."""
        mark = self.path / _MEMORY_ONLY
        return mark.is_file() and mark.read_bytes() == _MARK.encode()

    @classmethod
    def left_in_memory(cls) -> Self | None:
        """The default folder in memory, if a lab that was killed left it behind."""
        folder = cls.default_in_memory()
        left = folder._is_own() and folder.is_memory_only and folder.running_pid() is None
        return folder if left else None

    @classmethod
    def only(cls) -> Self:
        """The default folder that has a lab. LabError when both have one."""
        durable, in_memory = cls.default(), cls.default_in_memory()
        if durable.database.exists() and in_memory._is_own() and in_memory.is_memory_only:
            raise LabError(
                f"there are two labs, on {durable.path} and on {in_memory.path}: say which with "
                "--state-dir"
            )
        return cls.present()

    @contextlib.contextmanager
    def opened(self, *, memory_only: bool) -> Iterator[None]:
        """Make the folder and own it. LabError when it cannot be used, or a running lab has it.

        That of a memory-only lab is empty at first, and is removed at the end.
        """
        self.make(memory_only=memory_only)
        with self.locked(), contextlib.ExitStack() as stack:
            if memory_only:
                stack.callback(self._erase)
                self._remove_all_but({_LOCK, _LOG, _MEMORY_ONLY})
                write_file(self.path / _MEMORY_ONLY, _MARK.encode())
            self.clear()
            yield

    def erase(self) -> None:
        """Remove the folder of a memory-only lab and all in it.

        LabError when it is none of this user's in memory, or a lab runs on it.
        """
        self._check_memory()
        if not self.is_memory_only:
            raise LabError(f"{self.path} holds no lab that was started with --memory")
        with self.locked():
            self._erase()

    def _erase(self) -> None:
        # Until all else is gone the mark says that the rest may go, too.
        self._remove_all_but({_MEMORY_ONLY})
        (self.path / _MEMORY_ONLY).unlink(missing_ok=True)
        self.path.rmdir()

    def _remove_all_but(self, names: Collection[str]) -> None:
        for entry in self.path.iterdir():
            if entry.name not in names:
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()

    def make(self, *, memory_only: bool = False) -> None:
        """Make the folder if need be. LabError when it cannot be used, or is someone else's."""
        try:
            self.path.mkdir(mode=0o700 if memory_only else 0o777, parents=True, exist_ok=True)
            names = set(os.listdir(self.path))
        except OSError as cause:
            raise LabError(
                f"cannot use the state folder {self.path}: {cause.strerror}; "
                "choose another --state-dir"
            ) from cause
        foreign = names - {_LOCK, _LOG}
        if _DATABASE not in names and not self.is_memory_only and foreign:
            raise LabError(
                f"{self.path} holds other files ({min(foreign)}) and no lab: "
                "choose an empty or new folder as --state-dir"
            )
        if memory_only:
            self._check_memory()
        if memory_only != self.is_memory_only and (_DATABASE in names or self.is_memory_only):
            started = "with" if self.is_memory_only else "without"
            raise LabError(
                f"{self.path} holds a lab that was started {started} --memory; start it so, or "
                "choose another --state-dir"
            )

    def _check_memory(self) -> None:
        if not self._is_own():
            raise LabError(f"{self.path} is another user's; choose another --state-dir")
        if (kind := _file_system(self.path.stat().st_dev)) not in _IN_MEMORY:
            raise LabError(
                f"{self.path} is on {kind or 'a disk'}, not in memory: leave out --state-dir, or "
                "choose one on a tmpfs"
            )

    def _is_own(self) -> bool:
        """Whether it is a folder of this user's: others may make one of its name in /dev/shm."""
        try:
            found = self.path.lstat()
        except FileNotFoundError:
            return False
        return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()

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
                + self._fix()
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

    def _fix(self) -> str:
        if self.is_memory_only:
            return f"start one with `lightos lab up --memory --state-dir {self.path}`"
        verb = "resume" if self.database.exists() else "start"
        return f"{verb} it with `lightos lab up --state-dir {self.path}`"

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


def _file_system(device: int) -> str:
    """The kind of the file system on a device; empty where the kernel does not tell."""
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, rest = line.partition(" - ")  # proc_pid_mountinfo(5)
        if mount.split()[2] == number:
            return rest.split()[0]
    return ""
