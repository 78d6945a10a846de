# SPDX-License-Identifier: Apache-2.0
"""The driver's options in cinder.conf, and what they mean together.

Names and types are those of the driver that ships with Cinder, so its configuration works as it
is; `lightos_api_address` accepts host names too.
"""

import ipaddress
import ssl

from cinder import exception
from cinder.volume import configuration
from oslo_config import cfg, types

from lightos.api.credentials import FixedToken, TokenFile, TokenSource, TokenUnusable
from lightos.api.http import checked_ca
from lightos.openstack.cinder.volume_types import MAX_REPLICAS, MIN_REPLICAS


class NetworkType(types.ConfigType):
    """An IPv4 or IPv6 network in CIDR notation; bits of the host part are ignored."""

    def __init__(self) -> None:
        super().__init__(type_name="CIDR network")

    def __call__(self, value):
        return ipaddress.ip_network(value, strict=False)

    def __repr__(self) -> str:
        return "CIDR network"

    def __eq__(self, other) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))

    def _formatter(self, value) -> str:
        return str(value)


DRIVER = "cinder.volume.drivers.lightos.LightOSVolumeDriver"
"""What volume_driver is in the section of a back end."""

lightos_opts = [
    cfg.ListOpt(
        "lightos_api_address",
        item_type=types.HostAddress(),
        help="Addresses of the management API servers of the LightOS cluster, separated by "
        "commas: IPv4, IPv6 or host names. One is enough; with several, the driver goes on "
        "while one of them answers.",
    ),
    cfg.PortOpt(
        "lightos_api_port",
        default=443,
        help="TCP port of the management API (HTTPS).",
    ),
    cfg.StrOpt(
        "lightos_jwt",
        secret=True,
        help="JSON web token that the driver shows to the management API. Leave it and "
        "lightos_jwt_file out only for a cluster that is installed without multi-tenancy.",
    ),
    cfg.StrOpt(
        "lightos_jwt_file",
        help="File with the JSON web token, instead of lightos_jwt. It is read again whenever it "
        "changes, so a new token needs no restart. Only the service should be able to read it.",
    ),
    cfg.IntOpt(
        "lightos_default_num_replicas",
        min=MIN_REPLICAS,
        max=MAX_REPLICAS,
        default=3,
        help="Replicas of a volume whose type has no lightos:num_replicas extra spec.",
    ),
    cfg.BoolOpt(
        "lightos_default_compression_enabled",
        default=False,
        help="Whether a volume is compressed when its type has no compression extra spec.",
    ),
    cfg.IntOpt(
        "lightos_api_service_timeout",
        min=1,
        default=30,
        help="Seconds to wait for the answer to one management API request. A whole operation "
        "(create, attach, extend...) may take three times as long and 10 seconds more.",
    ),
    cfg.BoolOpt(
        "lightos_use_ipacl",
        default=True,
        help="Also admit hosts by IP address: a host then needs both its NQN and its address in "
        "the access lists of the volume. When off, the NQN alone decides.",
    ),
    cfg.ListOpt(
        "lightos_data_networks",
        item_type=NetworkType(),
        default=[],
        help="Networks (CIDR) over which hosts reach the cluster. Of a host's addresses, only "
        "those in them are put into the IP ACL of a volume. Empty: all that the host reports, "
        "those nearest to the cluster first. See the option of this name of os-brick, which "
        "says what a host reports.",
    ),
    cfg.IntOpt(
        "lightos_api_service_snapshots_max_calls",
        min=1,
        default=5,
        help="How many times a snapshot is asked for when the cluster is too busy to take it.",
    ),
    cfg.BoolOpt(
        "lightos_sparse_image_upload",
        default=False,
        help="Whether only what is written in a volume is read to make a raw image of it, if "
        "nobody has it attached. The management API says which blocks those are, but not how long "
        "a block is: switch it on only for clusters that are known to tell them in sectors of the "
        "volume.",
    ),
    cfg.HostAddressOpt(
        "lightos_metrics_address",
        default="127.0.0.1",
        help="Address where this back end's metrics are served.",
    ),
    cfg.PortOpt(
        "lightos_metrics_port",
        help="TCP port where this back end's metrics are served to Prometheus (HTTP, /metrics). "
        "Each back end of a host needs one of its own. Not set: they are not served.",
    ),
]

