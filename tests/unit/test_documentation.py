# SPDX-License-Identifier: Apache-2.0
"""The documentation builds, and what it tells people to type, configure and look for exists."""

from __future__ import annotations

import ast
import configparser
import json
import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import certifi
import click
import pytest

from lightos.api.credentials import TokenFile
from lightos.api.http import checked_ca
from lightos.cli.main import lightos
from lightos.discovery.kernel import read_configured_identity
from lightos.openstack.cinder.options import lightos_opts
from lightos.openstack.overlay import NEEDED
from testbed.cloud.__main__ import INSTANCE_EXAMPLES, VOLUME_EXAMPLES
from tests.integration.test_guide_commands import PAGES as TYPED_PAGES
from tests.kernel.test_compatibility import COMBINATIONS, SWITCHES
from tests.nova.test_compatibility import COMBINATIONS as NOVA_COMBINATIONS
from tests.shown import PAGES, ROOT, blocks, commands
from tests.unit.api.conftest import unsigned_token

COMMAND = re.compile(r"(?:\.venv/bin/|[#$] |^)(lightos [a-z][^\n`>]*)")
MAKE = re.compile(r"(?:`|^)make ([a-z-]+[a-z])", re.MULTILINE)
BACK_END = "lightos"
ON_FILES = {"cat", "echo", "install", "mv", "nvme", "sed"}
"""Programs of commands that are typed here, into a folder in the place of /etc."""
INSTALL = "package/test_install.py::test_installed_and_uninstalled"
UNIT = (
    "kernel/test_systemd_unit.py::"
    "test_the_unit_is_active_once_ready_and_its_sandbox_leaves_what_the_daemon_needs"
)
ELSEWHERE = {
    "pip install ./lightos_openstack-VERSION-py3-none-any.whl": INSTALL,
    "pip uninstall lightos-openstack": INSTALL,
    "python3 -m venv /opt/lightos": INSTALL,
    "/opt/lightos/bin/pip install ./lightos_openstack-VERSION-py3-none-any.whl": INSTALL,
    "/opt/lightos/bin/lightos discovery-client systemd-unit > "
    "/etc/systemd/system/lightos-discovery-client.service": UNIT,
    "systemctl restart nova-compute": "nova/test_compatibility.py::"
    "test_what_is_attached_is_detached_across_a_switch",
    "modprobe nvme-tcp": "kernel/test_discovery_client.py::"
    "test_a_second_daemon_and_a_host_without_the_module_end_with_one_clear_line",
    "curl http://127.0.0.1:6060/healthz": "package/test_debian.py::"
    "test_installed_started_upgraded_removed_and_purged",
    "cinder work-cleanup --is-up False": "ha/test_crash.py::test_kill_in_the_middle_of_everything",
    "pkill -USR2 '^cinder-volume(:|$)'": "integration/test_guru_report.py::"
    "test_the_child_of_a_back_end_tells_of_it",
    ". .cache/cloud/running/openrc": "cloud/test_commands.py::test_the_examples_can_be_pasted",
}
"""Commands that another test runs, with paths and packages of its own, or whose effect it has."""
NO_SERVICE_MANAGER = "tests start and stop the unit in a systemd of its own, which never boots"
KOLLA = "needs a cloud of Kolla-Ansible; test_deployment.py checks its files"
OPENSTACK_ANSIBLE = "needs a cloud of OpenStack-Ansible; test_deployment.py checks its files"
NOVA_MANAGE = "needs an instance on a cluster whose nodes are others; Nova's own tests run it"
NOT_RUN_HERE = {
    "pip install --upgrade ./lightos_openstack-VERSION-py3-none-any.whl": "tests install "
    "one version, that of the checkout",
    "pip install --break-system-packages ./lightos_openstack-VERSION-py3-none-any.whl": "it "
    "changes the Python of the machine",
    "systemctl enable --now lightos-discovery-client": NO_SERVICE_MANAGER,
    "systemctl disable --now lightos-discovery-client": NO_SERVICE_MANAGER,
    "rm /etc/systemd/system/lightos-discovery-client.service": NO_SERVICE_MANAGER,
    "systemctl status lightos-discovery-client": "is for people; tests ask `systemctl show`",
    "apt install ./lightos-discovery-client_VERSION_amd64.deb": "hosts of tests reach no archive: "
    "dpkg installs the file",
    "systemctl disable libvirt-guests": NO_SERVICE_MANAGER,
    "virsh list --all --autostart": "is for people; hosts of tests have no libvirt-guests",
    "nova-manage volume_attachment get_connector --json > connector.json": NOVA_MANAGE,
    "nova-manage volume_attachment refresh INSTANCE VOLUME connector.json": NOVA_MANAGE,
    "nova-manage volume_attachment show --connection_info --json INSTANCE VOLUME": NOVA_MANAGE,
    "kolla-build --template-override template-overrides.j2 ^cinder ^nova": KOLLA,
    "kolla-ansible reconfigure -i INVENTORY -t cinder,nova": KOLLA,
    "docker exec cinder_volume lightos doctor --cinder-conf /etc/cinder/cinder.conf": KOLLA,
    "openstack-ansible openstack.osa.cinder": OPENSTACK_ANSIBLE,
    "openstack-ansible openstack.osa.nova": OPENSTACK_ANSIBLE,
}
"""Commands that no test runs, and why."""


