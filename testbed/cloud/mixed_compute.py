# SPDX-License-Identifier: Apache-2.0
"""nova-compute with some modules as OpenStack ships them, and ours in the place of the others.

`python -m testbed.cloud.mixed_compute MODULE... -- OPTION...`: the modules that stay as shipped,
by their in-tree names, and what nova-compute is given.
"""

from __future__ import annotations

import importlib
import sys

from lightos.openstack import overlay


def main() -> None:
    end = sys.argv.index("--")
    for name in sys.argv[1:end]:
        del overlay.NAMES[name]
    del sys.argv[1 : end + 1]
    # It looks the names up, so it is imported after they are settled.
    sys.exit(importlib.import_module("nova.cmd.compute").main())


if __name__ == "__main__":
    main()
