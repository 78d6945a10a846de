# SPDX-License-Identifier: Apache-2.0
"""That the parity table tells exact, partial, absent and wrong apart."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lightos.api import openapi, routes
from tests.contract import parity
from tests.contract.parity import Verdict

OURS = openapi.document()
VOLUME = "/api/v2/projects/{projectName}/volumes/{UUID}"


def schema(document: dict[str, Any], name: str) -> Any:
    return document["components"]["schemas"][name]


def verdicts(contract: dict[str, Any]) -> dict[str, Verdict]:
    return {each.operation: each.verdict for each in parity.compare(OURS, contract)}


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Verdict]:
    contract = copy.deepcopy(OURS)
    change(contract)
    return {
        name: verdict
        for name, verdict in verdicts(contract).items()
        if verdict is not Verdict.EXACT
    }


def test_a_document_equals_itself() -> None:
    assert set(verdicts(OURS).values()) == {Verdict.EXACT}
    assert len(verdicts(OURS)) == 44


def test_a_field_that_only_the_contract_has_is_missing() -> None:
    found = changed(
        lambda contract: schema(contract, "Version")["properties"].update(x={"type": "string"})
    )
    assert found == {"GetVersion": Verdict.PARTIAL}


@pytest.mark.parametrize(
    "change",
    [
        lambda field: field.update(type="integer"),
        lambda field: field.pop("type"),
        lambda field: field.pop("format"),
    ],
)
def test_a_field_that_differs_is_wrong_wherever_it_is_used(
    change: Callable[[dict[str, Any]], object],
) -> None:
    found = changed(lambda contract: change(schema(contract, "Volume")["properties"]["size"]))
    used_by = ("CreateVolume", "GetVolume", "ListVolumes")
    assert found == {
        f"{name}{binding}": Verdict.WRONG for name in used_by for binding in ("", "_2")
    }


def test_an_enum_that_differs_is_wrong() -> None:
    found = changed(
        lambda contract: schema(contract, "DurosNodeInfo.State")["enum"].append("Tired")
    )
    assert found == {"ListNodes": Verdict.WRONG, "GetNode": Verdict.WRONG}


def test_required_errors_parameters_and_paths_are_compared() -> None:
    def change(contract: dict[str, Any]) -> None:
        item = contract["paths"][VOLUME]
        item["get"]["responses"]["418"] = {"description": "teapot"}
        item["put"]["parameters"].pop()
        item["delete"]["parameters"][2]["required"] = True
        contract["paths"]["/elsewhere"] = contract["paths"].pop("/api/v2/cluster")
        schema(contract, "CreateVolumeRequest")["required"].remove("size")

    assert changed(change) == {
        "GetVolume": Verdict.PARTIAL,
        "UpdateVolume": Verdict.WRONG,
        "DeleteVolume": Verdict.WRONG,
        "GetCluster": Verdict.WRONG,
        "CreateVolume_2": Verdict.WRONG,
    }


def test_operations_of_one_side_only() -> None:
    def change(contract: dict[str, Any]) -> None:
        contract["paths"].pop("/api/v2/version")
        contract["paths"]["/api/v2/hosts"] = {
            "get": {"operationId": "ListTrustedHosts", "responses": {}}
        }

    assert changed(change) == {"ListTrustedHosts": Verdict.ABSENT, "GetVersion": Verdict.WRONG}


def test_prose_is_no_fact() -> None:
    def change(contract: dict[str, Any]) -> None:
        schema(contract, "Volume")["properties"]["size"]["description"] = "bytes"
        contract["paths"][VOLUME]["get"]["responses"]["404"]["description"] = "other words"

    assert changed(change) == {}


def run(tmp_path: Path, contract: dict[str, Any], *options: str) -> int:
    file = tmp_path / "contract.json"
    file.write_text(json.dumps(contract))
    return parity.main([str(file), *options], tmp_path / "parity.json")


def test_the_exit_status_and_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contract = copy.deepcopy(OURS)
    contract["paths"]["/api/v2/hosts"] = {"get": {"operationId": "Other", "responses": {}}}
    assert run(tmp_path, contract) == 1
    assert "parity.json is not what was found" in capsys.readouterr().err
    assert run(tmp_path, contract, "--write") == 0
    assert run(tmp_path, contract) == 0
    assert "45 operations: 44 exact, 0 partial, 1 absent, 0 wrong" in capsys.readouterr().out
    schema(contract, "Version")["properties"]["apiVersion"]["type"] = "integer"
    assert run(tmp_path, contract) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "GetVersion contradicts reply 200 application/json.apiVersion type:" in printed
    assert "ours 'string', contract 'integer'" in printed


def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parity.main([])
    assert parity.main([str(tmp_path / "none.json")]) == 2
    assert "cannot read the contract" in capsys.readouterr().err


def test_what_is_kept_tells_of_every_operation_that_there_is() -> None:
    rows = json.loads(parity.KEPT.read_text())["operations"]
    served = {route.operation_id: f"{route.method} {route.path}" for route in routes.ROUTES}
    assert {r["operation"]: r["line"] for r in rows if r["parity"] != "absent"} == served
    assert len(rows) == 112


def test_what_is_kept_is_of_the_document_as_it_is() -> None:
    """Else compare it with the contract again, as `tests.contract.parity` tells."""
    assert json.loads(parity.KEPT.read_text())["document"] == parity.digest(OURS)
    contract = copy.deepcopy(OURS)
    schema(contract, "Volume")["properties"]["size"]["type"] = "integer"
    assert parity.digest(contract) != parity.digest(OURS)
