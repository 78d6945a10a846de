# SPDX-License-Identifier: Apache-2.0
"""The parts of the benchmark, in the order they are measured."""

from bench.cinder import (
    charts,
    images,
    lab_rest,
    locks,
    many_volumes,
    memory,
    operations,
    outage,
    scaling,
    throughput,
)
from bench.report import Benchmark

PARTS = [
    operations.PART,
    throughput.PART,
    outage.PART,
    many_volumes.PART,
    memory.PART,
    scaling.PART,
    locks.PART,
    lab_rest.PART,
    images.PART,
]

BENCHMARK = Benchmark("cinder", "cinder", PARTS, charts.draw)
