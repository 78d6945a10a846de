# SPDX-License-Identifier: Apache-2.0
"""The driver's options in cinder.conf, and what they mean together.

Names and types are those of the driver that ships with Cinder, so its configuration works as it
is; `lightos_api_address` accepts host names too.
"""

from cinder.volume import configuration
from oslo_config import cfg, types

from lightos.openstack.cinder.volume_types import MAX_REPLICAS, MIN_REPLICAS

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
        help="JSON web token that the driver shows to the management API. Leave it out only "
        "for a cluster that is installed without multi-tenancy.",
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
    cfg.IntOpt(
        "lightos_api_service_snapshots_max_calls",
        min=1,
        default=5,
        help="How many times a snapshot is asked for when the cluster is too busy to take it.",
    ),
]

SHARED_OPTION_NAMES = (
    "driver_ssl_cert_path",
    "driver_ssl_cert_verify",
    "max_over_subscription_ratio",
    "reserved_percentage",
    "volume_backend_name",
)
"""Options of Cinder itself that the driver reads."""


def register() -> None:
    """Make the options known, so that [backend_defaults] may hold them."""
    cfg.CONF.register_opts(lightos_opts, group=configuration.SHARED_CONF_GROUP)


def operation_timeout_seconds(request_timeout_seconds: int) -> int:
    """Time that one driver operation may take in all, every request and wait included."""
    return 3 * request_timeout_seconds + 10


def tls_verification(verify: bool, ca_path: str | None) -> bool | str:
    """What to check the cluster's certificate against: a CA path, the system's CAs, or nothing.

    Cinder's default is not to verify. A CA path says that the operator wants verification, but
    `driver_ssl_cert_verify` alone decides, as with every other Cinder driver.
    """
    return (ca_path or True) if verify else False
