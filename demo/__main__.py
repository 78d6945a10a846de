# SPDX-License-Identifier: Apache-2.0
"""`make demo`: make a network namespace, show everything inside it, take it away again."""

from __future__ import annotations

import argparse
import os
import sys

from testbed.network import Network, NetworkError

NETWORK = Network("lightos-demo")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--keep", action="store_true", help="leave everything running")
    choice.add_argument("--down", action="store_true", help="end what --keep left running")
    arguments = parser.parse_args()

    if os.geteuid() != 0:
        print("make demo needs root: it makes a network namespace for itself", file=sys.stderr)
        return 2
    try:
        if arguments.down:
            NETWORK.destroy()
            return 0
        NETWORK.create()
        keep = ["--keep"] if arguments.keep else []
        command = [sys.executable, "-m", "demo.scenario", *keep]
        status = NETWORK.run(command, capture_output=False, check=False).returncode
        if status or not arguments.keep:
            NETWORK.destroy()
    except KeyboardInterrupt:
        NETWORK.destroy()
        return 130
    except NetworkError as error:
        print(f"make demo: {error}", file=sys.stderr)
        return 2
    return status


if __name__ == "__main__":
    sys.exit(main())
