# SPDX-License-Identifier: Apache-2.0
"""`lightos lab seed` on a running lab."""

from __future__ import annotations

from pathlib import Path

from tests.contract.lab import POLICIES, PROJECT, Api, Lab, lightos

SEED = """\
projects:
  - {name: green, default_policy: gold}
policies:
  - {name: gold, iops: {read: 1000, write: 500}}
volumes:
  - {name: copy, size: 1 gib, snapshot: before, replicas: 2}
  - {name: data, size: 1 gib, replicas: 2, acl: [nqn.x:one]}
  - {name: theirs, project: green, size: 1 gib}
snapshots:
  - {name: before, volume: data}
  - {name: after, volume: copy}
"""


def seeded(lab: Lab, file: Path, text: str, *options: str) -> tuple[int, str]:
    file.write_text(text)
    done = lightos("lab", "seed", str(file), *options, check=False)
    return done.returncode, done.stdout + done.stderr


def test_seed_twice_and_with_changes(own_lab: Lab, tmp_path: Path) -> None:
    api, file = Api(own_lab), tmp_path / "seed.yaml"
    folder = f"--state-dir={own_lab.state_dir}"
    status, said = seeded(own_lab, file, SEED, folder)
    assert status == 0, said
    assert said.count(" is made") == 5
    volumes = {v["name"]: v for v in api.call("GET", "/api/v2/volumes")["volumes"]}
    assert volumes["copy"]["sourceSnapshotName"] == "before"
    assert volumes["theirs"]["qosPolicyName"] == "gold"
    assert {s["name"] for s in api.call("GET", f"{PROJECT}/snapshots")["snapshots"]} == {
        "before",
        "after",
    }
    status, said = seeded(own_lab, file, SEED, folder)
    assert (status, said) == (0, f"All of {file} is there.\n")
    again = {v["name"]: v for v in api.call("GET", "/api/v2/volumes")["volumes"]}
    assert again == volumes

    changed = SEED.replace("[nqn.x:one]", "[nqn.x:two, nqn.x:one]").replace("read: 1000", "read: 1")
    status, said = seeded(own_lab, file, changed.replace("copy, size: 1", "copy, size: 2"), folder)
    assert status == 0, said
    assert said.splitlines()[:-1] == [
        "QoS policy gold has other limits now",
        "volume data of project default is changed",
        "volume copy of project default is changed",
    ]
    again = {v["name"]: v for v in api.call("GET", "/api/v2/volumes")["volumes"]}
    assert set(again["data"]["acl"]["values"]) == {"nqn.x:one", "nqn.x:two"}
    assert again["copy"]["size"] == str(2 << 30)
    (policy,) = api.call("GET", POLICIES)["policies"]
    assert policy["QoSRateLimitPolicy"]["limitIOPS"]["readIOPSLimit"] == 256


def test_the_file_of_the_documentation(own_lab: Lab) -> None:
    file = Path(__file__).parents[2] / "docs" / "seed.yaml"
    done = lightos("lab", "seed", str(file), f"--state-dir={own_lab.state_dir}")
    assert done.stdout.endswith("is there.\n")
    volumes = Api(own_lab).call("GET", "/api/v2/projects/blue/volumes")["volumes"]
    assert {v["name"]: v["qosPolicyName"] for v in volumes} == {
        "data": "bulk",
        "data-copy": "silver",
    }


def test_what_cannot_be_is_told_with_its_line(lab: Lab, api: Api, tmp_path: Path) -> None:
    folder, file = f"--state-dir={lab.state_dir}", tmp_path / "seed.yaml"
    api.create_volume("data", replicaCount=3)
    for text, said in (
        ("volumes:\n  - {name: data, size: 1 gib, replicas: 1}", ":2: volume data of project"),
        ("volumes:\n  - {name: data, size: 4096}", ":2: volume data of project default is there"),
        ("volumes:\n  - {name: x, size: 1 gib, policy: none}", ":2: CreateVolume of volume x"),
        ("volumes:\n\n  - {name: x, size: 1 gib, project: red}", ":3: "),
        ("snapshots:\n  - {name: x, volume: none}", ":2: CreateSnapshot of snapshot x"),
        ("volumes:\n  - {name: x}", ":2: size is missing"),
        ("volumes:\n  - {name: data, size: 1 gib, sector_size: 512}", ":2: volume data of project"),
    ):
        status, told = seeded(lab, file, text, folder)
        assert status == 1
        assert f"{file}{said}" in told
        assert len(told.splitlines()) == 1


