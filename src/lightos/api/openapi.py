# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI 3.0.3 document of the operations and messages that this project knows.

Everything in it comes from the route table and from the field tables of the models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightos.api.models.failures import GatewayError
from lightos.api.routes import ROUTES, Route
from lightos.api.wire import Model, WireEnum

_COMPONENTS = "#/components"


def document() -> dict[str, Any]:
    """Return the document, ready for `json.dumps`."""
    schemas: dict[str, Any] = {}
    paths: dict[str, dict[str, Any]] = {}
    _collect(GatewayError, schemas)
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
        _collect(route.reply, schemas)
        if route.has_body:
            if _body_is_whole(route):
                _collect(route.request, schemas)
            else:
                _collect_fields(route.request, schemas)
    return {
        "openapi": "3.0.3",
        "info": {"title": "LightOS management API v2", "version": "2.0"},
        "servers": [
            {
                "url": "https://{host}:{port}",
                "variables": {"host": {"default": "localhost"}, "port": {"default": "443"}},
            }
        ],
        "security": [{"bearerJWT": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearerJWT": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
            },
            "parameters": {
                "IfMatch": {
                    "name": "If-Match",
                    "in": "header",
                    "required": False,
                    "schema": {"type": "string"},
                }
            },
            "responses": {"Error": _reply("any other failure", GatewayError)},
            "schemas": dict(sorted(schemas.items())),
        },
    }


def _collect(component: type[Model] | type[WireEnum], schemas: dict[str, Any]) -> None:
    """Add a component and all that it refers to."""
    if component.schema_name in schemas:
        return
    schemas[component.schema_name] = component.schema()
    if issubclass(component, Model):
        _collect_fields(component, schemas)


def _collect_fields(model: type[Model], schemas: dict[str, Any]) -> None:
    for row in model.wire_fields():
        if row.kind.nested is not None:
            _collect(row.kind.nested, schemas)


def _reply(description: str, model: type[Model]) -> dict[str, Any]:
    return {"description": description, "content": _json({"$ref": _ref(model)})}


def _ref(model: type[Model]) -> str:
    return f"{_COMPONENTS}/schemas/{model.schema_name}"


def _json(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _body_is_whole(route: Route[Any, Any]) -> bool:
    """Whether no field of the request travels in the path."""
    return not route.path_names


def _operation(route: Route[Any, Any]) -> dict[str, Any]:
    replies: dict[str, Any] = {"200": _reply("success", route.reply)}
    for status, meaning in sorted(route.errors.items()):
        replies[str(status)] = _reply(meaning, GatewayError)
    replies["default"] = {"$ref": f"{_COMPONENTS}/responses/Error"}
    operation: dict[str, Any] = {"operationId": route.operation_id, "tags": [route.tag]}
    if parameters := _parameters(route):
        operation["parameters"] = parameters
    if route.has_body:
        schema = (
            {"$ref": _ref(route.request)}
            if _body_is_whole(route)
            else route.request.schema(without=frozenset(route.path_names))
        )
        operation["requestBody"] = {"required": True, "content": _json(schema)}
    operation["responses"] = replies
    return operation


def _parameters(route: Route[Any, Any]) -> list[dict[str, Any]]:
    rows = {row.name: row for row in route.request.wire_fields()}
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": rows[name].schema}
        for name in route.path_names
    ]
    if not route.has_body:
        for name, row in rows.items():
            if name not in route.path_names:
                required = {"required": True} if row.required else {}
                parameters.append({"name": name, "in": "query", **required, "schema": row.schema})
    if route.if_match:
        parameters.append({"$ref": f"{_COMPONENTS}/parameters/IfMatch"})
    return parameters