def shown() -> list[tuple[str, str]]:
    """Page and command, each command of a page once."""
    return sorted({(page.stem, command) for page in PAGES for command in commands(page)})


def lightos_commands() -> list[str]:
    found = {match for page in PAGES for match in COMMAND.findall(page.read_text())}
    typed = {match for _, command in shown() for match in COMMAND.findall(command)}
    return sorted(found | typed)


def test_there_are_commands_to_check() -> None:
    assert len(lightos_commands()) >= 5


@pytest.mark.parametrize("command", lightos_commands())
def test_a_command_shown_is_one_that_parses(command: str) -> None:
    arguments = shlex.split(command)[1:]
    group: click.Command = lightos
    context = click.Context(lightos)
    while isinstance(group, click.Group):
        name, subcommand, arguments = group.resolve_command(context, arguments)
        assert subcommand is not None, f"no such command: {name}"
        group, context = subcommand, click.Context(subcommand, parent=context, info_name=name)
    group.parse_args(context, arguments)


@pytest.mark.parametrize(("page", "command"), shown())
def test_each_command_shown_is_run_or_parsed_by_a_test_or_has_a_reason_not_to_be(
    page: str, command: str
) -> None:
    program, _, words = command.removeprefix(".venv/bin/").partition(" ")
    if program in ("openstack", "export"):
        assert page in TYPED_PAGES or words in (*VOLUME_EXAMPLES, *INSTANCE_EXAMPLES)
    elif program == "make":
        assert MAKE.match(command)
    elif command in ELSEWHERE:
        path, _, test = ELSEWHERE[command].partition("::")
        assert f"def {test}(" in (ROOT / "tests" / path).read_text()
    elif command in NOT_RUN_HERE:
        assert NOT_RUN_HERE[command]
    elif program in ON_FILES:
        assert page in ("hosts", "security", "deployment")
    else:
        assert COMMAND.findall(command)


def test_no_table_of_commands_has_one_that_is_not_shown_or_one_of_the_other() -> None:
    assert ELSEWHERE.keys() | NOT_RUN_HERE.keys() <= {command for _, command in shown()}
    assert not ELSEWHERE.keys() & NOT_RUN_HERE.keys()


