# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lightos.discovery import users
from lightos.discovery.entries import parse

HERE = os.stat("/proc/self/ns/pid").st_ino
LINE = "-t tcp -a 192.168.75.11 -s 8009 -q nqn.2014-08.a:b -n nqn.2016-01.c:d\n"


def test_users_are_comments_that_can_be_read_back_and_replaced() -> None:
    content = users.with_users(f"# a volume\n{LINE}", {"os-brick", "nova"})
    assert content == f"# used by nova\n# used by os-brick\n# a volume\n{LINE}"
    assert users.users_of(content) == {"nova", "os-brick"}
    assert users.with_users(content, {"nova"}) == f"# used by nova\n# a volume\n{LINE}"
    assert parse(content, "file").entries == parse(LINE, "file").entries


def test_no_file_has_no_user_and_one_of_an_earlier_connector_has_one_without_name() -> None:
    assert users.users_of(None) == frozenset()
    assert users.users_of(LINE) == users.users_of("") == {users.UNNAMED}
    named = users.with_users(LINE, {users.UNNAMED, "nova"})
    assert users.users_of(named) == {users.UNNAMED, "nova"}


@pytest.mark.parametrize(
    ("before", "done", "left"),
    [
        ({"nova"}, "nova", set()),
        (set(), "nova", set()),
        ({"nova", "os-brick"}, "os-brick", {"nova"}),
        ({users.UNNAMED}, "nova", set()),  # attached before the host was upgraded
        ({users.UNNAMED, "os-brick"}, "nova", {"os-brick"}),
        ({users.UNNAMED, "os-brick"}, "os-brick", {users.UNNAMED}),
        ({"os-brick"}, "nova", {"os-brick"}),
        ({"nova", "cinder:999999999:1"}, "nova", set()),  # a cinder-volume that died
        ({"nova", f"cinder:999999999:1:{HERE}"}, "nova", set()),
        ({"nova", "cinder:999999999:1:1"}, "nova", {"cinder:999999999:1:1"}),  # in a container
    ],
)
def test_who_is_left(before: set[str], done: str, left: set[str]) -> None:
    assert users.left_without(before, done) == left


def test_what_cinder_and_glance_attach_ends_with_their_process() -> None:
    script = "from lightos.discovery.users import this_service as s; print(s('cinder')); input()"
    service = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert service.stdout is not None
    user = service.stdout.readline().strip()
    assert user.startswith(f"cinder:{service.pid}:")
    assert user.endswith(f":{HERE}")
    assert users.validated(user) == user
    assert users.left_without({user, "nova"}, "nova") == {user}
    service.communicate("\n")
    assert users.left_without({user, "nova"}, "nova") == set()
    assert users.this_service("glance") != "glance"


@pytest.mark.parametrize(
    ("project", "name"),
    [("nova", "nova"), (None, "os-brick"), ("", "os-brick"), ("a b", "os-brick")],
)
def test_what_others_attach_outlives_them(project: str | None, name: str) -> None:
    assert users.this_service(project) == name
    assert users.is_there(name)


@pytest.mark.parametrize(
    "user", ["", "a b", "nova\n-t tcp", "cinder:1", "cinder:1:x", "cinder:1:1:x", None, 7]
)
def test_what_is_no_user(user: object) -> None:
    with pytest.raises(ValueError, match="no user"):
        users.validated(user)  # type: ignore[arg-type]
