# SPDX-License-Identifier: Apache-2.0
"""Tables that the documentation takes from the code, so that they cannot drift.

`.. option-table:: MODULE:ATTRIBUTE` lists oslo.config options; `.. contract-parity::` lists the
operations of the management API, and how much of each the lab has;
`.. command-options:: lightos lab up` lists what a command accepts; `.. discovery-keys::` lists
the discovery client's settings,
`.. discovery-metrics::` what it tells Prometheus, `.. discovery-commands::` its commands,
`.. driver-metrics::` what the Cinder driver tells Prometheus and `.. lab-metrics::` what the lab
does;
`.. tempest-result:: FILE` lists what a whole `make tempest` last came to;
`.. tempest-left-out::` lists what it leaves out;
`.. fault-effects::` lists what the lab can do wrong on purpose;
`.. defect-table::` lists what `make defects` last saw;
`.. lock-table::` is the driver's table of locks;
`.. support-matrix::` lists the operations of `docs/support_matrix.yaml` and their tests;
`.. path-faults::` is what `make paths` last saw;
`.. bench-part:: NAME` shows what a part of `make bench` or `make bench-host` last came to, and
`.. bench-grid:: NAME` what `bench.cinder.projection` makes of the former.
"""

import importlib
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import click
import yaml
from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from oslo_config import cfg
from prometheus_client.metrics import MetricWrapperBase

RESULTS = Path(__file__).parents[2] / "bench" / "results"
BENCH = RESULTS / "cinder.json"
DEFECTS = RESULTS / "defects.json"
PATHS = RESULTS / "paths.json"
SUPPORT = Path(__file__).parents[1] / "support_matrix.yaml"
PARITY = Path(__file__).parents[2] / "tests" / "contract" / "parity.json"


def _cell(*children: nodes.Node) -> nodes.entry:
    paragraph = nodes.paragraph()
    paragraph += children
    entry = nodes.entry()
    entry += paragraph
    return entry


def _table(
    head: tuple[str, ...], widths: tuple[int, ...], rows: list[list[nodes.entry]]
) -> nodes.table:
    table, group = nodes.table(), nodes.tgroup(cols=len(head))
    table += group
    for width in widths:
        group += nodes.colspec(colwidth=width)
    header = nodes.row()
    header += [_cell(nodes.Text(title)) for title in head]
    thead, tbody = nodes.thead(), nodes.tbody()
    thead += header
    group += [thead, tbody]
    for cells in rows:
        row = nodes.row()
        row += cells
        tbody += row
    return table


class OptionTable(Directive):
    """Name, type, default and help of each option in a list of oslo.config options."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        module, _, attribute = self.arguments[0].partition(":")
        options = getattr(importlib.import_module(module), attribute)
        return [_long_names(_table(("Option", "Meaning"), (46, 54), list(map(self._row, options))))]

    @staticmethod
    def _row(option: cfg.Opt) -> list[nodes.entry]:
        name = _cell(nodes.literal(text=option.name))
        kind = str(option.type).partition("(")[0]
        if option.default in (None, []):
            name += nodes.paragraph(text=f"{kind}, not set by default")
        else:
            default = nodes.literal(text=str(option.default))
            name += nodes.paragraph("", "", nodes.Text(f"{kind}, by default "), default)
        return [name, _cell(nodes.Text(option.help))]


class ContractParity(Directive):
    """Each operation of the contract, as `tests.contract.parity` last compared it."""

    def run(self) -> list[nodes.Node]:
        self.state.document.settings.record_dependencies.add(str(PARITY))
        found = json.loads(PARITY.read_text())["operations"]
        counts = Counter(row["parity"] for row in found)
        told = ", ".join(f"{counts[word]} {word}" for word in ("exact", "partial", "absent"))
        rows = [
            [
                _cell(nodes.literal(text=row["line"])),
                _cell(nodes.Text(row["operation"])),
                _cell(nodes.Text(row["parity"])),
            ]
            for row in found
        ]
        return [
            nodes.paragraph(text=f"{len(found)} operations: {told}."),
            _long_names(_table(("Method and path", "Operation", "Parity"), (60, 28, 12), rows)),
        ]


class CommandOptions(Directive):
    """Each option of one command of `lightos`, with its default and help."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        command: click.Command = importlib.import_module("lightos.cli.main").lightos
        context = click.Context(command)
        for name in self.arguments[0].split()[1:]:
            command = command.get_command(context, name)
            context = click.Context(command, parent=context, info_name=name)
        records = [
            record
            for parameter in command.get_params(context)
            if parameter.name != "help" and (record := parameter.get_help_record(context))
        ]
        rows = [
            [_cell(nodes.literal(text=option)), _cell(nodes.Text(" ".join(text.split())))]
            for option, text in records
        ]
        return [_table(("Option", "Meaning"), (40, 60), rows)]


