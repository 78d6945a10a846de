# SPDX-License-Identifier: Apache-2.0
"""A lab cluster in a process of its own, and a client that checks every reply it gets.

The client is `requests` and the JSON as it comes: nothing of ours stands between the test and
the wire. Every reply must fit the OpenAPI document that the lab itself serves.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import jsonschema
import requests

from testbed.cluster import LIGHTOS, free_port, loopback_addresses

PROJECT = "/api/v2/projects/default"
POLICIES = "/api/v2/policies"
TIMEOUT_SECONDS = 10
SETTLE_SECONDS = 20


def lightos(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [LIGHTOS, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    if check:
        assert done.returncode == 0, done.stderr
    return done


class Lab:
    """`lightos lab` on a state folder."""

    def __init__(self, state_dir: Path, transition_ms: int = 50) -> None:
        self.state_dir = state_dir
        self.options = [
            f"--state-dir={state_dir}",
            f"--addresses={','.join(loopback_addresses(3))}",
            f"--api-port={free_port()}",
            f"--transition-ms={transition_ms}",
            "--projects=blue",
        ]
        self.info: dict[str, Any] = {}

    def start(self) -> None:
        lightos("lab", "up", "--detach", *self.options)
        self.info = json.loads((self.state_dir / "lab.json").read_text())

    def stop(self) -> None:
        lightos("lab", "down", f"--state-dir={self.state_dir}")

    def kill(self) -> None:
        """End it as a power switch does, and wait until the kernel has cleaned up."""
        process = os.pidfd_open(self.info["pid"])
        signal.pidfd_send_signal(process, signal.SIGKILL)
        assert select.select([process], [], [], TIMEOUT_SECONDS)[0], "the lab does not end"
        os.close(process)

    def token(self, project: str = "system", *options: str) -> str:
        command = ["lab", "token", f"--state-dir={self.state_dir}", f"--project={project}"]
        return lightos(*command, *options).stdout.strip()

    def node(self, verb: str, name: str) -> None:
        lightos("lab", "node", verb, name, f"--state-dir={self.state_dir}")


class Api:
    """Plain HTTPS to one node; `call` fails for a reply that breaks the contract."""

    def __init__(
        self,
        lab: Lab,
        node: int = 0,
        token: str | None = None,
        info: Mapping[str, Any] | None = None,
    ) -> None:
        """`info` is the lab.json of a lab whose nodes changed since its start."""
        info = info or lab.info
        self._base = f"https://{info['api_addresses'][node]}:{info['api_port']}"
        self._session = requests.Session()
        # Else REQUESTS_CA_BUNDLE, where it is set, would win over the lab's own authority.
        self._session.trust_env = False
        self._session.verify = lab.info["ca_file"]
        self.token = token or Path(lab.info["jwt_file"]).read_text().strip()

    @cached_property
    def document(self) -> dict[str, Any]:
        reply = self._session.get(f"{self._base}/api/v2/openapi.json", timeout=TIMEOUT_SECONDS)
        reply.raise_for_status()
        document: dict[str, Any] = reply.json()
        return document

    def raw(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str | None] | None = None,
        timeout: float = TIMEOUT_SECONDS,
    ) -> requests.Response:
        data = body if isinstance(body, str | None) else json.dumps(body)
        sent = {"Authorization": f"Bearer {self.token}", **(headers or {})}
        return self._session.request(
            method,
            self._base + path,
            data=data,
            headers={name: value for name, value in sent.items() if value is not None},
            timeout=timeout,
        )

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        status: int = 200,
        **headers: str | None,
    ) -> dict[str, Any]:
        """Make a call, check status and schema, return the reply."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        reply = self.raw(method, path, body, names)
        assert reply.status_code == status, f"{reply.status_code}: {reply.text}"
        assert reply.headers["Content-Type"] == "application/json"
        message: dict[str, Any] = reply.json()
        self._check(method, path.partition("?")[0], status, message)
        return message

    def _check(self, method: str, path: str, status: int, message: dict[str, Any]) -> None:
        responses = self._operation(method, path)["responses"]
        assert str(status) in responses or "default" in responses
        response = responses.get(str(status), responses.get("default"))
        if "$ref" in response:
            response = self.document["components"]["responses"][response["$ref"].split("/")[-1]]
        schema = response["content"]["application/json"]["schema"]
        whole = {"components": closed(self.document["components"]), "allOf": [schema]}
        jsonschema.Draft4Validator(
            whole, format_checker=jsonschema.Draft4Validator.FORMAT_CHECKER
        ).validate(message)
        if status != 200:
            assert set(message) == {"error", "code", "message"}
            assert message["error"] == message["message"]

    def _operation(self, method: str, path: str) -> dict[str, Any]:
        for template, operations in self.document["paths"].items():
            pattern = re.sub(r"\{\w+\}", "[^/]*", template)
            if re.fullmatch(pattern, path) and method.lower() in operations:
                operation: dict[str, Any] = operations[method.lower()]
                return operation
        raise AssertionError(f"the document has no {method} {path}")

    def create_volume(self, name: str, **asked: object) -> dict[str, Any]:
        body = {
            "name": name,
            "size": "1 gib",
            "replicaCount": 3,
            "acl": {"values": ["ALLOW_NONE"]},
            **asked,
        }
        made = self.call("POST", f"{PROJECT}/volumes", body)
        assert made["state"] == "Creating"
        return self.settled("volumes", made["UUID"])

    def create_snapshot(self, name: str, volume: str) -> dict[str, Any]:
        body = {"name": name, "sourceVolumeUUID": volume}
        made = self.call("POST", f"{PROJECT}/snapshots", body)
        assert made["state"] == "Creating"
        return self.settled("snapshots", made["UUID"])

    def settled(self, kind: str, uuid: str) -> dict[str, Any]:
        """The object once it is in a steady state."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            found = self.call("GET", f"{PROJECT}/{kind}/{uuid}")
            if found["state"] in ("Available", "Failed"):
                return found
            assert time.monotonic() < deadline, found
            time.sleep(0.01)

    def gone(self, kind: str, uuid: str) -> None:
        """Wait until the object answers 404."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while (reply := self.raw("GET", f"{PROJECT}/{kind}/{uuid}")).status_code != 404:
            assert reply.json()["state"] == "Deleting"
            assert time.monotonic() < deadline, reply.text
            time.sleep(0.01)

    def delete_everything(self) -> None:
        """Delete volumes and snapshots of the default project, and all policies."""
        for kind in ("volumes", "snapshots"):
            found = self.call("GET", f"{PROJECT}/{kind}").get(kind, [])
            for each in found:
                self.settled(kind, each["UUID"])
                self.call("DELETE", f"{PROJECT}/{kind}/{each['UUID']}")
            for each in found:
                self.gone(kind, each["UUID"])
        for policy in self.call("GET", POLICIES).get("policies", []):
            self.call("DELETE", f"{POLICIES}/{policy['UUID']}")


def closed(components: Any) -> Any:
    """The schemas with no room for fields they do not name, so that a slip cannot hide."""
    if isinstance(components, list):
        return [closed(item) for item in components]
    if not isinstance(components, dict):
        return components
    copy = {key: closed(value) for key, value in components.items()}
    if copy.get("type") == "object" and isinstance(copy.get("properties", {}), dict):
        copy.setdefault("additionalProperties", False)
    return copy
