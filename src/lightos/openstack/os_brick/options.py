# SPDX-License-Identifier: Apache-2.0
"""Options of the connector, in the group `[os_brick]` of the service that uses os-brick."""

from oslo_config import cfg, types

GROUP = "os_brick"

OPTIONS = [
    cfg.HostAddressOpt(
        "lightos_discovery_client_address",
        default="localhost",
        help="Address where the LightOS discovery client answers HTTP, or a name that /etc/hosts "
        "has: for a name server's answer this would wait as long as the host's resolver does.",
    ),
    cfg.PortOpt(
        "lightos_discovery_client_port",
        default=6060,
        help="Port where the LightOS discovery client answers HTTP.",
    ),
    cfg.StrOpt(
        "lightos_discovery_client_dir_path",
        default="/etc/discovery-client/discovery.d/",
        help="Folder that the LightOS discovery client watches for discovery files.",
    ),
    cfg.ListOpt(
        "lightos_data_networks",
        item_type=types.String(),
        default=[],
        help="Networks (CIDR) over which this host reaches LightOS. Only addresses in them are "
        "reported to Cinder, which puts them into the IP ACL of volumes. Empty: every address "
        "but loopback, link-local and those of container and libvirt bridges.",
    ),
]

cfg.CONF.register_opts(OPTIONS, group=GROUP)


def list_opts():
    """Entry point for oslo.config's sample generator."""
    return [(GROUP, OPTIONS)]
