# SPDX-License-Identifier: Apache-2.0
"""What I/O on a volume goes through when its paths fail: fio on a real kernel, fault by fault.

`faults` are what can happen, `bed` is where it happens, `fio` is the I/O and what it met, `report`
shows it. tests/kernel/test_paths.py runs the same faults and judges them.
"""
