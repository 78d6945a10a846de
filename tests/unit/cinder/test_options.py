# SPDX-License-Identifier: Apache-2.0
"""Every option: what bad values are answered with, and what the file of the token does."""

from datetime import timedelta
from pathlib import Path

import pytest
from cinder import exception
from cinder.volume import configuration
from cinder.volume import driver as cinder_driver
from oslo_config import cfg, fixture

from lightos.openstack.cinder import options
from lightos.openstack.cinder.driver import LightOSVolumeDriver
from lightos.waiting import utc_now
from tests.unit.api.conftest import unsigned_token
from tests.unit.cinder.conftest import BACKEND, HOST, new_volume

BAD_VALUES = {
    "lightos_api_address": ("not an address", "IPv4 addresses, IPv6 addresses and host names"),
    "lightos_api_port": ("99999", "1 to 65535"),
    "lightos_jwt_file": ("/nonexistent/token", "No such file"),
    "lightos_default_num_replicas": ("7", "1 to 3"),
    "lightos_default_compression_enabled": ("sometimes", "True, False"),
    "lightos_api_service_timeout": ("0", "seconds, 1 or more"),
    "lightos_use_ipacl": ("maybe", "True, False"),
    "lightos_data_networks": ("192.168.75.0/24,10.0.0.0/99", "192.168.75.0/24 or fd00::/64"),
    "lightos_api_service_snapshots_max_calls": ("none", "1 or more"),
    "lightos_sparse_image_upload": ("often", "True, False"),
    "driver_ssl_cert_path": ("/nonexistent/ca.pem", "No such file"),
    "driver_ssl_cert_verify": ("perhaps", "True, False"),
    "lightos_metrics_address": ("no host!", "of this machine"),
    "lightos_metrics_port": ("70000", "1 to 65535"),
    "max_over_subscription_ratio": ("0.5", "1.0 or more, or auto"),
    "reserved_percentage": ("101", "0 to 100"),
}
"""What no value of the option may be, and words of what is legal or wrong."""


@pytest.fixture
def driver_of(settings, tmp_path):
    """Make a driver from a cinder.conf, which is where options come from as text."""
    file = tmp_path / "cinder.conf"

    def make(**more: object) -> LightOSVolumeDriver:
        wanted = settings | {"lightos_api_address": settings["lightos_api_address"][0]} | more
        lines = [f"{name} = {value}" for name, value in wanted.items() if value is not None]
        file.write_text("\n".join([f"[{BACKEND}]", *lines, ""]))
        cfg.CONF(["--config-file", str(file)], project="cinder")
        section = configuration.Configuration(cinder_driver.volume_opts, config_group=BACKEND)
        return LightOSVolumeDriver(configuration=section, host=HOST)

    with fixture.Config(cfg.CONF):
        yield make
    cfg.CONF([], project="cinder", default_config_files=[], default_config_dirs=[])


def test_every_option_has_its_legal_values_told():
    known = {option.name for option in options.lightos_opts} | set(options.SHARED_OPTION_NAMES)
    assert known == set(options.LEGAL_VALUES)
    any_text = {"lightos_jwt", "volume_backend_name", "filter_function", "goodness_function"}
    assert known - set(BAD_VALUES) == any_text


@pytest.mark.parametrize("option", BAD_VALUES)
def test_a_bad_value_is_answered_with_the_option_and_what_is_legal(driver_of, option):
    value, words = BAD_VALUES[option]
    more = {"lightos_jwt": None} if option == "lightos_jwt_file" else {}
    driver = driver_of(**{option: value}, **more)
    with pytest.raises(exception.InvalidConfigurationValue) as refused:
        driver.do_setup(None)
    assert str(refused.value).startswith(f"{option}: ")
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("option", ["lightos_api_address", "lightos_api_port"])
def test_an_option_that_cannot_be_left_empty(make_driver, option):
    driver = make_driver(set_up=False, **{option: [] if option.endswith("address") else 0})
    with pytest.raises(exception.InvalidConfigurationValue, match=rf"{option}: .*Legal: "):
        driver.do_setup(None)


def test_one_source_of_the_token_only(make_driver, tmp_path):
    (tmp_path / "jwt").write_text(unsigned_token())
    driver = make_driver(set_up=False, lightos_jwt_file=str(tmp_path / "jwt"))
    with pytest.raises(
        exception.InvalidConfigurationValue, match=r"lightos_jwt_file: .* lightos_jwt; set one"
    ):
        driver.do_setup(None)


@pytest.fixture
def token_file(lab, tmp_path):
    file = tmp_path / "cinder.jwt"
    file.write_text(Path(lab["jwt_file"]).read_text())
    file.chmod(0o600)
    return file


def test_the_token_may_be_in_a_file_that_changes(make_driver, token_file, cluster):
    good = token_file.read_text()
    driver = make_driver(lightos_jwt=None, lightos_jwt_file=str(token_file))
    token_file.write_text(unsigned_token(exp=1))
    with pytest.raises(
        exception.VolumeBackendAPIException,
        match=r"token of lightos_jwt_file expired 1970-01-01 .*Renew the JWT",
    ):
        driver.create_volume(new_volume())
    token_file.write_text(good)
    volume = new_volume()
    driver.create_volume(volume)
    assert cluster.volume_of(volume.id)["state"] == "Available"


@pytest.mark.parametrize("days", [3, 30])
def test_a_token_that_expires_soon_is_warned_of_at_start(make_driver, token_file, caplog, days):
    soon = (utc_now() + timedelta(days=days, hours=1)).timestamp()
    token_file.write_text(unsigned_token(exp=soon))
    driver = make_driver(set_up=False, lightos_jwt=None, lightos_jwt_file=str(token_file))
    driver.do_setup(None)
    for _ in range(2):
        driver._expiry_warning.look()
    warned = "The token of lightos_jwt_file expires in 3 days"
    assert caplog.text.count(warned) == (1 if days == 3 else 0)


def test_the_option_of_a_refused_token_is_named_at_start(make_driver, token_file, faults):
    faults.add(operation="GetClusterInfo", status=401, message="signed by another key")
    driver = make_driver(set_up=False, lightos_jwt=None, lightos_jwt_file=str(token_file))
    driver.do_setup(None)
    with pytest.raises(exception.InvalidConfigurationValue, match=r"^lightos_jwt_file: "):
        driver.check_for_setup_error()


def test_verification_uses_a_ca_only_when_it_is_on(tmp_path):
    assert options.tls_verification(False, "/nonexistent") is False
    assert options.tls_verification(True, None) is True
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(
        exception.InvalidConfigurationValue, match=r"driver_ssl_cert_path: .*ca\.pem"
    ):
        options.tls_verification(True, str(tmp_path / "ca.pem"))
