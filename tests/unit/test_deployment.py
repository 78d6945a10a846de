# SPDX-License-Identifier: Apache-2.0
"""The files in docs/deployment.rst, read as Kolla-Ansible and OpenStack-Ansible read them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import jinja2
import pytest
import yaml

from lightos.openstack.cinder.driver import LightOSVolumeDriver

PAGE = (Path(__file__).parents[2] / "docs/deployment.rst").read_text()
KOLLA, OPENSTACK_ANSIBLE = PAGE.split("\nOpenStack-Ansible\n---")
FIXED_BY_THE_ROLE = ("limit_container_types", "extra_volume_types", "shares")
"""Keys of a back end, and of their list, that os_cinder writes into no file."""


def blocks(page: str, language: str) -> list[str]:
    found = re.findall(rf"code-block:: {language}\n\n((?:   .*\n|\n)+)", page)
    return [textwrap.dedent(block) for block in found]


LOAD = """
import json, sys
from cinder import objects; objects.register_all()
from cinder.volume import configuration, driver, manager
from lightos.openstack.cinder import options
from oslo_config import cfg
from oslo_utils import importutils

cfg.CONF(["--config-file", sys.argv[1]], project="cinder")
(name,) = cfg.CONF.enabled_backends
back_end = configuration.Configuration(
    driver.volume_opts + manager.volume_backend_opts, config_group=name
)
loaded = importutils.import_object(back_end.volume_driver, configuration=back_end, host="here")
options.check(back_end)
kept = {option.dest: str(back_end.safe_get(option.dest)) for option in loaded.get_driver_options()}
print(json.dumps({"class": type(loaded).__module__, **kept}))
"""
SERVICE_USER = """
import importlib, sys
from keystoneauth1 import loading
service, path = sys.argv[1:]
importlib.import_module(service + ".service_auth")
conf = importlib.import_module(service + ".conf" if service == "nova" else "oslo_config.cfg").CONF
conf(["--config-file", path], project=service)
auth = loading.load_auth_from_conf_options(conf, "service_user")
print(conf.service_user.send_service_user_token, type(auth).__name__, auth.auth_url)
"""


def python(program: str, *arguments: str | Path) -> str:
    command = [sys.executable, "-W", "ignore", "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def check(cinder_conf: str, folder: Path) -> None:
    """Let Cinder load the driver of the one back end; every option must be one that it reads."""
    path = folder / "cinder.conf"
    path.write_text(cinder_conf)
    kept = json.loads(python(LOAD, path))
    assert kept["class"] == LightOSVolumeDriver.__module__
    assert kept["lightos_api_address"].count(",") == 2
    assert kept["lightos_jwt_file"] == "/etc/lightos/lightos.jwt"
    assert kept["lightos_data_networks"] == "[IPv4Network('192.168.75.0/24')]"
    assert (kept["driver_ssl_cert_verify"], kept["driver_ssl_cert_path"]) == (
        "True",
        "/etc/lightos/ca.pem",
    )
    section = cinder_conf.split("[lightos]")[1]
    written = set(re.findall(r"^(\w+) *=", section, re.MULTILINE))
    assert written <= set(kept) | {"volume_driver"}


def test_kolla_ansible(tmp_path: Path) -> None:
    (override,) = blocks(KOLLA, "ini")
    check(override, tmp_path)
    (variables,) = (yaml.safe_load(block) for block in blocks(KOLLA, "yaml"))
    assert variables["skip_cinder_backend_check"] is True
    mounts = {name: found for name, found in variables.items() if name.endswith("_extra_volumes")}
    assert set(mounts) == {
        f"{container}_extra_volumes"
        for container in ("cinder_volume", "cinder_backup", "nova_compute")
    }
    for found in mounts.values():
        assert "/etc/discovery-client:/etc/discovery-client" in found


def test_the_images_of_kolla_get_this_distribution() -> None:
    (template,) = blocks(KOLLA, "jinja")
    parent = "{{ cinder_base_pip_packages_append }} {{ nova_base_pip_packages_append }}"
    loader = jinja2.DictLoader({"parent": parent, "override": template})
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined
    )
    rendered = environment.get_template("override").render(parent_template="parent")
    assert rendered.count("lightos-openstack") == 2


def test_openstack_ansible(tmp_path: Path) -> None:
    user_variables, user_config = (
        yaml.safe_load(block) for block in blocks(OPENSTACK_ANSIBLE, "yaml")
    )
    for service in ("cinder", "nova"):
        assert user_variables[f"{service}_user_pip_packages"] == ["lightos-openstack"]
    (host,) = user_config["storage_hosts"].values()
    back_ends = {
        name: keys
        for name, keys in host["container_vars"]["cinder_backends"].items()
        if name not in FIXED_BY_THE_ROLE
    }
    lines = ["[DEFAULT]", f"enabled_backends={','.join(sorted(back_ends))}"]
    for name, keys in sorted(back_ends.items()):
        lines += [f"[{name}]", *(f"{key}={value}" for key, value in sorted(keys.items()))]
    check("\n".join(lines) + "\n", tmp_path)


@pytest.mark.parametrize("service", ["nova", "cinder"])
def test_service_tokens(service: str, tmp_path: Path) -> None:
    (section,) = blocks(OPENSTACK_ANSIBLE, "ini")
    path = tmp_path / f"{service}.conf"
    path.write_text(section)
    said = python(SERVICE_USER, service, path)
    assert said == "True Password https://keystone.example.com/v3"
