# SPDX-License-Identifier: Apache-2.0
"""`lightos doctor --cinder-conf`, on a good deployment and on many broken ones.

Each broken set-up is a back end of its own, so that one doctor looks at them all; what it must say
of each stands beside it, and it must say no more.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lightos.api.credentials import is_expired
from testbed.cinder import configuration, database
from testbed.cluster import (
    LIGHTOS,
    Cluster,
    connector,
    free_port,
    loopback_addresses,
    running_lab,
    sensitive_words,
    stopped_node,
)
from testbed.polling import wait_until

DAY_SECONDS = 24 * 3600
PASSWORD = "open-sesame-17"

Section = dict[str, object]


@dataclass
class Doctor:
    """What one run came to."""

    status: int
    findings: list[dict[str, str]]
    output: str

    def bad(self, subject: str = "") -> list[tuple[str, str, str]]:
        """Severity, check and words of what is not well, of subjects that hold `subject`."""
        return [
            (each["severity"], each["check"], f"{each['subject']}: {each['said']} {each['fix']}")
            for each in self.findings
            if each["severity"] != "ok" and subject in each["subject"]
        ]

    def well(self, check: str) -> list[str]:
        return [
            f"{each['subject']}: {each['said']}"
            for each in self.findings
            if (each["severity"], each["check"]) == ("ok", check)
        ]


@dataclass
class World:
    """Two clusters that trust the same tokens: one of three nodes, and one of one."""

    folder: Path
    lab: dict[str, Any]
    lab_dir: Path
    small: dict[str, Any]
    small_dir: Path

    def token_file(self, name: str, *words: str, mode: int = 0o600) -> str:
        """A file with a token that the small cluster made for the occasion."""
        lasting = f"--valid-seconds={300 * DAY_SECONDS}"
        command = [LIGHTOS, "lab", "token", f"--state-dir={self.small_dir}", lasting, *words]
        made = subprocess.run(command, check=True, capture_output=True, text=True)
        return self.written(name, made.stdout, mode)

    def written(self, name: str, content: str, mode: int = 0o600) -> str:
        path = self.folder / name
        path.write_text(content)
        path.chmod(mode)
        return str(path)

    def conf(
        self,
        name: str,
        back_ends: Mapping[str, Section],
        default: Section | None = None,
        coordination: str = "",
        with_database: bool = True,
    ) -> Path:
        """A cinder.conf in a folder of its own, with the database beside it."""
        folder = self.folder / name
        deployment = configuration.Deployment(
            folder,
            "127.0.0.1",
            0,
            {key: dict(value) for key, value in back_ends.items()},
            default=default or {},
        )
        folder.mkdir()
        configuration.write(deployment)
        sections = dict(configuration.sections(deployment))
        if coordination:
            sections["coordination"] = {"backend_url": coordination}
        deployment.conf_file.write_text(configuration.render(sections))
        if with_database:
            database.provision(deployment.database)
        return deployment.conf_file

    def back_end(self, **changes: object) -> Section:
        """The driver guide's section, with changes; None leaves an option out."""
        options = {**configuration.lightos_backend(self.lab), **changes}
        return {name: value for name, value in options.items() if value is not None}

    def with_token_file(self, path: str, **changes: object) -> Section:
        return self.back_end(lightos_jwt=None, lightos_jwt_file=path, **changes)

    def small_back_end(self, **changes: object) -> Section:
        changes = {"lightos_default_num_replicas": 1, **changes}
        return {**self.back_end(**configuration.lightos_backend(self.small)), **changes}


