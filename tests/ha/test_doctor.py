# SPDX-License-Identifier: Apache-2.0
"""`lightos doctor` on the configuration of a cinder-volume of many: MariaDB, and etcd or Redis."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from testbed.cluster import LIGHTOS
from tests.ha.bench import Bench


def doctor(conf: Path) -> tuple[int, dict[str, tuple[str, str]], str]:
    """Exit status, severity and words of the last finding of each check, and all its output."""
    command = [LIGHTOS, "doctor", "--cinder-conf", conf, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)["findings"]
    words = {
        each["check"]: (each["severity"], f"{each['subject']}: {each['said']}") for each in found
    }
    return done.returncode, words, done.stdout + done.stderr


def test_the_doctor_reads_the_database_and_asks_the_lock_manager(bench: Bench) -> None:
    cinder = bench.cinder
    conf = cinder.deployment.configuration(f"cinder-{cinder.hosts[0]}") / "cinder.conf"
    status, found, output = doctor(conf)
    assert status == 0, output
    severity, said = found["lock-manager"]
    assert (severity, said.endswith("it answers; cluster ha")) == ("ok", True), said
    assert found["host-nqn"][0] == "ok"

    cinder.lock_manager.service.kill()
    try:
        status, found, away = doctor(conf)
    finally:
        cinder.lock_manager.start()
    assert status == 2
    assert [check for check, (severity, _) in found.items() if severity != "ok"] == ["lock-manager"]
    for secret in ("redis", "cinder"):
        assert cinder.deployment.password(secret) not in output + away
