# SPDX-License-Identifier: Apache-2.0
"""Who on this host uses a volume, as comments of its discovery file say: `# used by nova`.

The file has to stay while anybody does, and a detach tells only that one of them is done. A user
is a service, by name. Nova detaches a volume once, after its last instance on the host, so it is
one user however many instances it has; and what it attached outlives it, so it has no process.
What Cinder or Glance attach they need for a copy, which ends with their process: those names carry
it (`cinder:PID:START:NAMESPACE`), and when it has ended the file is taken away by the next service
that begins to attach in this PID namespace. Another container's processes cannot be seen from here:
its users are taken as still there.

A file without such comments is of an earlier connector, whose user has no name. Daemons ignore
comments. Standard library only: os-brick's privileged half imports this module.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

UNNAMED = "another service"
"""The user of a file that names none."""

ENDING_WITH_THEIR_PROCESS = frozenset({"cinder", "glance"})

_PROC = Path("/proc")
_COMMENT = "# used by "
_USER = re.compile(
    r"[A-Za-z0-9._-]{1,64}"
    r"(?::(?P<pid>[0-9]{1,10}):(?P<started>[0-9]{1,20})(?::(?P<namespace>[0-9]{1,20}))?)?"
)
"""Earlier connectors gave no namespace; theirs are taken as of this one."""
_START_TIME = 19
"""Place of `starttime`, in clock ticks since boot, in /proc/PID/stat after the command's name
(proc(5)). With the PID it names one process for good."""


def this_service(project: str | None) -> str:
    """The user that this process is, in a service of the OpenStack project `project`."""
    name = project if project and _USER.fullmatch(project) else "os-brick"
    pid = os.getpid()
    if name not in ENDING_WITH_THEIR_PROCESS or (started := _started(pid)) is None:
        return name
    return f"{name}:{pid}:{started}:{_pid_namespace()}"


def validated(user: str) -> str:
    """Return `user` if it is one; ValueError."""
    if not isinstance(user, str) or not _USER.fullmatch(user):
        raise ValueError(f"{user!r} is no user of a discovery file")
    return user


def users_of(content: str | None) -> frozenset[str]:
    """The users that a file names; nobody uses a volume that has no file (None)."""
    if content is None:
        return frozenset()
    lines = (line for line in content.splitlines() if line.startswith(_COMMENT))
    named = frozenset(line.removeprefix(_COMMENT) for line in lines)
    return named or frozenset({UNNAMED})


def left_without(users: Iterable[str], user: str) -> frozenset[str]:
    """Who goes on using the volume when `user` is done.

    One that is not among them attached with an earlier connector, so it is the one unnamed.
    """
    users = frozenset(users)
    done = user if user in users else UNNAMED
    return frozenset(each for each in users - {done} if is_there(each))


def comments(users: Iterable[str]) -> str:
    """The lines that name them."""
    return "".join(f"{_COMMENT}{user}\n" for user in sorted(users))


def with_users(content: str, users: Iterable[str]) -> str:
    """`content` with these users in place of those that it names."""
    lines = content.splitlines(keepends=True)
    return comments(users) + "".join(line for line in lines if not line.startswith(_COMMENT))


def is_there(user: str) -> bool:
    """Whether a user can still be one: false when it ended with its process."""
    match = _USER.fullmatch(user)
    if match is None or match["pid"] is None:
        return True
    if match["namespace"] not in (None, str(_pid_namespace())):
        return True
    return _started(int(match["pid"])) == int(match["started"])


def has_ended_here(user: str) -> bool:
    """Whether it is known to have ended with its process, in this PID namespace."""
    match = _USER.fullmatch(user)
    is_of_here = match is not None and match["namespace"] == str(_pid_namespace())
    return is_of_here and not is_there(user)


def _pid_namespace() -> int:
    """The inode that names it (namespaces(7)); 0 on a kernel that has only one."""
    try:
        return (_PROC / "self" / "ns" / "pid").stat().st_ino
    except OSError:
        return 0


def _started(pid: int) -> int | None:
    """When a process started; None when there is none."""
    try:
        status = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    return int(status.rpartition(")")[2].split()[_START_TIME])
