# SPDX-License-Identifier: Apache-2.0
"""Reservations of volumes: who may read and write what several hosts share.

`rules` decides, and knows nothing else; `table` keeps what was decided, in memory and on disk.
"""
