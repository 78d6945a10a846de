# SPDX-License-Identifier: Apache-2.0
"""`lightos` in a guest's long-lived Python, by `host.call`: to start another takes seconds."""

from __future__ import annotations

from typing import Any

from click.testing import CliRunner

from lightos.cli.main import lightos


def run(*arguments: str, **environment: str) -> dict[str, Any]:
    """Exit status and output of one command; standard error is `stderr`."""
    done = CliRunner().invoke(lightos, arguments, env=environment, catch_exceptions=False)
    return {"status": done.exit_code, "stdout": done.stdout, "stderr": done.stderr}
