# SPDX-License-Identifier: Apache-2.0
"""In-tree names: what OpenStack gets under them, when, and at which cost.

Needs the project installed with its `openstack` and `test` extras. Interpreters are started anew,
because what is tested happens at their start.
"""

import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from lightos.openstack.overlay import NAMES, NEEDED, SWITCH, is_old

CHECKOUT = Path(__file__).parents[2]
CINDER, BRICK, _PRIVILEGED, NOVA = NAMES


def python(code, *, interpreter=sys.executable, overlay=True, options=()):
    """Run a program in a new interpreter and return what it printed."""
    environment = {k: v for k, v in os.environ.items() if k not in (SWITCH, "PYTHONPATH")}
    done = subprocess.run(
        [interpreter, "-W", "ignore", *options, "-c", code],
        env=environment | ({} if overlay else {SWITCH: "0"}),
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip() + (done.stderr if "importtime" in options else "")


@pytest.mark.parametrize("name", [CINDER, BRICK, NOVA])
def test_a_name_gives_our_module(name):
    code = f"import sys, {name}; print(sys.modules[{name!r}].__name__)"
    assert python(code) == NAMES[name]
    assert python(code, overlay=False) == name


def test_every_way_to_import_gives_the_same_module():
    code = f"""
from oslo_utils import importutils
import cinder.volume.drivers.lightos
from cinder.volume.drivers import lightos
from lightos.openstack.cinder import driver
assert lightos is driver is cinder.volume.drivers.lightos
assert importutils.import_module("{CINDER}") is driver
assert importutils.import_class("{CINDER}.LightOSVolumeDriver") is driver.LightOSVolumeDriver
print(driver.__spec__.name)
"""
    assert python(code) == NAMES[CINDER]


def test_classes_and_their_objects_can_be_pickled():
    code = f"""
import pickle
from {CINDER} import LightOSVolumeDriver
from {BRICK} import LightOSConnector
for kind in (LightOSVolumeDriver, LightOSConnector):
    assert pickle.loads(pickle.dumps(kind)) is kind
print(LightOSConnector.__module__)
"""
    assert python(code) == NAMES[BRICK]


def test_a_module_can_be_reloaded_and_patched():
    code = f"""
import importlib
from unittest import mock
import {CINDER} as module
with mock.patch("{CINDER}.LOG") as log:
    assert module.LOG is log
print(importlib.reload(module).__name__)
"""
    assert python(code) == NAMES[CINDER]


@pytest.mark.parametrize("overlay", [True, False], ids=["ours", "incumbent"])
def test_os_brick_lists_the_options(overlay):
    code = f"""
from {BRICK} import list_opts
print(*sorted(option.name for _, group in list_opts() for option in group))
"""
    assert set(python(code, overlay=overlay).split()) >= {
        "lightos_discovery_client_address",
        "lightos_discovery_client_dir_path",
        "lightos_discovery_client_port",
    }


def test_both_drivers_take_the_same_values():
    """One cinder.conf for both: the names, and what the types make of each value.

    The options are read as `cinder.opts` does for sample files and the validator.
    """
    code = """
from cinder.volume.drivers import lightos as cinder_volume_drivers_lightos
lightos_opts = cinder_volume_drivers_lightos.lightos_opts
values = {
    "lightos_api_address": "192.168.67.78,fd00::1", "lightos_api_port": "443",
    "lightos_jwt": "abc", "lightos_default_num_replicas": "2",
    "lightos_default_compression_enabled": "True", "lightos_api_service_timeout": "30",
    "lightos_use_ipacl": "False", "lightos_api_service_snapshots_max_calls": "5",
}
shared = [o for o in lightos_opts if o.name in values]
assert len(shared) == len(values)
print(sorted((o.name, o.type(values[o.name]), o.secret) for o in shared))
"""
    assert python(code) == python(code, overlay=False)


def test_the_start_of_an_interpreter_imports_nothing_else():
    trace = python("pass", options=("-X", "importtime"))
    lines = [line.rsplit("|", 1)[-1] for line in trace.splitlines() if "import time:" in line]
    # A line comes after those of what it imported, which are indented further.
    ours = [line.strip() for line in lines if re.match(r"\s+lightos\b", line)]
    assert ours == ["lightos", "lightos.openstack", "lightos.openstack.overlay"]
    (top,) = [line for line in lines if line.strip() == ours[-1]]
    depth = len(top) - len(top.lstrip())
    end = lines.index(top)
    begin = next(
        (i + 1 for i in range(end - 1, -1, -1) if len(lines[i]) - len(lines[i].lstrip()) <= depth),
        0,
    )
    assert [line.strip() for line in lines[begin : end + 1]] == ours


def test_other_names_are_left_alone():
    code = """
import sys
from lightos.openstack.overlay import OverlayFinder, install
install(); install()
finders = [f for f in sys.meta_path if isinstance(f, OverlayFinder)]
print(len(finders), finders[0].find_spec("cinder.volume.drivers.rbd"))
"""
    assert python(code) == "1 None"


@pytest.mark.parametrize(
    ("version", "is_below"),
    [
        ("29.0.0", False),
        ("29", False),
        ("29.0.0.0rc1", False),
        ("29.0.0.dev12", False),
        ("30.1.0+local", False),
        ("100.0", False),
        ("0.0.1.dev29875", False),
        ("28.1.0", True),
        ("9.9", True),
        ("unknown", True),
        ("", True),
    ],
)
def test_a_version_is_compared_by_its_numbers(version, is_below):
    assert is_old(version, (29,)) is is_below


def stub_of_cinder(site, version):
    """A file under Cinder's name, installed as that version."""
    package = site / "cinder/volume/drivers"
    package.mkdir(parents=True)
    for folder in (package, *package.parents[:2]):
        (folder / "__init__.py").write_text("")
    (package / "lightos.py").write_text("")
    (site / "cinder.dist-info").mkdir()
    metadata = f"Metadata-Version: 2.1\nName: cinder\nVersion: {version}\n"
    (site / "cinder.dist-info/METADATA").write_text(metadata)
    return package / "lightos.py"


def test_an_older_openstack_keeps_its_own_and_the_log_says_so_once(tmp_path):
    theirs = stub_of_cinder(tmp_path, "28.0.0")
    code = f"""
import importlib, logging, sys
sys.path.insert(0, {str(tmp_path)!r})
logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")
import {CINDER} as module
importlib.reload(module)
print(module.__file__)
"""
    said, file = python(code).splitlines()
    assert file == str(theirs)
    assert said.startswith("WARNING lightos-openstack is not in force for cinder: ")
    assert "needs cinder 29 or later (OpenStack 2026.2), and here is 28.0.0." in said


def test_the_doctor_finds_an_older_openstack_and_does_not_trip_over_it(tmp_path):
    theirs = stub_of_cinder(tmp_path, "28.0.0")
    lightos = Path(sys.executable).with_name("lightos")
    environment = {k: v for k, v in os.environ.items() if k != SWITCH}
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [lightos, "doctor", "--cinder-conf", tmp_path / "cinder.conf"],
        env=environment | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (2, "")
    name, conf = (line for line in done.stdout.splitlines() if line.startswith("CRITICAL"))
    assert f"cinder's own, {theirs} (cinder 28.0.0)" in name
    assert "cinder.conf: it was not looked at" in conf
    assert all("needs cinder 29 or later (OpenStack 2026.2). Fix: " in e for e in (name, conf))


def test_doctor():
    lightos = Path(sys.executable).with_name("lightos")
    environment = {k: v for k, v in os.environ.items() if k != SWITCH}
    done = subprocess.run(
        [lightos, "doctor"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    for module in (NAMES[CINDER], NAMES[BRICK], NAMES[NOVA]):
        assert f"{module.replace('.', '/')}.py" in done.stdout
    off = subprocess.run(
        [lightos, "doctor"],
        env=environment | {SWITCH: "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert off.returncode == 1
    assert f"unset {SWITCH}" in off.stdout
    for package, name in (("cinder", CINDER), ("os_brick", BRICK), ("nova", NOVA)):
        assert f"{package}'s own" in off.stdout
        assert f"{name.replace('.', '/')}.py" in off.stdout


@pytest.mark.parametrize("how", ["build_wheel", "build_editable"])
def test_installed_and_uninstalled(how, tmp_path):
    """The names are ours while the distribution is installed, and the package's own afterwards."""
    subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; from hatchling.build import {how} as build; build(sys.argv[1])",
            tmp_path,
        ],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "venv", symlinks=True)
    scratch = tmp_path / "venv/bin/python"
    (site,) = (tmp_path / "venv/lib").glob("python*/site-packages")
    theirs = str(stub_of_cinder(site, f"{NEEDED['cinder'][1][0]}.0.0"))
    before = {path.relative_to(site) for path in site.rglob("*.pth")}
    code = f"import importlib.util as u; print(u.find_spec('{CINDER}').origin)"

    def pip(*arguments):
        command = [sys.executable, "-m", "pip", "--python", scratch, *arguments]
        subprocess.run(command, check=True, capture_output=True)

    pip("install", "--no-deps", "--no-index", wheel)
    assert python(code, interpreter=scratch) == NAMES[CINDER]
    assert python(code, interpreter=scratch, overlay=False) == theirs
    pip("uninstall", "--yes", "lightos-openstack")
    assert python(code, interpreter=scratch) == theirs
    assert {path.relative_to(site) for path in site.rglob("*.pth")} == before
