# SPDX-License-Identifier: Apache-2.0
"""`lightos doctor`: what is wrong with a set-up, and how to put it right."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from pathlib import Path

import click

from lightos.doctor.checks import host as host_checks
from lightos.doctor.checks import names as name_checks
from lightos.doctor.findings import UNKNOWN_STATUS, Finding, summary, worst, worst_first
from lightos.doctor.gather import host as host_facts
from lightos.doctor.gather import names as name_facts
from lightos.openstack.overlay import SWITCH, installed_version, lacking

_FILE = click.Path(path_type=Path, dir_okay=False)
_STYLES = {"OK": "green", "WARNING": "yellow", "CRITICAL": "red"}


class _NotLooked(click.UsageError):
    """Nothing was checked; other commands' exit status for this, 2, would be Nagios's CRITICAL."""

    exit_code = UNKNOWN_STATUS


class _Plugin(click.Command):
    """A Nagios plug-in, by its exit status."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            raise _NotLooked(error.format_message(), ctx) from None


@click.command(cls=_Plugin)
@click.option(
    "--cinder-conf",
    "cinder_confs",
    type=_FILE,
    multiple=True,
    metavar="FILE",
    help="Check the LightOS back ends of this cinder.conf, and their clusters. May be repeated, as "
    "--config-file of cinder-volume.",
)
@click.option(
    "--host", "host_wanted", is_flag=True, help="Check this host, which attaches volumes."
)
@click.option(
    "--config",
    "client_config",
    type=_FILE,
    metavar="FILE",
    help="With --host: the discovery client's configuration. [default: "
    "/etc/discovery-client/discovery-client.yaml if it exists]",
)
@click.option("--json", "json_wanted", is_flag=True, help="Print JSON.")
def doctor(
    cinder_confs: tuple[Path, ...],
    host_wanted: bool,
    client_config: Path | None,
    json_wanted: bool,
) -> None:
    """Say what is wrong here, and how to put it right; nothing is changed.

    Without options: which LightOS drivers OpenStack gets in this environment, and from where.
    Ends as a Nagios plug-in: 0 when all is well, 1 with warnings, 2 when something does not work,
    3 when the command line makes no sense.
    """
    # What the parts that are used here log, they log for services; the findings say it here.
    logging.getLogger().addHandler(logging.NullHandler())
    warnings.simplefilter("ignore")
    findings = name_checks.findings(
        name_facts.names(), name_facts.overlay_state(), sys.executable, SWITCH
    )
    if cinder_confs:
        findings += _of_cinder(cinder_confs)
    if host_wanted:
        findings += host_checks.findings(host_facts.host(client_config, os.environ))
    if json_wanted:
        click.echo(json.dumps(_as_json(findings), indent=2))
    else:
        click.echo(summary(findings))
        for finding in worst_first(findings):
            click.echo(_line(finding))
    raise SystemExit(worst(findings).value)


def _of_cinder(paths: tuple[Path, ...]) -> list[Finding]:
    """In a function of its own: a host without Cinder has a doctor, too."""
    if installed_version("cinder") and (needed := lacking("cinder")):
        return [name_checks.not_looked_at(", ".join(map(str, paths)), needed)]
    try:
        from lightos.doctor.checks import cinder as checks  # noqa: PLC0415
        from lightos.doctor.gather import cinder as facts  # noqa: PLC0415
    except ModuleNotFoundError as cause:
        raise _NotLooked(
            f"--cinder-conf needs the package {cause.name}: run the `lightos` of the environment "
            "that cinder-volume runs in"
        ) from cause
    return checks.findings(facts.cinder(paths))


def _as_json(findings: list[Finding]) -> dict[str, object]:
    return {
        "status": worst(findings).name.lower(),
        "exit_status": worst(findings).value,
        "findings": [finding.as_dict() for finding in findings],
    }


def _line(finding: Finding) -> str:
    name = finding.severity.name
    fix = f" Fix: {finding.fix}." if finding.fix else ""
    head = click.style(f"{name:8}", fg=_STYLES[name])
    return f"{head} {finding.check:16} {finding.subject}: {finding.said}.{fix}"
