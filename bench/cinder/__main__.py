# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.cinder [PART...]`: some parts, or all but those on request."""

import sys

import click

from bench.cinder.parts import BENCHMARK, PARTS
from bench.part import Part
from bench.report import run

BY_NAME = {part.name: part for part in PARTS}


def described(part: Part) -> str:
    return f"{part.name} ({part.about}{', only when named' if part.on_request else ''})"


@click.command(epilog="Parts: " + "; ".join(map(described, PARTS)))
@click.argument("parts", nargs=-1, type=click.Choice(list(BY_NAME)))
def main(parts: tuple[str, ...]) -> None:
    """Measure the Cinder driver beside cinder's own, on lab clusters of this run."""
    chosen = [BY_NAME[name] for name in parts] or [part for part in PARTS if not part.on_request]
    run(BENCHMARK, chosen)


if __name__ == "__main__":
    sys.exit(main())
