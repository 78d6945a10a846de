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


def keeping_connections(application: Any) -> Any:
    """The application, which may close a request's input.

    Glance does so after an upload, though WSGI's input has no `close` (PEP 3333, Input and Error
    Streams). cheroot's closes the connection's own file, and the next request on it fails with 500.
    """

    def call(environ: dict[str, Any], start_response: Any) -> Any:
        environ["wsgi.input"].close = lambda: None
        return application(environ, start_response)

    return call


def main() -> None:
    module, address, port, *sys.argv = sys.argv[1:]
    server: Any = wsgi.Server(
        (address, int(port)),
        keeping_connections(application(module)),
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
