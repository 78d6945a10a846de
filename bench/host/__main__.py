# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.host`: our connector beside os-brick's own, on one kernel host of this run."""

import sys

from bench.host.benchmark import BENCHMARK
from bench.report import run

if __name__ == "__main__":
    sys.exit(run(BENCHMARK, BENCHMARK.parts))