def test_another_cluster_has_to_be_named(lab: Lab, api: Api, tmp_path: Path) -> None:
    file, text = tmp_path / "seed.yaml", "volumes:\n  - {name: far, size: 1 gib}"
    there = [f"--cluster={address}" for address in lab.info["api_addresses"]]
    port, ca = f"--api-port={lab.info['api_port']}", f"--ca-file={lab.info['ca_file']}"
    assert seeded(lab, file, text, *there, port, ca)[0] == 2
    token = f"--jwt-file={lab.info['jwt_file']}"
    assert seeded(lab, file, text, token)[0] == 2
    status, said = seeded(lab, file, text, *there, port, ca, token)
    assert status == 0, said
    assert [v["name"] for v in api.call("GET", f"{PROJECT}/volumes")["volumes"]] == ["far"]


def test_what_another_cluster_has_is_changed_only_when_asked(own_lab: Lab, tmp_path: Path) -> None:
    lab, file = own_lab, tmp_path / "seed.yaml"
    there = [f"--cluster={address}" for address in lab.info["api_addresses"]]
    there += [f"--api-port={lab.info['api_port']}", f"--ca-file={lab.info['ca_file']}"]
    there += [f"--jwt-file={lab.info['jwt_file']}"]
    text = """\
policies: [{name: gold, iops: {read: 1000}}]
projects: [{name: green, default_policy: gold}]
volumes: [{name: data, size: 1 gib, project: green, acl: [nqn.x:one], policy: ""}]
"""
    assert seeded(lab, file, text, *there)[0] == 0
    assert seeded(lab, file, text, *there) == (0, f"All of {file} is there.\n")
    for old, new, said in (
        ("nqn.x:one", "nqn.x:two", ":3: volume data of project green is there and differs"),
        ("1 gib", "2 gib", ":3: volume data of project green is there and differs"),
        ("1000", "2000", ":1: QoS policy gold is there and differs"),
        ("_policy: gold", '_policy: ""', ":2: project green is there and differs"),
    ):
        status, told = seeded(lab, file, text.replace(old, new), *there)
        assert status == 1
        assert f"{file}{said} from the file: " in told
        assert "--change" in told
    assert seeded(lab, file, text, *there) == (0, f"All of {file} is there.\n")
    changed = text.replace("nqn.x:one", "nqn.x:two")
    status, told = seeded(lab, file, changed, *there, "--change")
    assert (status, "volume data of project green is changed" in told) == (0, True)
    assert seeded(lab, file, changed, "--change")[0] == 2


def test_snapshots_count_once_they_are_available(own_lab: Lab, tmp_path: Path) -> None:
    folder, file = f"--state-dir={own_lab.state_dir}", tmp_path / "seed.yaml"
    text = """\
volumes: [{name: data, size: 1 gib}]
snapshots: [{name: before, volume: data, retention_seconds: 3600}]
"""
    lightos("lab", "fault", "add", folder, "--operation=CreateSnapshot", "--end=Failed")
    for _ in range(2):  # as it is taken, and as it is found
        status, told = seeded(own_lab, file, text, folder)
        assert status == 1
        assert f"{file}:2: snapshot before of project default is Failed" in told
    other = text.replace("before", "after")
    assert seeded(own_lab, file, other, folder)[0] == 0
    status, told = seeded(own_lab, file, other.replace("3600", "60"), folder)
    assert (status, "with retention 1:00:00, not 0:01:00" in told) == (1, True)


def test_a_cluster_that_cannot_be_asked_is_told_in_one_line(lab: Lab, tmp_path: Path) -> None:
    file, empty = tmp_path / "seed.yaml", tmp_path / "empty"
    empty.touch()
    token, ca = f"--jwt-file={lab.info['jwt_file']}", f"--ca-file={lab.info['ca_file']}"
    for options, said in (
        (("--cluster=1.2.3", token, ca), "'1.2.3' is not an IP address or host name"),
        (("--cluster=127.0.0.1", token, f"--ca-file={empty}"), "cannot use the CA file"),
        (("--cluster=127.0.0.1", f"--jwt-file={empty}", ca), "does not hold one JWT"),
    ):
        status, told = seeded(lab, file, "volumes: [{name: a, size: 1 gib}]", *options)
        assert status == 2
        assert said in told
        assert "Traceback" not in told
