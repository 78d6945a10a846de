# SPDX-License-Identifier: Apache-2.0
"""What is in a release, and under which version."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from lightos.discovery.config import load
from release import CHECKOUT
from release.__main__ import Release
from release.debian import debian_version


def tracked(folder: str = "") -> set[str]:
    """Files of the commit, and those that are to be."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", f"./{folder}"],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
        text=True,
    )
    return {name for name in listed.stdout.splitlines() if (CHECKOUT / name).exists()}


def metadata(wheel: Path) -> dict[str, list[str]]:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        message = message_from_bytes(archive.read(name))
    return {key: message.get_all(key) or [] for key in set(message.keys())}


def test_the_wheel_has_every_file_of_the_package_and_no_others(release: Release) -> None:
    with zipfile.ZipFile(release.wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (licence,) = (name for name in archive.namelist() if name.endswith("licenses/LICENSE"))
        assert archive.read(licence) == (CHECKOUT / "LICENSE").read_bytes()
    package = {name.removeprefix("src/") for name in tracked("src")}
    assert names == package | {"lightos_overlay.pth"}
    assert any(name.endswith("page.js") for name in names), "data files are among them"


def test_the_sdist_is_the_checkout(release: Release) -> None:
    with tarfile.open(release.sdist) as archive:
        names = {each.name.partition("/")[2] for each in archive.getmembers() if each.isfile()}
    assert names == tracked() | {"PKG-INFO"}


def test_the_sbom_lists_what_the_wheel_and_the_debian_package_bring(
    release: Release, tmp_path: Path
) -> None:
    text = release.sbom.read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    (version,) = metadata(release.wheel)["Version"]
    own = bill["metadata"]["component"]
    assert (own["name"], own["version"]) == ("lightos-openstack", version)
    components = {each["purl"] for each in bill["components"]}
    assert all(each["licenses"] for each in bill["components"])
    listed = {re.sub(r"[-_.]+", "-", each["name"]).lower() for each in bill["components"]}
    needed = metadata(release.wheel)["Requires-Dist"]
    direct = {re.split(r"[^\w-]", each)[0].lower() for each in needed if "extra ==" not in each}
    assert direct <= listed

    subprocess.run(["dpkg-deb", "-x", release.debian, tmp_path], check=True)
    folders = tmp_path.glob("usr/lib/lightos-discovery-client/*.dist-info")
    bundled = [folder.name.removesuffix(".dist-info").rsplit("-", 1) for folder in folders]
    assert components == {
        f"pkg:pypi/{name.replace('_', '-').lower()}@{version}"
        for name, version in bundled
        if name != "lightos_openstack"
    }


def test_the_settings_that_the_debian_package_suggests_exist(tmp_path: Path) -> None:
    text = (CHECKOUT / "release/debian/discovery-client.yaml").read_text()
    suggested = text.partition("\n#\n")[2].replace("# ", "")
    assert "\nctrlLossTMO: " in suggested
    path = tmp_path / "settings.yaml"
    path.write_text(suggested)
    assert load(path, {}).ignored_keys == ()


@pytest.mark.parametrize(
    ("what", "version"),
    [
        ("tag", r"9\.8\.7"),
        ("commit after a tag", r"9\.8\.8\.dev1\+g[0-9a-f]+"),
        ("no tag", r"0\.1\.dev[0-9]+\+g[0-9a-f]+"),
        ("no repository", r"0\.1\.dev0"),
    ],
)
def test_the_version_is_that_of_the_tag(what: str, version: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    author = ["-c", "user.name=test", "-c", "user.email=test@localhost"]

    def git(*arguments: str) -> None:
        subprocess.run(["git", *author, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("clone", "--quiet", "--no-tags", str(CHECKOUT), str(copy))
    if "a tag" in what or what == "tag":
        git("-C", "copy", "tag", "v9.8.7")
    if what == "commit after a tag":
        git("-C", "copy", "commit", "--quiet", "--allow-empty", "--message", "later")
    if what == "no repository":
        shutil.rmtree(copy / ".git")
    command = [sys.executable, "-W", "ignore", "-m", "hatchling", "version"]
    said = subprocess.run(command, cwd=copy, check=True, capture_output=True, text=True)
    assert re.fullmatch(version, said.stdout.strip())


def test_a_release_is_made_in_no_folder_that_holds_something_else(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    command = [sys.executable, "-m", "release", str(tmp_path)]
    assert subprocess.run(command, cwd=CHECKOUT, check=False, capture_output=True).returncode == 2
    assert (tmp_path / "file").exists()


def test_debian_sorts_versions_as_python_does() -> None:
    ascending = [
        *("0.1.dev1+g0", "0.1.dev2", "0.1a1.dev1", "0.1a1", "0.1b1", "0.1rc1", "0.1rc2", "0.1"),
        *("0.1.post1", "0.1.1.dev3+g5", "0.1.1", "0.2", "0.10"),
    ]
    for earlier, later in itertools.pairwise(debian_version(v, "debian12") for v in ascending):
        subprocess.run(["dpkg", "--compare-versions", earlier, "lt", later], check=True)
    newer = [debian_version("0.1", each) for each in ("debian12", "debian13")]
    subprocess.run(["dpkg", "--compare-versions", newer[0], "lt", newer[1]], check=True)
