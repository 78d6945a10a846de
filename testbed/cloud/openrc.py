# SPDX-License-Identifier: Apache-2.0
"""The file that makes the `openstack` command speak to a cloud: `. openrc`, and that command."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

from testbed.cinder.paths import VENV_BIN
from testbed.cloud.deployment import ADMIN, DOMAIN, IDENTITY, REGION, Deployment

VOLUME_API_VERSION = "3.71"
"""The newest microversion of Cinder 29."""
COMMAND_SECONDS = 120


def variables(
    deployment: Deployment, user: str = ADMIN, password: str | None = None, project: str = ADMIN
) -> dict[str, str]:
    """The environment of OpenStack's clients, for a user of the cloud."""
    return {
        "OS_AUTH_TYPE": "password",
        "OS_AUTH_URL": deployment.public_url(IDENTITY),
        "OS_IDENTITY_API_VERSION": "3",
        "OS_VOLUME_API_VERSION": VOLUME_API_VERSION,
        "OS_REGION_NAME": REGION,
        "OS_INTERFACE": "public",
        "OS_PROJECT_NAME": project,
        "OS_PROJECT_DOMAIN_NAME": DOMAIN,
        "OS_USERNAME": user,
        "OS_USER_DOMAIN_NAME": DOMAIN,
        "OS_PASSWORD": password or deployment.password(user),
    }


def render(environment: Mapping[str, str]) -> str:
    """Lines for a shell to source."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())


def openstack(openrc: Path, words: str) -> str:
    """Type `openstack WORDS` as someone at a terminal does, in no namespace but the machine's.

    What it prints. Raises `RuntimeError` with what it says when it fails.
    """
    script = f'. "{openrc}" && "{VENV_BIN}/openstack" {words}'
    shell = ["sh", "-c", script]
    done = subprocess.run(
        shell, capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS
    )
    if done.returncode:
        raise RuntimeError(f"openstack {words}: {done.stderr}")
    return done.stdout