def run_on_files(page: str, folder: Path) -> None:
    """Type the commands of a page that read and write files."""
    (folder / "etc/modules-load.d").mkdir(parents=True)
    (folder / "etc/nvme").mkdir()
    (folder / "etc/cinder").mkdir(exist_ok=True)
    for command in commands(ROOT / "docs" / f"{page}.rst"):
        if command.partition(" ")[0] in ON_FILES:
            here = command.replace("/etc/", f"{folder}/etc/")
            here = here.replace("-g cinder", f"-g {os.getgid()}")
            here = here.replace("-o 42407", f"-o {os.getuid()}")
            subprocess.run(["sh", "-ec", here], cwd=folder, check=True)


def test_the_commands_for_a_host_give_it_an_identity(tmp_path: Path) -> None:
    run_on_files("hosts", tmp_path)
    etc = tmp_path / "etc"
    identity = read_configured_identity(etc / "nvme/hostnqn", etc / "nvme/hostid")
    assert identity is not None
    assert identity.host_nqn.endswith(f":uuid:{identity.host_id}")
    assert (etc / "modules-load.d/nvme-tcp.conf").read_text() == "nvme-tcp\n"


def test_the_commands_for_a_new_token_and_a_new_ca_take_effect(tmp_path: Path) -> None:
    old_ca, new_ca = certifi.contents().split("-----BEGIN CERTIFICATE-----")[1:3]
    old, new = unsigned_token(n=1), unsigned_token(n=2)
    folder = tmp_path / "etc/cinder"
    for name, text in {
        "etc/cinder/lightos.jwt": old,
        "new.jwt": new,
        "etc/cinder/lightos-ca.pem": f"-----BEGIN CERTIFICATE-----{old_ca}",
        "new-ca.pem": f"-----BEGIN CERTIFICATE-----{new_ca}",
    }.items():
        folder.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    tokens = TokenFile(folder / "lightos.jwt")
    run_on_files("security", tmp_path)
    assert tokens.current() == new
    assert (folder / "lightos.jwt").stat().st_mode & 0o777 == 0o640
    assert checked_ca(str(folder / "lightos-ca.pem"))
    assert (folder / "lightos-ca.pem").read_text().count("BEGIN CERTIFICATE") == 2


def test_the_commands_for_deployment_tools_keep_the_token_from_others(tmp_path: Path) -> None:
    for name in ("lightos.jwt", "lightos-ca.pem"):
        (tmp_path / name).write_text(name)
    run_on_files("deployment", tmp_path)
    folder = tmp_path / "etc/lightos"
    assert (folder / "lightos.jwt").stat().st_mode & 0o777 == 0o400
    assert (folder / "ca.pem").stat().st_mode & 0o777 == 0o444