SHARED_OPTION_NAMES = (
    "driver_ssl_cert_path",
    "driver_ssl_cert_verify",
    "filter_function",
    "goodness_function",
    "max_over_subscription_ratio",
    "reserved_percentage",
    "volume_backend_name",
)
"""Options of Cinder itself that the driver reads."""


LEGAL_VALUES = {
    "lightos_api_address": "IPv4 addresses, IPv6 addresses and host names, separated by commas",
    "lightos_api_port": "1 to 65535",
    "lightos_jwt": "a JSON web token of the cluster",
    "lightos_jwt_file": "the path of a file with a JSON web token of the cluster",
    "lightos_default_num_replicas": f"{MIN_REPLICAS} to {MAX_REPLICAS}",
    "lightos_default_compression_enabled": "True, False",
    "lightos_api_service_timeout": "seconds, 1 or more",
    "lightos_use_ipacl": "True, False",
    "lightos_data_networks": "networks such as 192.168.75.0/24 or fd00::/64, separated by commas",
    "lightos_api_service_snapshots_max_calls": "1 or more",
    "lightos_sparse_image_upload": "True, False",
    "lightos_metrics_address": "an IPv4 address, IPv6 address or host name of this machine",
    "lightos_metrics_port": "1 to 65535",
    "driver_ssl_cert_path": "the path of a CA file, or of a folder prepared by `openssl rehash`",
    "driver_ssl_cert_verify": "True, False",
    "filter_function": "an expression of Cinder's DriverFilter",
    "goodness_function": "an expression of Cinder's GoodnessWeigher",
    "max_over_subscription_ratio": "1.0 or more, or auto",
    "reserved_percentage": "0 to 100",
    "volume_backend_name": "any text",
}
"""What the operator is told when an option has another value."""


def register() -> None:
    """Make the options known, so that [backend_defaults] may hold them."""
    cfg.CONF.register_opts(lightos_opts, group=configuration.SHARED_CONF_GROUP)


def check(conf) -> None:
    """See that every option has a possible value, all at start and not at its first use.

    :raises InvalidConfigurationValue: naming the option and its legal values.
    """
    for name in LEGAL_VALUES:
        try:
            conf.safe_get(name)
        except (ValueError, cfg.Error) as error:
            raise illegal_value(name, str(error)) from error
    if not conf.lightos_api_address:
        raise illegal_value("lightos_api_address", "is not set")
    if not conf.lightos_api_port:
        raise illegal_value("lightos_api_port", "is 0")


def operation_timeout_seconds(request_timeout_seconds: int) -> int:
    """Time that one driver operation may take in all, every request and wait included."""
    return 3 * request_timeout_seconds + 10


def tls_verification(verify: bool, ca_path: str | None) -> bool | str:
    """What to check the cluster's certificate against: a CA path, the system's CAs, or nothing.

    Cinder's default is not to verify. A CA path says that the operator wants verification, but
    `driver_ssl_cert_verify` alone decides, as with every other Cinder driver.

    :raises InvalidConfigurationValue: for a CA that cannot be used, saying why.
    """
    if not verify:
        return False
    try:
        return checked_ca(ca_path) if ca_path else True
    except (ValueError, ssl.SSLError) as error:
        raise unusable_option("driver_ssl_cert_path", str(error)) from error


def token_source(jwt: str | None, jwt_file: str | None) -> TokenSource:
    """Where the token comes from: one of the two options, or neither.

    :raises InvalidConfigurationValue: when both are set, or the file holds no token.
    """
    if jwt and jwt_file:
        raise unusable_option(
            "lightos_jwt_file", "is set, and so is lightos_jwt; set one of the two"
        )
    if not jwt_file:
        return FixedToken(jwt or "", "lightos_jwt")
    try:
        return TokenFile(jwt_file, "lightos_jwt_file")
    except TokenUnusable as error:
        raise unusable_option("lightos_jwt_file", str(error)) from error


def unusable_option(option: str, reason: str) -> exception.InvalidConfigurationValue:
    """What an option says cannot be used; the value of a secret is never in `reason`."""
    return exception.InvalidConfigurationValue(message=f"{option}: {reason}")


def illegal_value(option: str, reason: str) -> exception.InvalidConfigurationValue:
    """An option is missing or has a value that none may have: also says which are legal."""
    return unusable_option(option, f"{reason.rstrip('.')}. Legal: {LEGAL_VALUES[option]}.")
