# SPDX-License-Identifier: Apache-2.0
"""`make demo`: show everything, with a line per step, and take it away again."""

from __future__ import annotations

import argparse
import os
import sys

from rich.console import Console

from demo.scenario import FAILURES, NETWORK, Demo, usage
from testbed.network import NetworkError

PLAIN_WIDTH = 120
"""Columns where the output is no terminal."""


def show(console: Console, *, keep: bool) -> int:
    """Run the demo; the exit status. It stays up only when asked to, and when all went well."""
    demo = Demo(console)
    status = 1
    try:
        demo.run(keep=keep)
        console.print(demo.steps.table())
        status = 0
    except FAILURES as error:
        failed = demo.steps.failed
        step = f"step '{failed.title}': " if failed else ""
        console.print(f"make demo: {step}{error}", style="red", markup=False)
    except KeyboardInterrupt:
        status = 130
    finally:
        if status or not keep:
            demo.end()
    if keep and not status:
        print(usage(demo))
    return status


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
        width = None if sys.stdout.isatty() else PLAIN_WIDTH
        return show(Console(highlight=False, width=width), keep=arguments.keep)
    except NetworkError as error:
        print(f"make demo: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