@pytest.fixture(scope="module")
def world(
    lab: dict[str, Any], lab_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("doctor")
    small_dir = folder / "small"
    options: dict[str, Any] = {
        "addresses": loopback_addresses(1)[0],
        "api_port": lab["api_port"],
        "projects": "blue",
    }
    with running_lab(small_dir, **options) as first:
        pass
    keys = [Path(each["jwt_file"]).with_name("key.pem") for each in (lab, first)]
    shutil.copy(*keys)
    with running_lab(small_dir, **options) as small:
        yield World(folder, lab, lab_dir, small, small_dir)


def doctor(*words: str | Path, status: int | None = None) -> Doctor:
    done = subprocess.run(
        [LIGHTOS, "doctor", *words, "--json"], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    said = json.loads(done.stdout)
    assert said["exit_status"] == done.returncode
    if status is not None:
        assert done.returncode == status, done.stdout
    return Doctor(done.returncode, said["findings"], done.stdout)


def record(conf: Path, **records: Any) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "tests.integration.records", conf]
    root = Path(__file__).parents[2]
    subprocess.run(command, check=True, input=json.dumps(records), text=True, cwd=root)


# --- back ends ---------------------------------------------------------------------------------


def dead_address(world: World) -> Section:
    addresses = [*world.lab["api_addresses"][:2], "127.0.0.254"]
    return world.back_end(lightos_api_address=",".join(addresses))


def two_clusters(world: World) -> Section:
    both = "".join(Path(each["ca_file"]).read_text() for each in (world.lab, world.small))
    addresses = [world.lab["api_addresses"][0], world.small["api_addresses"][0]]
    return world.back_end(
        lightos_api_address=",".join(addresses),
        driver_ssl_cert_path=world.written("both.pem", both),
    )


def strange_token(world: World) -> Section:
    header, claims, signature = Path(world.lab["jwt_file"]).read_text().strip().split(".")
    forged = f"{header}.{claims}.{signature[:-40]}{'A' * 38}{signature[-2:]}"
    return world.back_end(lightos_jwt=forged)


def expired(world: World) -> Section:
    path = world.token_file("expired.jwt", "--valid-seconds=1")
    wait_until(lambda: is_expired(Path(path).read_text().strip()), "the token has expired")
    return world.with_token_file(path)


BACK_ENDS: dict[str, tuple[Callable[[World], Section], list[tuple[str, str, str]]]] = {
    "as-in-the-guide": (lambda world: world.back_end(), []),
    "token-in-a-file": (lambda world: world.with_token_file(world.lab["jwt_file"]), []),
    "a-dead-address": (dead_address, [("warning", "api-address", "127.0.0.254")]),
    "another-port": (
        lambda world: world.back_end(lightos_api_port=free_port()),
        [("critical", "api-address", "Connection refused")] * 3,
    ),
    "no-tls-port": (
        lambda world: world.back_end(lightos_api_port=world.lab["discovery_port"]),
        [("critical", "", "")] * 3,
    ),
    "no-address": (
        lambda world: world.back_end(lightos_api_address=None),
        [("critical", "option", "lightos_api_address: is not set")],
    ),
    "half-an-address": (
        lambda world: world.back_end(lightos_api_address="192.168.75"),
        [("critical", "option", "lightos_api_address")],
    ),
    "one-address": (
        lambda world: world.back_end(lightos_api_address=world.lab["api_addresses"][0]),
        [("warning", "api-address", "name several")],
    ),
    "two-clusters": (two_clusters, [("critical", "cluster", "different clusters")]),
    "another-ca": (
        lambda world: world.back_end(driver_ssl_cert_path=world.small["ca_file"]),
        [("critical", "tls", "driver_ssl_cert_path")] * 3,
    ),
    "no-ca": (
        lambda world: world.back_end(driver_ssl_cert_path="/nonexistent/ca.pem"),
        [("critical", "option", "/nonexistent/ca.pem: No such file")],
    ),
    "unverified": (
        lambda world: world.back_end(driver_ssl_cert_verify=False),
        [("warning", "tls", "driver_ssl_cert_verify = True")],
    ),
    "misspelt": (
        lambda world: world.back_end(lightos_jwt_flie="/etc/cinder/lightos.jwt"),
        [("warning", "option", "lightos_jwt_flie")],
    ),
    "seven-replicas": (
        lambda world: world.back_end(lightos_default_num_replicas=7),
        [("critical", "option", "lightos_default_num_replicas")],
    ),
    "more-replicas-than-nodes": (
        lambda world: world.small_back_end(lightos_default_num_replicas=3),
        [("critical", "replicas", "3 replicas of 1 nodes")],
    ),
    "no-token": (
        lambda world: world.back_end(lightos_jwt=None),
        [("critical", "token", "lightos_jwt is not set")],
    ),
    "two-tokens": (
        lambda world: world.back_end(lightos_jwt_file=world.lab["jwt_file"]),
        [("critical", "token", "set one of the two")],
    ),
    "no-token-file": (
        lambda world: world.with_token_file("/nonexistent/lightos.jwt"),
        [("critical", "token", "cannot read the token file /nonexistent/lightos.jwt")],
    ),
    "no-token-in-the-file": (
        lambda world: world.with_token_file(world.written("empty.jwt", "\n")),
        [("critical", "token", "does not hold one JWT")],
    ),
    "a-token-for-all-to-read": (
        lambda world: world.with_token_file(world.token_file("open.jwt", mode=0o644)),
        [("warning", "token-file", "open.jwt has mode 0644")],
    ),
    "a-token-of-five-days": (
        lambda world: world.with_token_file(
            world.token_file("five.jwt", f"--valid-seconds={5 * DAY_SECONDS + 3600}")
        ),
        [("warning", "token", "5 days left")],
    ),
    "an-expired-token": (expired, [("critical", "token", "it expired")]),
    "a-strange-token": (strange_token, [("critical", "token", "refused it")]),
    "a-token-that-may-only-look": (
        lambda world: world.with_token_file(
            world.token_file("viewer.jwt", "--project=default", "--role=viewer")
        ),
        [("critical", "project", "may only read it")],
    ),
    "a-token-of-another-project": (
        lambda world: world.small_back_end(
            lightos_jwt=Path(world.token_file("blue.jwt", "--project=blue")).read_text().strip()
        ),
        [("critical", "project", "default: the token may not use it")],
    ),
    "with-volume-types": (
        lambda world: world.small_back_end(),
        [
            ("critical", "volume-type", "lightos:num_replicas"),
            ("critical", "volume-type", "read_iops_sec"),
            ("critical", "qos-policy", "no QoS policy bronze"),
            ("critical", "qos-policy", "gold is not for project blue"),
            ("critical", "project", "nowhere: the cluster has no such project"),
            ("critical", "replicas", "2 replicas of 1 nodes"),
        ],
    ),
}
"""Each back end, and what the doctor must say of it: severity, check, words."""

VOLUME_TYPES: dict[str, dict[str, str]] = {
    "gold": {"lightos:qos_policy": "gold"},
    "bronze": {"lightos:qos_policy": "bronze"},
    "blue-gold": {"lightos:qos_policy": "gold", "lightos:project_name": "blue"},
    "lost": {"lightos:project_name": "nowhere"},
    "nine": {"lightos:num_replicas": "9"},
    "pair": {"lightos:num_replicas": "2"},
    "fast": {},
    "odd": {},
}
QOS_SPECS = {"fast": {"total_iops_sec": "5120"}, "odd": {"read_iops_sec": "10"}}


@pytest.fixture(scope="module")
def told(world: World) -> Doctor:
    """One doctor's word on all of them."""
    back_ends = {
        name: {**make(world), "volume_backend_name": name} for name, (make, _) in BACK_ENDS.items()
    }
    policy = {
        "name": "gold",
        "qoSRateLimitPolicy": {
            "policyVisibility": "Scoped",
            "projectsNamesScope": ["default"],
            "limitIOPS": {"readIOPSLimit": 256, "writeIOPSLimit": 256},
        },
    }
    Cluster(world.small).request("POST", "/policies", policy)
    back_ends["other"] = {"volume_driver": "cinder.tests.fake"}
    conf = world.conf("all", back_ends, default={"cluster": "c1"})
    types = {
        name: {"volume_backend_name": "with-volume-types", **specs}
        for name, specs in VOLUME_TYPES.items()
    }
    machines = [connector(name, number=1) for name in ("compute1", "compute2")]
    machines[1]["ip"] = "192.168.75.102"
    record(
        conf, types=types, qos=QOS_SPECS, connectors=[*machines, connector("compute3", number=3)]
    )
    said = doctor("--cinder-conf", conf, status=2)
    words = [*sensitive_words(world.lab), *sensitive_words(world.small)]
    words += [part for path in world.folder.glob("*.jwt") for part in path.read_text().split(".")]
    words += str(back_ends["a-strange-token"]["lightos_jwt"]).split(".")
    assert not [word for word in words if len(word) > 30 and word.strip() in said.output]
    return said


@pytest.mark.parametrize("name", BACK_ENDS)
def test_each_back_end_gets_what_is_its(told: Doctor, name: str) -> None:
    found = told.bad(f"[{name}]")
    expected = BACK_ENDS[name][1]
    for severity, check, words in expected:
        assert any(
            one == severity and check in (other, "") and words in said for one, other, said in found
        ), (severity, check, words, found)
    assert len(found) == len(expected), found


def test_what_is_well_is_said_too(told: Doctor) -> None:
    (tokens,) = [line for line in told.well("token") if "[as-in-the-guide]" in line]
    assert "364 days left" in tokens
    subjects = [line for line in told.well("api-address") if "[as-in-the-guide]" in line]
    assert len(subjects) == 3
    for check in ("tls", "cluster", "nodes", "replicas", "project"):
        assert any("[as-in-the-guide]" in line for line in told.well(check)), check
    policies = told.well("qos-policy")
    assert any("QoS policy gold is there" in line for line in policies)
    assert any("cinder-iops-5120 is made when it is needed" in line for line in policies)
    assert not any("[other]" in finding["subject"] for finding in told.findings)


def test_locks_of_one_machine_do_not_do_for_a_cluster(told: Doctor) -> None:
    ((severity, check, said),) = told.bad("[coordination]")
    assert (severity, check) == ("critical", "lock-manager")
    assert "of one machine only" in said


def test_two_hosts_with_one_nqn(told: Doctor) -> None:
    ((severity, check, said),) = told.bad(connector("any", number=1)["nqn"])
    assert (severity, check) == ("critical", "host-nqn")
    assert "compute1 and compute2" in said
    assert not told.bad(connector("any", number=3)["nqn"])


# --- deployments -------------------------------------------------------------------------------


def test_a_good_deployment(world: World) -> None:
    conf = world.conf("good", {"lightos": world.back_end()})
    well = doctor("--cinder-conf", conf, status=0)
    assert well.bad() == []
    assert {"name", "token", "api-address", "tls", "cluster", "nodes", "replicas", "project"} < {
        each["check"] for each in well.findings
    }
    shown = subprocess.run(
        [LIGHTOS, "doctor", "--cinder-conf", conf], capture_output=True, text=True, check=True
    )
    first, *others = shown.stdout.splitlines()
    assert first == f"LIGHTOS OK - 0 critical, 0 warning, {len(others)} ok"


def test_a_node_that_is_away(world: World) -> None:
    conf = world.conf("away", {"lightos": world.back_end()})
    node = next(
        each for each in world.lab["nodes"] if each["address"] == world.lab["api_addresses"][1]
    )
    with stopped_node(world.lab_dir, node["name"]):
        said = doctor("--cinder-conf", conf, status=1)
    assert [(severity, check) for severity, check, _ in said.bad()] == [
        ("warning", "api-address"),
        ("warning", "nodes"),
        ("warning", "replicas"),
    ]


@pytest.mark.parametrize(
    ("backend_url", "shown"),
    [
        (f"redis://:{PASSWORD}@127.0.0.1:{{}}", "redis://127.0.0.1:{}"),
        ("etcd3+http://127.0.0.1:{}", "etcd3+http://127.0.0.1:{}"),
    ],
    ids=["redis", "etcd"],
)
def test_a_cluster_without_its_lock_manager(
    world: World, backend_url: str, shown: str, request: pytest.FixtureRequest
) -> None:
    port = free_port()
    conf = world.conf(
        f"locks-{request.node.callspec.id}",
        {"lightos": world.back_end()},
        default={"cluster": "c1"},
        coordination=backend_url.format(port),
    )
    said = doctor("--cinder-conf", conf, status=2)
    ((severity, check, text),) = said.bad()
    assert (severity, check) == ("critical", "lock-manager")
    assert shown.format(port) in text
    assert PASSWORD not in said.output


@pytest.mark.parametrize("url", ["", f"mysql+pymysql://cinder:{PASSWORD}@127.0.0.1:1/cinder"])
def test_a_database_that_is_not_there(world: World, url: str) -> None:
    name = f"no-database-{bool(url)}"
    conf = world.conf(name, {"lightos": world.back_end()}, with_database=False)
    if url:
        own = database.connection_url(conf.with_name("cinder.sqlite"))
        conf.write_text(conf.read_text().replace(own, url))
    said = doctor("--cinder-conf", conf, status=1)
    assert [(severity, check) for severity, check, _ in said.bad()] == [("warning", "database")]
    assert PASSWORD not in said.output
    assert not conf.with_name("cinder.sqlite").exists()


def test_a_file_that_is_no_configuration(world: World) -> None:
    token = Path(world.lab["jwt_file"]).read_text().strip()
    conf = world.written("broken.conf", f"[lightos]\nlightos_jwt {token}\n")
    said = doctor("--cinder-conf", conf, status=2)
    ((severity, check, text),) = said.bad()
    assert (severity, check) == ("critical", "cinder-conf")
    assert f"at {conf}:2" in text
    assert token not in said.output


def test_a_deployment_without_lightos_and_with_an_unknown_lock_manager(world: World) -> None:
    conf = world.conf(
        "none",
        {"other": {"volume_driver": "cinder.tests.fake"}},
        default={"cluster": "c1"},
        coordination="nonsense://127.0.0.1",
    )
    (first, second) = doctor("--cinder-conf", conf, status=2).bad()
    assert first[:2] == ("critical", "cinder-conf")
    assert "no enabled back end has the LightOS driver" in first[2]
    assert second[:2] == ("critical", "lock-manager")
    assert "nonsense" in second[2]


def test_a_command_line_that_makes_no_sense() -> None:
    done = subprocess.run(
        [LIGHTOS, "doctor", "--cinder-config", "x"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert "No such option" in done.stderr
