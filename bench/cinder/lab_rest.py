# SPDX-License-Identifier: Apache-2.0
"""How many calls a second the lab itself serves: what it can do is not what a driver can."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.cinder.load import Load
from bench.cinder.side import lab
from bench.part import Goal, Grid, Note, Part, Result, at_least, number
from testbed.cluster import PROJECT, Cluster

SECONDS = 10
CONNECTIONS = (1, 16, 64)
GETS_PER_SECOND = 2000


def measure(note: Note) -> Result:
    rows = []
    with lab(0.05) as on:
        uuid = Cluster(on.info).request("POST", f"/projects/{PROJECT}/volumes", VOLUME)["UUID"]
        for connections in CONNECTIONS:
            note(f"{connections} connections")
            load = Load(
                addresses=on.info["api_addresses"],
                port=on.info["api_port"],
                token=Path(on.info["jwt_file"]).read_text().strip(),
                path=f"/api/v2/projects/{PROJECT}/volumes/{uuid}",
                connections=connections,
                seconds=SECONDS,
            )
            rows.append({"connections": connections, **figures(load)})
    return {"lab_rest": rows}


VOLUME = {"name": "a", "size": "1 gib", "replicaCount": 3, "acl": {"values": ["ALLOW_NONE"]}}


def figures(load: Load) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.cinder.load"],
        input=json.dumps(asdict(load)),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def goals(result: Result) -> list[Goal]:
    best = max(row["per_second"] for row in result["lab_rest"])
    return [at_least("the lab: GETs per second", best, GETS_PER_SECOND, "/s")]


def grids(result: Result) -> list[Grid]:
    head = ["connections", "GETs per second", "p50 ms", "p99 ms"]
    rows = [
        [
            str(row["connections"]),
            f"{row['per_second']:,.0f}",
            *(number(row[name] * 1000) for name in ("p50_s", "p99_s")),
        ]
        for row in result["lab_rest"]
    ]
    return [Grid("The lab's REST server: GetVolume over keep-alive TLS", head, rows, 0)]


PART = Part("lab-rest", "how much the lab's own REST server can do", 0.7, measure, goals, grids)
