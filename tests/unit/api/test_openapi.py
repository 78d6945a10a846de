# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema

from lightos.api import openapi
from lightos.api.routes import ROUTES

DOCUMENT = openapi.document()


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_it_is_json() -> None:
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT


def test_every_reference_resolves_and_every_schema_is_used() -> None:
    found = set(references(DOCUMENT))
    for reference in found:
        target = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]
    used = {name.rpartition("/")[2] for name in found if "/schemas/" in name}
    assert used == set(DOCUMENT["components"]["schemas"])


def test_every_route_is_described_once() -> None:
    described = {
        (method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item
    }
    assert described == {(route.method, route.path) for route in ROUTES}


def test_every_schema_is_a_valid_schema() -> None:
    # OpenAPI 3.0 schemas are JSON Schema draft 4 but for keywords not used here.
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema.Draft4Validator.check_schema(schema)


def test_fields_of_the_path_are_not_in_the_body() -> None:
    body = DOCUMENT["paths"]["/api/v2/volumes/{UUID}"]["put"]["requestBody"]
    schema = body["content"]["application/json"]["schema"]
    assert "UUID" not in schema["properties"]
    assert schema["required"] == ["projectName"]
