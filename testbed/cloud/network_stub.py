# SPDX-License-Identifier: Apache-2.0
"""A network service that has nothing: every list of the Networking API v2.0 is empty.

Nova asks the network service for an instance's ports even when it shall have none, and tempest
leaves out every test class that makes servers when the catalogue has no network service. It is
served like the real services, as the WSGI module that this is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from testbed.cloud.database import Schema
from testbed.cloud.deployment import Deployment, Endpoint
from testbed.cloud.service import wsgi_service
from testbed.kernel_image import CHECKOUT

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

_COLLECTION = re.compile(r"/v2\.0/([a-z-]+)(?:\.json)?")
_QUOTA = re.compile(r"/v2\.0/quotas/\w+")

NETWORK = Endpoint("network", ("network",), 9696)


class NetworkStub:
    """The network service, as a part of a cloud."""

    title = "Network service without networks"
    after: tuple[str, ...] = ()
    schemas: tuple[Schema, ...] = ()
    endpoints = (NETWORK,)
    users: tuple[str, ...] = ()

    def start(self, deployment: Deployment) -> None:
        self.api = wsgi_service(
            deployment,
            "network",
            __name__,
            NETWORK.port,
            environment={"PYTHONPATH": str(CHECKOUT)},
        )
        self.api.start()
        self.api.wait_listening(NETWORK.port)


def answer(method: str, path: str, base_url: str) -> tuple[HTTPStatus, dict[str, Any]]:
    """Status and body for a request."""
    path = path.rstrip("/")
    if method != "GET":
        return HTTPStatus.FORBIDDEN, _error("NotAuthorized", "this network service has nothing")
    if path == "":
        link = {"rel": "self", "href": f"{base_url}/v2.0/"}
        return HTTPStatus.OK, {"versions": [{"id": "v2.0", "status": "CURRENT", "links": [link]}]}
    if path == "/v2.0":
        return HTTPStatus.OK, {"resources": []}
    if _QUOTA.fullmatch(path):  # Nova asks whether a port would be allowed; -1 is no limit
        return HTTPStatus.OK, {"quota": {"port": -1}}
    if collection := _COLLECTION.fullmatch(path):
        return HTTPStatus.OK, {collection[1].replace("-", "_"): []}
    return HTTPStatus.NOT_FOUND, _error("NotFound", f"{path} could not be found")


def _error(kind: str, message: str) -> dict[str, Any]:
    return {"NeutronError": {"type": kind, "message": message, "detail": ""}}


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    status, body = answer(
        environ["REQUEST_METHOD"], environ["PATH_INFO"], f"http://{environ['HTTP_HOST']}"
    )
    content = json.dumps(body).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(content)))]
    start_response(f"{status.value} {status.phrase}", headers)
    return [content]
