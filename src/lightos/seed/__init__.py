# SPDX-License-Identifier: Apache-2.0
"""A cluster filled from a YAML file: `document` reads the file, `apply` makes what is in it."""