def test_make_targets_shown_exist() -> None:
    rules = re.findall(r"^([a-z][a-z -]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    known = {target for rule in rules for target in rule.split()}
    in_text = {target for page in PAGES for target in MAKE.findall(page.read_text())}
    typed = {target for _, command in shown() for target in MAKE.findall(command)}
    assert in_text | typed <= known


CONFIGURATIONS = (
    "from cinder import objects; objects.register_all(); import cinder.cmd.volume, "
    "cinder.volume.manager, lightos.openstack.cinder.driver, lightos.openstack.os_brick.options",
    "import nova.conf",
)
"""Each registers the options of a service; one process cannot have both."""
UNKNOWN_OPTIONS = """
import json, sys
from keystoneauth1 import loading
from oslo_config import cfg
from oslo_messaging import opts
cfg.CONF.register_opts(loading.get_auth_plugin_conf_options("password"), group="service_user")
for group, options in opts.list_opts():
    cfg.CONF.register_opts(options, group=group)
def is_known(section, option):
    if section == "DEFAULT":
        return option in cfg.CONF
    return section in cfg.CONF and option in cfg.CONF[section]
print(json.dumps([pair for pair in json.load(sys.stdin) if not is_known(*pair)]))
"""


def test_the_guide_configures_options_that_exist() -> None:
    pairs = set()
    for page in PAGES:
        for block in blocks(page, "ini"):
            conf = configparser.RawConfigParser(default_section="")
            conf.read_string(block)
            pairs |= {(section, option) for section in conf.sections() for option in conf[section]}
    assert (BACK_END, "lightos_api_address") in pairs
    # What a back end's section may have is what that of all back ends may.
    unknown = [
        ("backend_defaults" if section == BACK_END else section, option)
        for section, option in sorted(pairs - {(BACK_END, "volume_driver")})
    ]
    for imports in CONFIGURATIONS:
        ask = [sys.executable, "-W", "ignore", "-c", f"{imports}{UNKNOWN_OPTIONS}"]
        asked = subprocess.run(
            ask, input=json.dumps(unknown), capture_output=True, text=True, check=True
        )
        unknown = json.loads(asked.stdout.splitlines()[-1])
    assert unknown == []


def test_the_versions_shown_are_those_of_the_tests() -> None:
    page = (ROOT / "docs" / "driver_guide.rst").read_text()
    row = re.search(r"cinder (\S+), os-brick (\S+), nova (\S+)", page)
    assert row is not None
    assert row.groups() == tuple(map(version, ("cinder", "os-brick", "nova")))


def test_the_releases_shown_are_those_that_the_overlay_asks_for() -> None:
    page = (ROOT / "docs" / "driver_guide.rst").read_text()
    rows = re.findall(r"- (\S+) (\S+) or later\n     - (\S+) \(\w+\)\n", page)
    assert [(name, tuple(map(int, oldest.split("."))), of) for name, oldest, of in rows] == list(
        NEEDED.values()
    )


def words(text: str) -> str:
    return " ".join(text.split())


def texts_of_the_code() -> str:
    """Every text in the code, a line each, without what is put into it."""
    parts = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                parts |= {words(part) for part in re.split(r"%[-\d]*[a-z]", node.value)}
    return "\n".join(sorted(parts))


def messages() -> list[str]:
    """What the troubleshooting page quotes, paragraph by paragraph."""
    quoted = blocks(ROOT / "docs" / "troubleshooting.rst", "text")
    return [words(message) for block in quoted for message in block.split("\n\n")]


def test_a_message_that_is_quoted_is_one_that_the_code_says() -> None:
    known = texts_of_the_code()
    parts = {
        message: [part.strip(" :;,()") for part in message.split("...")] for message in messages()
    }
    assert len(parts) > 40
    assert [message for message, said in parts.items() if not any(said)] == []
    assert [part for said in parts.values() for part in said if part not in known] == []


def test_the_combinations_shown_are_those_that_are_tested() -> None:
    page = (ROOT / "docs" / "compatibility.rst").read_text()
    combinations, switches, with_nova = (
        tuple(
            row.split("\n     - ")
            for row in re.findall(r"^   \* - (.+(?:\n     - .+)+)", table, re.M)[1:]
        )
        for table in page.partition("\nProof\n-----\n")[2].split(".. list-table::")[1:]
    )
    assert [tuple(row[:2]) for row in combinations] == list(COMBINATIONS)
    assert [tuple(row[:2]) for row in switches] == list(SWITCHES)
    assert [tuple(row) for row in with_nova] == list(NOVA_COMBINATIONS)


def test_the_documentation_builds_and_says_nothing(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "sphinx", "-q", "-W", "-d", str(tmp_path / "doctrees")]
    for builder in ("html", "man"):
        folders = [str(ROOT / "docs"), str(tmp_path / builder)]
        built = subprocess.run(
            [*build, "-b", builder, *folders], capture_output=True, text=True, check=False
        )
        assert (built.returncode, built.stderr) == (0, "")
    page = (tmp_path / "html" / "driver_guide.html").read_text()
    assert all(option.name in page for option in lightos_opts)
    manual = (tmp_path / "man" / "lightos.1").read_text()
    assert all(name in manual.replace("\\-", "-") for name in lightos.list_commands(None))
