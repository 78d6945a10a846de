# SPDX-License-Identifier: Apache-2.0
"""Thin, copy-on-write block volumes and snapshots in a directory of sparse files.

A *layer* holds the extents that were written while it was on top: one sparse data file
(every extent at its own offset) and one map file (one byte for each 4 KiB extent). A volume
is a writable layer over a chain of frozen ones; a snapshot is a frozen layer with a name.
What refers to what is kept in SQLite (`catalog`), contents never are. Layers that lose their
name and have one child left are folded into it, or it into them, in the background (`merge`).
"""

from lightos.lab.store.thin import ThinStore

__all__ = ["ThinStore"]
