# SPDX-License-Identifier: Apache-2.0
"""The DevStack plugin, through the phases of DevStack's scripts, with a lab and with a cluster.

DevStack comes as a git repository only, so `functions.sh` stands in for it; with the environment
variable DEVSTACK, the folder of a DevStack, its own functions are used.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed.cinder.database import connection_url, provision
from testbed.cluster import free_port, loopback_addresses

CHECKOUT = Path(__file__).parents[3]
STACK = ("stack pre-install", "configure_cinder", "stack install", "stack post-config")
Run = Callable[..., "subprocess.CompletedProcess[str]"]

LOAD = """
import sys
from cinder import monkey_patch; monkey_patch.patch()
from cinder import context, objects; objects.register_all()
from cinder.volume import configuration, driver, manager
from oslo_config import cfg
from oslo_utils import importutils

conf_file, lock_path, database = sys.argv[1:]
cfg.CONF(["--config-file", conf_file], project="cinder")
cfg.CONF.set_override("lock_path", lock_path, "oslo_concurrency")
cfg.CONF.set_override("connection", database, "database")
for name in cfg.CONF.enabled_backends:
    options = configuration.Configuration(
        driver.volume_opts + manager.volume_backend_opts, config_group=name
    )
    loaded = importutils.import_object(
        options.volume_driver, configuration=options, host="here@" + name, cluster_name=None
    )
    loaded.do_setup(context.get_admin_context())
    loaded.check_for_setup_error()
    stats = loaded.get_volume_stats(refresh=True)
    print(type(loaded).__module__, name, stats["volume_backend_name"], stats["vendor_name"])
"""


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Runs phases with what local.conf says; whatever they started is stopped afterwards."""
    settings: dict[str, str] = {}

    def phases(*names: str, check: bool = True, **local_conf: str) -> Any:
        settings.update(local_conf)
        kept = ("PATH", "HOME", "LANG", "DEVSTACK")
        environment = {name: os.environ[name] for name in kept if name in os.environ}
        environment |= {
            "PYTHON": sys.executable,
            "PLUGIN": str(CHECKOUT),
            "DATA_DIR": str(tmp_path),
            "ENABLED_SERVICES": "c-api,c-sch,c-vol,n-cpu",
        }
        command = ["bash", str(Path(__file__).with_name("run.sh")), *names]
        done = subprocess.run(
            command, env=environment | settings, capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    yield phases
    if (tmp_path / "lightos-lab.pid").exists():
        phases("unstack", check=False)


def loaded(folder: Path) -> str:
    """What Cinder gets of the back ends of cinder.conf, as cinder-volume starts them."""
    database = folder / "cinder.sqlite"
    provision(database)
    arguments = [folder / "cinder.conf", folder, connection_url(database)]
    command = [sys.executable, "-W", "ignore", "-c", LOAD, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_devstack_with_nothing_configured_has_a_lab(run: Run, tmp_path: Path) -> None:
    run(
        *STACK,
        LIGHTOS_LAB_ADDRESSES=",".join(loopback_addresses(3)),
        LIGHTOS_API_PORT=str(free_port()),
    )
    driver = "lightos.openstack.cinder.driver lightos lightos LightOS Storage"
    assert loaded(tmp_path) == driver

    machine = (tmp_path / "machine").read_text().splitlines()
    lightos = Path(sys.executable).with_name("lightos")
    client = f"run_process lightos-discovery-client {lightos} discovery-client serve  root"
    assert f"pip_install -e {CHECKOUT}[lab]" in machine
    assert "sudo modprobe nvme-tcp" in machine
    assert client in machine
    has_identity = Path("/etc/nvme/hostnqn").exists()
    for name in ("hostnqn", "hostid"):
        assert (f"sudo tee /etc/nvme/{name}" in machine) is not has_identity

    lab = int((tmp_path / "lightos-lab.pid").read_text())
    run("unstack")
    assert not Path(f"/proc/{lab}").exists()
    assert (tmp_path / "lightos-lab").exists()
    run("clean")
    assert not (tmp_path / "lightos-lab").exists()
    (tmp_path / "lightos-lab.pid").unlink()


def test_a_folder_that_holds_no_lab_is_kept(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    run("clean", LIGHTOS_LAB_DIR=str(folder))
    assert folder.exists()


def test_a_devstack_of_a_cluster(run: Run, tmp_path: Path, lab: dict[str, Any]) -> None:
    done = run(
        *STACK,
        CINDER_ENABLED_BACKENDS="lightos:fast,lightos:faster",
        LIGHTOS_API_ADDRESS=",".join(lab["api_addresses"]),
        LIGHTOS_API_PORT=str(lab["api_port"]),
        LIGHTOS_JWT_FILE=lab["jwt_file"],
        LIGHTOS_CA_FILE=lab["ca_file"],
        LIGHTOS_DATA_NETWORKS="127.0.0.0/8",
    )
    assert [line.split()[1] for line in loaded(tmp_path).splitlines()] == ["fast", "faster"]
    conf = (tmp_path / "cinder.conf").read_text()
    token = Path(lab["jwt_file"]).read_text().strip()
    assert token not in conf + done.stdout + done.stderr
    assert "lightos-lab" not in (tmp_path / "machine").read_text()
    run("unstack")
    run("clean")


@pytest.mark.parametrize(
    ("local_conf", "said"),
    [
        (
            {"LIGHTOS_LAB": "True", "LIGHTOS_API_ADDRESS": "192.0.2.1"},
            "LIGHTOS_LAB and LIGHTOS_API_ADDRESS name two clusters",
        ),
        ({"LIGHTOS_LAB": "False"}, "LIGHTOS_API_ADDRESS is not set"),
        (
            {"LIGHTOS_API_ADDRESS": "192.0.2.1", "LIGHTOS_JWT_FILE": "/nonexistent"},
            "cannot read /nonexistent",
        ),
    ],
)
def test_settings_that_cannot_work_end_it_before_anything_is_installed(
    run: Run, tmp_path: Path, local_conf: dict[str, str], said: str
) -> None:
    done = run("stack pre-install", "stack install", check=False, **local_conf)
    assert done.returncode != 0
    assert said in done.stdout + done.stderr
    assert not (tmp_path / "machine").exists()


def test_a_host_without_volumes_is_left_alone(run: Run, tmp_path: Path) -> None:
    run(*STACK, ENABLED_SERVICES="key,q-svc", CINDER_ENABLED_BACKENDS="lvm:lvmdriver-1")
    assert not (tmp_path / "machine").exists()
