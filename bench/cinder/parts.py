# SPDX-License-Identifier: Apache-2.0
"""The parts of the benchmark, in the order they are measured."""

from bench.cinder import lab_rest, operations, throughput

PARTS = [operations.PART, lab_rest.PART, throughput.PART]
