# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.cinder [PART...]`: some parts, or all but those on request."""

import sys

import click
from rich.console import Console

from bench.cinder.part import Part
from bench.cinder.parts import PARTS
from bench.cinder.report import RESULTS, run

LOG_WIDTH = 130
BY_NAME = {part.name: part for part in PARTS}


def described(part: Part) -> str:
    return f"{part.name} ({part.about}{', only when named' if part.on_request else ''})"


@click.command(epilog="Parts: " + "; ".join(map(described, PARTS)))
@click.argument("parts", nargs=-1, type=click.Choice(list(BY_NAME)))
def main(parts: tuple[str, ...]) -> None:
    """Measure the Cinder driver beside cinder's own, on lab clusters of this run."""
    chosen = [BY_NAME[name] for name in parts] or [part for part in PARTS if not part.on_request]
    console = Console(width=None if sys.stdout.isatty() else LOG_WIDTH)
    console.print(f"about {sum(part.minutes for part in chosen):.0f} minutes")
    run(chosen, console, RESULTS)


if __name__ == "__main__":
    sys.exit(main())
