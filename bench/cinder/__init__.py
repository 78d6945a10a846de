# SPDX-License-Identifier: Apache-2.0
"""`make bench`: ours and cinder's own driver, in the same run against the same lab.

A part of the benchmark is a module that measures one thing (`part` says what it has); `side` and
`worker` are the two ends of a process with one of the drivers, `report` shows and keeps results.
"""
