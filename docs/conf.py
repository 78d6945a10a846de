# SPDX-License-Identifier: Apache-2.0
"""Sphinx configuration."""

import logging
import sys
import warnings
from importlib.metadata import version as distribution_version
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent / "_ext"), str(Path(__file__).parents[1])]

project = "lightos-openstack"
copyright = "the lightos-openstack contributors, Apache-2.0"
release = distribution_version("lightos-openstack")
extensions = ["generated_tables", "reno.sphinxext", "sphinx_click"]
# Imports of the tables turn on what these tell: of each commit, and of what Cinder runs on.
for each in ("reno", "oslo_service"):
    logging.getLogger(each).setLevel(logging.WARNING)
warnings.filterwarnings("ignore", r"\s*Eventlet is deprecated")
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["guide.css"]
html_title = "LightOS for OpenStack"
exclude_patterns = ["_build", "_ext", "_static"]
man_pages = [("command", "lightos", "LightOS storage for OpenStack", [], 1)]
