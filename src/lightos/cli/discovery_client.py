# SPDX-License-Identifier: Apache-2.0
"""`lightos discovery-client`: runs the host's discovery client in the foreground."""

from __future__ import annotations

import dataclasses
import logging
import os
from pathlib import Path

import click

from lightos.discovery.config import Config, ConfigError, load
from lightos.discovery.daemon import StartError, serve

LOG = logging.getLogger(__name__)


@click.command("discovery-client")
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="YAML file with the vendor's keys. [default: /etc/discovery-client/discovery-client.yaml "
    "if it exists]",
)
@click.option(
    "--discovery-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to watch, instead of the configuration's clientConfigDir.",
)
def discovery_client(config_path: Path | None, discovery_dir: Path | None) -> None:
    """Connect this host to the clusters that the files in discovery.d name.

    Every configuration key can be given in the environment too: debug.endpoint is
    DC_DEBUG_ENDPOINT. SIGTERM stops the client and leaves the kernel's connections up.
    """
    try:
        loaded = load(config_path, os.environ)
        config = loaded.config
        if discovery_dir is not None:
            config = dataclasses.replace(config, discovery_dir=discovery_dir.absolute())
        _set_up_logging(config)
        for key in loaded.ignored_keys:
            LOG.warning("configuration key %s has no effect here", key)
        serve(config)
    except (ConfigError, StartError) as error:
        raise click.ClickException(str(error)) from None


def _set_up_logging(config: Config) -> None:
    try:
        logging.basicConfig(
            filename=config.log_path,
            level=config.log_level,
            format="%(asctime)s %(levelname)s %(name)s %(message)s",
        )
    except OSError as error:
        raise ConfigError(f"logging.filename: {config.log_path}: {error.strerror}") from None