class DiscoveryKeys(Directive):
    """Key, environment variable and default of each setting of the discovery client."""

    def run(self) -> list[nodes.Node]:
        config = importlib.import_module("lightos.discovery.config")
        defaults = config.Config()
        rows = [
            [
                _cell(nodes.literal(text=key)),
                _cell(nodes.literal(text=config.variable(key))),
                _cell(nodes.Text(_shown(getattr(defaults, field)))),
            ]
            for key, (field, _) in config.KEYS.items()
        ]
        return [_long_names(_table(("Key", "Environment variable", "Default"), (34, 38, 28), rows))]


class DiscoveryMetrics(Directive):
    """Name, kind, labels and meaning of each metric of the discovery client."""

    def run(self) -> list[nodes.Node]:
        status = importlib.import_module("lightos.discovery.status")
        families = status.StatusCollector(status.Status).collect()
        return [_metric_table((f.name, f.type, f._labelnames, f.documentation) for f in families)]


class LabMetrics(Directive):
    """Name, kind, labels and meaning of each metric of the lab."""

    def run(self) -> list[nodes.Node]:
        metrics = importlib.import_module("lightos.lab.metrics")
        families = metrics.LabCollector(metrics.LabFigures).collect()
        return [_metric_table((f.name, f.type, f._labelnames, f.documentation) for f in families)]


class DriverMetrics(Directive):
    """Name, kind, labels and meaning of each metric of the Cinder driver."""

    def run(self) -> list[nodes.Node]:
        metrics = importlib.import_module("lightos.openstack.cinder.metrics").DriverMetrics()
        found = [m for m in vars(metrics).values() if isinstance(m, MetricWrapperBase)]
        return [_metric_table((m._name, m._type, m._labelnames, m._documentation) for m in found)]


def _metric_table(metrics: Iterable[tuple[str, str, Iterable[str], str]]) -> nodes.table:
    """Of name, kind, labels and meaning."""
    rows = [
        [
            _cell(nodes.literal(text=f"{name}{'_total' * (kind == 'counter')}")),
            _cell(nodes.Text(kind)),
            _cell(nodes.Text(", ".join(labels))),
            _cell(nodes.Text(meaning)),
        ]
        for name, kind, labels, meaning in metrics
    ]
    return _table(("Metric", "Kind", "Labels", "Meaning"), (34, 10, 22, 34), rows)


class DiscoveryCommands(Directive):
    """Each command of the discovery client, and what it does."""

    def run(self) -> list[nodes.Node]:
        group = importlib.import_module("lightos.cli.discovery_client").discovery_client
        rows = [
            [
                _cell(nodes.literal(text=f"lightos discovery-client {name}")),
                _cell(nodes.Text(" ".join((command.help or "").partition("\n\n")[0].split()))),
            ]
            for name, command in group.commands.items()
        ]
        return [_table(("Command", "What it does"), (45, 55), rows)]


