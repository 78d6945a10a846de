# SPDX-License-Identifier: Apache-2.0
"""The daemon's log: lines for people, or one JSON object a line for machines.

Whoever logs says what it is about by `extra=about(...)`, so that the objects have fields of their
own beside the sentence.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from lightos.discovery.config import Config, ConfigError
from lightos.discovery.desired import Cluster, Endpoint

_LINE = "%(asctime)s %(levelname)s %(name)s %(message)s"
_FIELD = "lightos"


def about(
    event: str, cluster: Cluster | None = None, endpoint: Endpoint | None = None, **more: object
) -> dict[str, object]:
    """`extra` of a log call: what happened, in one word or two, and to what."""
    fields: dict[str, object] = {"event": event}
    if cluster is not None:
        fields |= {"subsystem_nqn": cluster.subsystem_nqn, "host_nqn": cluster.host_nqn}
    if endpoint is not None:
        fields |= {"address": endpoint.address, "port": endpoint.port}
    return {_FIELD: fields | more}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (RFC 3339), level, logger, message, and what it is about."""

    def format(self, record: logging.LogRecord) -> str:
        content = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, _FIELD, {}),
        }
        if record.exc_info:
            content["traceback"] = self.formatException(record.exc_info)
        return json.dumps(content)


def set_up(config: Config) -> None:
    """Log as `config` says. Raises ConfigError for a file that cannot be written."""
    handler: logging.Handler
    try:
        handler = (
            logging.FileHandler(config.log_path) if config.log_path else logging.StreamHandler()
        )
    except OSError as error:
        raise ConfigError(f"logging.filename: {config.log_path}: {error.strerror}") from None
    handler.setFormatter(
        JsonFormatter() if config.log_format == "json" else logging.Formatter(_LINE)
    )
    logging.basicConfig(level=config.log_level, handlers=[handler])
