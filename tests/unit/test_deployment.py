# SPDX-License-Identifier: Apache-2.0
"""The files in docs/deployment.rst: their syntax, and what Cinder and Nova make of the options."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import jinja2
import pytest
import yaml

from lightos.openstack.cinder.driver import LightOSVolumeDriver
from tests.shown import ROOT, blocks

PAGE = ROOT / "docs/deployment.rst"
(TEMPLATE_OVERRIDES,) = blocks(PAGE, "jinja")
CINDER_VOLUME_CONF, SERVICE_TOKENS = blocks(PAGE, "ini")
GLOBALS, USER_VARIABLES, USER_CONFIG = blocks(PAGE, "yaml")
WHEEL = "https://packages.example.com/lightos_openstack-VERSION-py3-none-any.whl"
FIXED_BY_THE_ROLE = ("limit_container_types", "extra_volume_types", "shares")
"""Keys of a back end, and of their list, that os_cinder writes into no file."""
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
    check(CINDER_VOLUME_CONF, tmp_path)
    variables = yaml.safe_load(GLOBALS)
    assert variables["skip_cinder_backend_check"] is True
    mounts = {name: found for name, found in variables.items() if name.endswith("_extra_volumes")}
    assert set(mounts) == {
        f"{container}_extra_volumes"
        for container in ("cinder_volume", "cinder_backup", "nova_compute")
    }
    for found in mounts.values():
        assert "/etc/discovery-client:/etc/discovery-client" in found


def test_the_images_of_kolla_get_this_distribution() -> None:
    parent = "{{ cinder_base_pip_packages_append }} {{ nova_base_pip_packages_append }}"
    loader = jinja2.DictLoader({"parent": parent, "override": TEMPLATE_OVERRIDES})
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined
    )
    rendered = environment.get_template("override").render(parent_template="parent")
    assert rendered.count(WHEEL) == 2


def test_openstack_ansible(tmp_path: Path) -> None:
    user_variables, user_config = map(yaml.safe_load, (USER_VARIABLES, USER_CONFIG))
    for service in ("cinder", "nova"):
        assert user_variables[f"{service}_user_pip_packages"] == [WHEEL]
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
    path = tmp_path / f"{service}.conf"
    path.write_text(SERVICE_TOKENS)
    said = python(SERVICE_USER, service, path)
    assert said == "True Password https://keystone.example.com/v3"
