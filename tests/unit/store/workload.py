# SPDX-License-Identifier: Apache-2.0
"""A process that works on a store until it is killed: `python -m ... DIRECTORY OPERATIONS`.

It does the pickled operations in order and writes one byte for each that returned.
"""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

from lightos.lab.store import ThinStore
from tests.unit.store.model import do


def main(directory: str, operations_file: str) -> None:
    operations = pickle.loads(Path(operations_file).read_bytes())
    store = ThinStore(Path(directory), max_open_files=8)
    for operation in operations:
        do(store, operation)
        os.write(1, b".")
    os.write(1, b"\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
