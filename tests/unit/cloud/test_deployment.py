# SPDX-License-Identifier: Apache-2.0
"""What the services of a cloud are told, and that its secrets are its owner's."""

from __future__ import annotations

import configparser
import json
import stat
import subprocess
from pathlib import Path

import pytest

from testbed.cloud import openrc
from testbed.cloud.cinder import BACKENDS, Cinder, VolumeTenant
from testbed.cloud.compute_host import ComputeHost
from testbed.cloud.deployment import Deployment, NotWanted
from testbed.network import Network

JWT = "eyJh.eyJz.c2ln"
PORTS = {"keystone": 15000, "glance": 19292, "cinder": 18776}


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    found = Deployment(Network("lightos-unit"), tmp_path / "cloud", PORTS)
    found.make_folders()
    return found


@pytest.fixture
def lab(tmp_path: Path) -> dict[str, object]:
    token = tmp_path / "token.jwt"
    token.write_text(JWT)
    return {
        "api_addresses": ["192.168.75.11"],
        "api_port": 443,
        "jwt_file": str(token),
        "ca_file": str(tmp_path / "ca.pem"),
    }


def read(path: Path) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(default_section="")
    parser.read(path)
    return parser


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def volume_host(cinder: Cinder, lab: dict[str, object], **options: object) -> Path:
    tenant = VolumeTenant("project", "user")
    return cinder.configure_volume_host(
        "volume1", lab, tenant, address="192.168.75.101", state=Path("/state"), **options
    )


def test_a_compute_host_is_told_where_to_run_instances_and_no_database(
    deployment: Deployment,
) -> None:
    host = ComputeHost(deployment, "compute1", "192.168.75.111", cpu=0)
    common = {"DEFAULT": {"host": "controller", "debug": True}, "api_database": {}, "database": {}}
    path = host.configure(common)
    conf = read(path)
    assert not {"database", "api_database"}.intersection(conf.sections())
    assert conf["DEFAULT"]["host"] == "compute1"
    assert conf["DEFAULT"]["debug"] == "True"
    assert conf["libvirt"]["live_migration_inbound_addr"] == "192.168.75.111"
    assert Path(conf["DEFAULT"]["instances_path"]).is_dir()
    assert (host.state / "compute_id").read_text() == host.guest.host_id
    assert mode(path) == 0o600


def test_both_back_ends_are_the_same_cluster(deployment: Deployment, lab: dict) -> None:
    conf = read(volume_host(Cinder(deployment), lab) / "cinder.conf")
    assert conf["DEFAULT"]["enabled_backends"] == "lightos-1,lightos-2"
    first, second = (dict(conf[name]) for name in BACKENDS)
    assert {first.pop("volume_backend_name"), second.pop("volume_backend_name")} == set(BACKENDS)
    assert first.pop("image_volume_cache_enabled") == "True"
    assert first.pop("image_volume_cache_max_count")
    assert second.pop("lightos_sparse_image_upload") == "True"
    assert first == second


def test_cinder_without_keystone_asks_nobody(deployment: Deployment) -> None:
    cinder = Cinder(deployment, sections={"extra": {"option": 1}}, with_keystone=False)
    conf = read(cinder.configure("cinder", Path("/state"), {}) / "cinder.conf")
    assert conf["DEFAULT"]["auth_strategy"] == "noauth"
    assert conf["extra"]["option"] == "1"
    assert not {"keystone_authtoken", "service_user", "nova"} & set(conf.sections())


def test_options_of_a_volume_host_win(deployment: Deployment, lab: dict) -> None:
    cinder = Cinder(deployment, "etcd3+http://192.168.75.1:2379", {"cluster": "shared"})
    folder = volume_host(
        cinder, lab, default={"debug": False}, lightos={"lightos_default_num_replicas": 2}
    )
    conf = read(folder / "cinder.conf")
    assert conf["DEFAULT"]["cluster"] == "shared"
    assert conf["DEFAULT"]["debug"] == "False"
    assert conf["coordination"]["backend_url"] == "etcd3+http://192.168.75.1:2379"
    assert {conf[name]["lightos_default_num_replicas"] for name in BACKENDS} == {"2"}


def test_the_jwt_is_on_the_volume_host_only(deployment: Deployment, lab: dict) -> None:
    cinder = Cinder(deployment)
    folders = [cinder.configure("cinder", Path("/state"), {}), volume_host(cinder, lab)]
    held = [JWT in (folder / "cinder.conf").read_text() for folder in folders]
    assert held == [False, True]


def test_what_holds_secrets_is_readable_by_its_owner_only(
    deployment: Deployment, lab: dict
) -> None:
    deployment.save()
    configuration = volume_host(Cinder(deployment), lab) / "cinder.conf"
    assert mode(configuration) == mode(deployment.folder / "cloud.json") == 0o600
    assert mode(deployment.folder) == 0o700


def test_no_secret_in_a_repr(deployment: Deployment) -> None:
    assert deployment.password("admin") not in repr(deployment)


def test_a_password_stays_and_is_nobody_elses(deployment: Deployment) -> None:
    names = ("admin", "cinder", "glance")
    assert len({deployment.password(name) for name in (*names, *names)}) == len(names)


def test_another_process_finds_the_same_cloud(deployment: Deployment) -> None:
    password = deployment.password("admin")
    deployment.save()
    found = Deployment.load(deployment.folder)
    assert found.network == deployment.network
    assert found.public_ports == PORTS
    assert found.password("admin") == password


def test_what_still_starts_learns_that_it_is_unwanted(deployment: Deployment) -> None:
    deployment.check_wanted()
    deployment.give_up()
    with pytest.raises(NotWanted):
        deployment.check_wanted()


def test_a_shell_reads_the_openrc_as_it_was_meant(tmp_path: Path, deployment: Deployment) -> None:
    awkward = "it's $HOME; `id`"
    wanted = openrc.variables(deployment, "alice", awkward, "a project")
    file = tmp_path / "openrc"
    file.write_text(openrc.render(wanted))
    printer = "import json, os; print(json.dumps(dict(os.environ)))"
    shell = ["sh", "-euc", '. "$1"; exec python3 -c "$2"', "sh", str(file), printer]
    seen = json.loads(subprocess.run(shell, capture_output=True, check=True).stdout)
    assert {name: seen[name] for name in wanted} == wanted
    assert wanted["OS_AUTH_URL"] == "http://127.0.0.1:15000/v3"
