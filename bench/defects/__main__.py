# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.defects [NUMBER...]`: all defects, or some."""

import sys

from bench.defects.report import main

sys.exit(main(sys.argv[1:]))