class TempestResult(Directive):
    """What the whole run that a file of bench/results keeps came to, and every test it skipped."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        kept = RESULTS / self.arguments[0]
        if not kept.exists():
            return [nodes.paragraph(text="None is recorded in this checkout.")]
        result = json.loads(kept.read_text())
        self.state.document.settings.record_dependencies.add(str(kept))
        ran = sorted([*result["passed"], *result["failed"]])
        failed = set(result["failed"])
        counts = {module: [0, 0] for module in sorted({_module(test) for test in ran})}
        for test in ran:
            counts[_module(test)][test in failed] += 1
        rows = [
            [_cell(nodes.literal(text=module)), *(_cell(nodes.Text(str(n))) for n in numbers)]
            for module, numbers in counts.items()
        ]
        totals = [sum(numbers) for numbers in zip(*counts.values(), strict=True)]
        rows.append([_cell(nodes.Text("in all")), *(_cell(nodes.Text(str(n))) for n in totals)])
        skipped = [
            [
                _cell(nodes.literal(text=test)),
                _cell(nodes.Text(skip["reason"])),
                _cell(nodes.Text(skip["because"] or "")),
            ]
            for skip in result["skips"]
            for test in skip["tests"]
        ]
        versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
        said = f"{versions}; {result['seconds']} seconds on {result['machine']}."
        return [
            nodes.paragraph(text=said),
            _table(("Tests", "Passed", "Failed"), (70, 15, 15), rows),
            nodes.paragraph(text=f"Skipped: {len(skipped)}."),
            *(
                [_long_names(_table(("Test", "It says", "Because"), (50, 20, 30), skipped))]
                if skipped
                else []
            ),
        ]


class TempestLeftOut(Directive):
    """The tests that `make tempest NOVA=1` leaves out one by one, and why."""

    def run(self) -> list[nodes.Node]:
        left_out = importlib.import_module("testbed.tempest.selection").NOT_ON_INSTANCES
        rows = [
            [_cell(nodes.literal(text=test)), _cell(nodes.Text(reason))]
            for test, reason in left_out.items()
        ]
        return [_table(("Test", "Left out because"), (40, 60), rows)]


class FaultEffects(Directive):
    """Each effect of the lab's fault plan: its field, legal values, meaning and operations."""

    def run(self) -> list[nodes.Node]:
        rules = importlib.import_module("lightos.lab.faults.rules")
        rows = [
            [
                _cell(nodes.literal(text=f'"{effect.key}": {_values(effect)}')),
                _cell(nodes.Text(rules.meaning(effect))),
                _cell(nodes.Text(_operations(effect, rules))),
            ]
            for effect in rules.EFFECTS
        ]
        return [_table(("Field", "What happens", "Goes with"), (28, 47, 25), rows)]


def _values(effect) -> str:
    return " | ".join(map(json.dumps, effect.words or [effect.example]))


def _operations(effect, rules) -> str:
    if effect in rules.ADDRESS_EFFECTS:
        return "the address of a node"
    if effect is rules.Stay:
        states = rules.STAYS.items()
        return "; ".join(f"{state}: {', '.join(sorted(names))}" for state, names in states)
    every = set(rules.OPERATIONS) == effect.operations
    return "every operation" if every else ", ".join(sorted(effect.operations))


class DefectTable(Directive):
    """Each known defect of what OpenStack ships, and what either side showed."""

    def run(self) -> list[nodes.Node]:
        document = json.loads(DEFECTS.read_text())
        rows = [
            [
                _cell(nodes.Text(row["number"])),
                _cell(nodes.Text(row["what"])),
                *(self._answer(row[who]) for who in ("incumbent", "ours")),
            ]
            for row in document["defects"]
        ]
        head = ("No.", "Defect", document["incumbent"], document["ours"])
        return [_long_names(_table(head, (8, 28, 32, 32), rows))]

    @staticmethod
    def _answer(answer: dict[str, object]) -> nodes.entry:
        word = "shows it: " if answer["defect"] else "does not: "
        return _cell(nodes.strong(text=word), nodes.Text(str(answer["seen"])))


class LockTable(Directive):
    """The one table in the docstring of the module that keeps attachments apart."""

    def run(self) -> list[nodes.Node]:
        module = importlib.import_module("lightos.openstack.cinder.attachments")
        lines = (module.__doc__ or "").splitlines()
        rules = [number for number, line in enumerate(lines) if line.startswith("===")]
        found = nodes.container()
        table = lines[rules[0] : rules[-1] + 1]
        self.state.nested_parse(StringList(table, module.__name__), self.content_offset, found)
        return found.children


