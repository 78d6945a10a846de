# SPDX-License-Identifier: Apache-2.0
"""What a release consists of, made of a commit: `make package`."""

from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
CONSTRAINTS = CHECKOUT / "constraints.txt"
