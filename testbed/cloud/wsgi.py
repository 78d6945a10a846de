# SPDX-License-Identifier: Apache-2.0
"""Serves one of OpenStack's WSGI modules with cheroot, native threads and no eventlet.

`python -P wsgi.py MODULE ADDRESS PORT NAME [ARGUMENT ...]`: the module, a name or a path, finds
NAME and the arguments as its command line. The port is opened when it is ready to answer.
"""

from __future__ import annotations

import importlib
import runpy
import signal
import sys
from typing import Any

from cheroot import wsgi

THREADS = 16
QUEUE_SIZE = 128
REQUEST_TIMEOUT_SECONDS = 600
"""An image of several GiB outlives cheroot's default of 10 s."""
SHUTDOWN_SECONDS = 1


def application(module: str) -> Any:
    if module.endswith(".py"):
        return runpy.run_path(module)["application"]
    return importlib.import_module(module).application


def main() -> None:
    module, address, port, *sys.argv = sys.argv[1:]
    server: Any = wsgi.Server(
        (address, int(port)),
        application(module),
        numthreads=THREADS,
        request_queue_size=QUEUE_SIZE,
        timeout=REQUEST_TIMEOUT_SECONDS,
        shutdown_timeout=SHUTDOWN_SECONDS,
        server_name=sys.argv[0],
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server.safe_start()


if __name__ == "__main__":
    main()