class SupportMatrix(Directive):
    """Each part of the support matrix as a section: what is asked, the answer, and its proof."""

    def run(self) -> list[nodes.Node]:
        self.state.document.settings.record_dependencies.add(str(SUPPORT))
        return [self._section(part) for part in yaml.safe_load(SUPPORT.read_text())]

    @staticmethod
    def _section(part: dict[str, object]) -> nodes.section:
        rows = []
        for row in part["rows"]:
            proof = nodes.entry()
            for test in row.get("tests", ()):
                proof += nodes.paragraph("", "", nodes.literal(text=test))
            said = [_cell(nodes.Text(row["what"]))]
            if "note" in row:
                said[0] += nodes.paragraph(text=row["note"])
            answer = _cell(nodes.Text("yes" if row["supported"] else "no"))
            rows.append([*said, answer, proof])
        title = part["part"]
        section = nodes.section(
            ids=[nodes.make_id(title)], names=[nodes.fully_normalize_name(title)]
        )
        section += nodes.title(text=title)
        section += _long_names(_table(("What", "", "Proved by"), (32, 8, 60), rows))
        return section


class BenchPart(Directive):
    """The tables and goals of one part of a benchmark, of the last time it was measured."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        ((part, results),) = (
            (part, benchmark.results)
            for module in ("bench.cinder.parts", "bench.host.benchmark")
            for benchmark in [importlib.import_module(module).BENCHMARK]
            for part in benchmark.parts
            if part.name == self.arguments[0]
        )
        self.state.document.settings.record_dependencies.add(str(results))
        document = json.loads(results.read_text())
        if part.name not in document["measured_in_s"]:
            return [nodes.paragraph(text="Not measured yet.")]
        goals = [
            [goal.what, goal.wanted, goal.measured, goal.word] for goal in part.goals(document)
        ]
        return [
            *(node for grid in part.grids(document) for node in _grid(grid)),
            *([_text_table(("Goal", "Wanted", "Measured", ""), goals)] if goals else []),
        ]


class PathFaults(Directive):
    """What I/O on a volume went through while its paths failed, fault by fault."""

    def run(self) -> list[nodes.Node]:
        if not PATHS.exists():
            return [nodes.paragraph(text="None is recorded in this checkout.")]
        report = importlib.import_module("bench.paths.report")
        self.state.document.settings.record_dependencies.add(str(PATHS))
        document = json.loads(PATHS.read_text())
        return [
            nodes.paragraph(text=f"{document['machine']}."),
            _text_table(report.HEAD, report.rows(document)),
        ]


class BenchGrid(Directive):
    """A table that `bench.cinder.projection` reckons from what `make bench` last measured."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        projection = importlib.import_module("bench.cinder.projection")
        self.state.document.settings.record_dependencies.add(str(BENCH))
        return _grid(getattr(projection, self.arguments[0])(json.loads(BENCH.read_text())))


def _grid(grid) -> list[nodes.Node]:
    return [nodes.paragraph(text=f"{grid.title}:"), _text_table(grid.head, grid.rows)]


def _long_names(table: nodes.table) -> nodes.table:
    """A table whose names are broken rather than its columns widened, see guide.css."""
    table["classes"] += ["long-names", "colwidths-given"]
    return table


def _text_table(head, rows) -> nodes.table:
    """With columns as wide as what is in them."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    cells = [[_cell(nodes.Text(text)) for text in row] for row in rows]
    table = _table(tuple(head), tuple(max(width, 1) for width in widths), cells)
    table["classes"] += ["figures"]
    return table


def _module(test: str) -> str:
    """The module of a test's name, or what else an outcome is of, such as `tearDownClass (...)`."""
    return test.rpartition(".")[0].rpartition(".")[0]


def _shown(value: object) -> str:
    return "" if value is None else str(value)


def setup(app):
    app.add_directive("option-table", OptionTable)
    app.add_directive("command-options", CommandOptions)
    app.add_directive("discovery-keys", DiscoveryKeys)
    app.add_directive("discovery-metrics", DiscoveryMetrics)
    app.add_directive("lab-metrics", LabMetrics)
    app.add_directive("driver-metrics", DriverMetrics)
    app.add_directive("discovery-commands", DiscoveryCommands)
    app.add_directive("contract-parity", ContractParity)
    app.add_directive("tempest-result", TempestResult)
    app.add_directive("tempest-left-out", TempestLeftOut)
    app.add_directive("fault-effects", FaultEffects)
    app.add_directive("defect-table", DefectTable)
    app.add_directive("lock-table", LockTable)
    app.add_directive("support-matrix", SupportMatrix)
    app.add_directive("bench-part", BenchPart)
    app.add_directive("bench-grid", BenchGrid)
    app.add_directive("path-faults", PathFaults)
    return {"parallel_read_safe": True}
