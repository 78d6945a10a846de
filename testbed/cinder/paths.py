# SPDX-License-Identifier: Apache-2.0
"""Where the virtualenv keeps its commands and Cinder's shipped files, and where we may cache."""

import os
import sys
from pathlib import Path

PYTHON = Path(sys.executable)
VENV_BIN = PYTHON.parent
SHIPPED_CONFIG_DIR = Path(sys.prefix, "etc", "cinder")


def cache_dir() -> Path:
    """The project's cache folder; ``LIGHTOS_CACHE_DIR`` moves it."""
    checkout = Path(__file__).resolve().parents[2]
    return Path(os.environ.get("LIGHTOS_CACHE_DIR", checkout / ".cache"))
