# SPDX-License-Identifier: Apache-2.0
"""`lightos lab fault`: let the lab misbehave on purpose."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from lightos.cli.lab_folder import one_line_errors, running, state_dir
from lightos.lab.faults.rules import ADDRESS_EFFECTS, CALL_EFFECTS, Effect, meaning
from lightos.lab.state_folder import StateFolder

AS_JSON = click.option("--json", "as_json", is_flag=True, help="For programs.")


def _effects(function: Callable[..., Any]) -> Callable[..., Any]:
    """An option for every effect that a rule can have."""
    for effect in reversed((*CALL_EFFECTS, *ADDRESS_EFFECTS)):
        function = _effect(effect)(function)
    return function


def _effect(effect: type[Effect]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    name = "--" + effect.key.replace("_", "-")
    if effect.example is True:
        return click.option(name, effect.key, is_flag=True, default=None, help=meaning(effect))
    kind = type(effect.example)
    shown = "|".join(effect.words) or None
    return click.option(name, effect.key, type=kind, metavar=shown, help=meaning(effect))


@click.group()
def fault() -> None:
    """Let the cluster misbehave on purpose, until `clear` or its end.

    \b
    lightos lab fault add --operation UpdateVolume --status 503 --count 2
    lightos lab fault add --operation CreateVolume --lose-reply
    lightos lab fault add --address 127.0.0.2 --swallow
    lightos lab fault list
    """


@fault.command()
@click.option("--operation", help="Which operation of the management API; * is every one.")
@click.option("--method", help="Only calls with this HTTP method.")
@click.option("--address", help="Only calls to this node's address.")
@click.option("--object", metavar="GLOB", help="Only calls about objects of such name or UUID.")
@click.option("--first", type=int, help="Begin with the n-th such call.  [default: 1]")
@click.option("--count", type=int, help="How many calls; 0 is all.  [default: 1]")
@click.option("--probability", type=float, help="Of those, each with this probability.")
@_effects
@click.option("--message", help="What an answer with --status says.")
@click.option("--code", type=int, help="The gRPC code in an answer with --status.")
@state_dir
@AS_JSON
def add(folder: StateFolder, as_json: bool, **fields: Any) -> None:
    """Add a rule: which calls or address it picks, and one effect."""
    rule = {name: value for name, value in fields.items() if value is not None}
    with running(folder) as control:
        added = control.ask("POST", "faults", rule)
    click.echo(json.dumps(added, indent=2) if as_json else f"Fault {added['id']} is in force.")


@fault.command("list")
@state_dir
@AS_JSON
def list_faults(folder: StateFolder, as_json: bool) -> None:
    """Show the rules, the calls that each has seen, and those it has hit."""
    with running(folder) as control:
        plan = control.ask("GET", "faults")
    if as_json:
        click.echo(json.dumps(plan, indent=2))
        return
    from lightos.cli.lab_table import print_faults  # noqa: PLC0415

    print_faults(plan)


@fault.command()
@click.argument("number", metavar="[ID]", required=False, type=click.IntRange(1))
@state_dir
def clear(number: int | None, folder: StateFolder) -> None:
    """End one rule, or all: objects that were held settle, addresses answer again."""
    with running(folder) as control:
        control.ask("DELETE", "faults" if number is None else f"faults/{number}")
    click.echo("There are no faults." if number is None else f"Fault {number} is cleared.")


@fault.command()
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@state_dir
def load(file: str, folder: StateFolder) -> None:
    """Have the plan in FILE (- is stdin) in place of the present one.

    It is JSON: {"seed": 7, "rules": [{"operation": "UpdateVolume", "status": 503}]}. The seed
    decides what rules with a probability do.
    """
    try:
        with one_line_errors(), click.open_file(file, "rb") as content:
            plan = json.load(content)
    except (ValueError, RecursionError) as cause:
        raise click.ClickException(f"{file} is not JSON: {cause}") from None
    with running(folder) as control:
        count = len(control.ask("PUT", "faults", plan)["rules"])
    click.echo(f"{count} faults are in force.")
