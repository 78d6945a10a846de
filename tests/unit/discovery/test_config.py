# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from lightos.discovery.config import Config, ConfigError, load
from lightos.discovery.desired import Endpoint

VENDORS_FILE = """
cores: [0]
clientConfigDir: /etc/discovery-client/discovery.d/
internalDir: /etc/discovery-client/internal/
reconnectInterval: 5s
logPagePaginationEnabled: false
maxIOQueues: 0
kato: 10
nvmeHostIDPath: /etc/nvme/hostid
logging:
  filename: "/var/log/discovery-client.log"
  maxAge: 96h
  maxSize: 100
  level: info
  reportCaller: true
debug:
  metrics: true
  enablepprof: true
  endpoint: "[::]:6060"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "discovery-client.yaml"


def test_the_vendors_file_works_unchanged(path: Path) -> None:
    path.write_text(VENDORS_FILE)
    loaded = load(path, {})
    assert loaded.config == Config(
        keep_alive_timeout_seconds=10,
        log_path=Path("/var/log/discovery-client.log"),
        status_endpoint=Endpoint("::", 6060),
    )
    assert loaded.ignored_keys == (
        "cores",
        "debug.enablepprof",
        "logPagePaginationEnabled",
        "logging.maxAge",
        "logging.maxSize",
        "logging.reportCaller",
    )


def test_every_key_is_read(path: Path) -> None:
    path.write_text(
        "clientConfigDir: /a\ninternalDir: /b\nnvmeHostIDPath: /c\nreconnectInterval: 1m30s\n"
        "disconnectDelay: 250ms\nmaxIOQueues: 4\nkato: 30\nctrlLossTMO: -1\nreconnectDelay: 2\n"
        "dhChapSecret: 'DHHC-1:00:aa:'\ndhChapCtrlSecret: 'DHHC-1:00:bb:'\n"
        "autoDetectEntries: {enabled: true, filename: found, discoveryServicePort: 8010}\n"
        "tls: true\ntlsKeyring: 12\ntlsKey: 34\n"
        "debug: {metrics: false, endpoint: 'localhost:0'}\n"
        "logging: {level: warn, filename: /d, format: json}\n"
    )
    path.chmod(0o600)
    assert load(path, {}).config == Config(
        discovery_dir=Path("/a"),
        internal_dir=Path("/b"),
        host_id_path=Path("/c"),
        reconnect_interval_seconds=90.0,
        disconnect_delay_seconds=0.25,
        io_queue_count=4,
        keep_alive_timeout_seconds=30,
        ctrl_loss_timeout_seconds=-1,
        reconnect_delay_seconds=2,
        dhchap_secret="DHHC-1:00:aa:",
        dhchap_controller_secret="DHHC-1:00:bb:",
        auto_detect=True,
        auto_detect_file_name="found",
        auto_detect_port=8010,
        tls=True,
        tls_keyring=12,
        tls_key=34,
        status_enabled=False,
        status_endpoint=Endpoint("127.0.0.1", 0),
        log_level="WARNING",
        log_format="json",
        log_path=Path("/d"),
    )


def test_environment_overrides_the_file_and_case_does_not_matter(path: Path) -> None:
    path.write_text("CLIENTCONFIGDIR: /file\nKato: 7\n")
    environment = {"DC_CLIENTCONFIGDIR": "/environment", "DC_DEBUG_ENDPOINT": "[::1]:7070"}
    config = load(path, environment).config
    assert config.discovery_dir == Path("/environment")
    assert config.keep_alive_timeout_seconds == 7
    assert config.status_endpoint == Endpoint("::1", 7070)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("clientConfigDri: /x", "unknown key clientConfigDri"),
        ("debug: {frob: 1}", "unknown key debug.frob"),
        ("clientConfigDir: relative", "clientConfigDir: 'relative' is not an absolute path"),
        ("reconnectInterval: soon", "reconnectInterval: 'soon' is not a duration"),
        ("reconnectInterval: 0s", "reconnectInterval must be more than 0"),
        ("maxIOQueues: -1", "maxIOQueues: -1 is negative"),
        ("ctrlLossTMO: -2", "below -1"),
        ("kato: yes please", "kato: 'yes please' is not a whole number"),
        ("kato: true", "is not a whole number"),
        ("debug: {endpoint: 6060}", "debug.endpoint: 6060"),
        ("debug: {endpoint: 'host.example:6060'}", "with an IP address"),
        ("logging: {level: loud}", "is none of debug, info"),
        ("logging: {format: xml}", "logging.format: 'xml' is none of text, json"),
        ("autoDetectEntries: {filename: tmp.dc.x}", "filename: 'tmp.dc.x' files named like"),
        ("autoDetectEntries: {discoveryServicePort: 0}", "port 0 is not a number from 1"),
        ("tlsKey: 1", "need tls: true"),
        ("dhChapSecret: 'a,tls'", "dhChapSecret: its value is no secret of the form DHHC-1"),
        ("internalDir: /etc/discovery-client/discovery.d", "are both"),
        ("- a\n- b", "not a mapping"),
        ("a: [", "not YAML"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(path: Path, content: str, complaint: str) -> None:
    path.write_text(content)
    with pytest.raises(ConfigError) as raised:
        load(path, {})
    assert complaint in str(raised.value)
    assert "\n" not in str(raised.value)


def test_secrets_are_not_taken_from_a_file_that_others_may_read(path: Path) -> None:
    path.write_text("dhChapSecret: 'DHHC-1:00:hidden:'")
    path.chmod(0o640)
    with pytest.raises(
        ConfigError, match="others than its owner may read it: `chmod 600"
    ) as raised:
        load(path, {})
    assert "hidden" not in str(raised.value)
    path.write_text("")
    assert load(path, {"DC_DHCHAPSECRET": "DHHC-1:00:aa:"}).config.dhchap_secret == "DHHC-1:00:aa:"


def test_secrets_are_neither_in_errors_nor_in_the_repr(path: Path) -> None:
    path.touch(mode=0o600)
    path.write_text("dhChapSecret: 'DHHC-1:00:hidden:'")
    assert "hidden" not in repr(load(path, {}))
    path.write_text("dhChapSecret: [hidden]")
    with pytest.raises(ConfigError, match="dhChapSecret: its value is not a text") as raised:
        load(path, {})
    assert "hidden" not in str(raised.value)
    # A secret ends with a colon, so one without quotes is no YAML.
    path.write_text("kato: 10\ndhChapSecret: DHHC-1:00:hidden:\n")
    with pytest.raises(ConfigError, match=r"not YAML: .* \(line 2, column 31\)") as raised:
        load(path, {})
    assert "hidden" not in str(raised.value)


def test_a_controllers_secret_alone_proves_nothing() -> None:
    with pytest.raises(ConfigError, match="dhChapCtrlSecret needs dhChapSecret"):
        Config(dhchap_controller_secret="DHHC-1:00:bb:")


def test_a_missing_file_is_an_error_only_if_it_was_asked_for(path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(path, {})
