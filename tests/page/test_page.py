# SPDX-License-Identifier: Apache-2.0
"""The lab's web page in a real browser: what it shows, and what it changes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from testbed.browser import Page
from tests.contract.lab import PROJECT, Api
from tests.page.conftest import NAME, LabPage

WINDOWS = [{"width": 1440, "height": 900}, {"width": 390, "height": 844}]


def text(page: Page, selector: str) -> str:
    return str(page.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))


def wait_for(page: Page, selector: str, words: str) -> None:
    found = f"document.querySelector({json.dumps(selector)})?.innerText"
    page.wait(f"{found}?.includes({json.dumps(words)})")


def test_it_shows_nodes_volumes_hosts_and_events(lab_page: LabPage) -> None:
    page = lab_page.open()
    shown = text(page, "#nodes")
    for node in lab_page.lab.info["nodes"]:
        assert node["name"] in shown
        assert node["address"] in shown
    row = f"#volume-{lab_page.volume['UUID']}"
    assert text(page, f"{row} th span") == NAME
    assert text(page, f"{row} .primary") == lab_page.primary
    assert page.run(f"document.querySelectorAll('{row} .replicas span').length") == 3
    assert text(page, "#hosts .used") == f"{lab_page.primary}\n1 volume"
    assert page.run("document.querySelectorAll('#hosts .standby').length") == 2
    assert f"{NAME} is made: 1 GiB, 3 replicas" in text(page, "#events")


def test_a_node_stopped_and_started_on_the_page(lab_page: LabPage) -> None:
    """The services of the node end, the primary and the hosts' paths move, and all is told."""
    page, name = lab_page.open(), lab_page.primary
    page.click(f'button[aria-label="Stop {name}"]')
    wait_for(page, "#events", f"{name} is Inactive")
    wait_for(page, "#summary .health", "Warning")
    wait_for(page, f"#volume-{lab_page.volume['UUID']}", "Degraded")
    wait_for(page, "#hosts .bad", f"{name}\nno path")
    second = text(page, f"#volume-{lab_page.volume['UUID']} .primary")
    assert second != name
    assert text(page, "#hosts .used") == f"{second}\n1 volume"
    assert f"primary of {NAME}: {name} → {second}" in text(page, "#events")
    lab_page.paths[second].write(lab_page.volume["nsid"], 0, bytes(4096))
    page.click(f'button[aria-label="Start {name}"]')
    wait_for(page, "#events", f"{name} is Active")
    wait_for(page, "#summary .health", "OK")


def test_a_fault_is_switched_on_and_off(lab_page: LabPage) -> None:
    page, name = lab_page.open(), lab_page.primary
    (uuid,) = (n["uuid"] for n in lab_page.lab.info["nodes"] if n["name"] == name)
    demote = f"#node-{uuid} .toggle[title^='Leaves']"
    page.click(demote)
    page.wait(f"document.querySelector({json.dumps(demote)}).ariaChecked === 'true'")
    wait_for(page, "#events", f"primary of {NAME}: {name} →")
    page.click(demote)
    page.wait(f"document.querySelector({json.dumps(demote)}).ariaChecked === 'false'")
    page.wait(f"document.querySelector('.replicas .primary').innerText === '{name}'")


def test_faults_of_the_api_and_rules_from_elsewhere(lab_page: LabPage) -> None:
    page = lab_page.open()
    page.click("#faults .toggle[title*='503']")
    page.wait("document.querySelector('#faults .toggle').ariaChecked === 'true'")
    page.click("#faults .toggle[title*='503']")
    page.wait("document.querySelector('#faults .toggle').ariaChecked === 'false'")
    rule = {"operation": "UpdateVolume", "stale_etag": True}
    assert Api(lab_page.lab).raw("POST", "/lab/v1/faults", rule).status_code == 200
    wait_for(page, "#faults .rules", "operation UpdateVolume")
    page.click("#faults .rules button")
    page.wait("!document.querySelector('#faults .rules')")


def test_what_hosts_read_and_write_is_seen(lab_page: LabPage) -> None:
    page = lab_page.open()
    path, nsid = lab_page.paths[lab_page.primary], lab_page.volume["nsid"]
    for _ in range(200):  # for as long as the page may take to ask twice
        for block in range(20):
            path.write(nsid, block, bytes(4096))
        if page.run("document.querySelector('td.write') !== null"):
            break
    assert text(page, "td.write").endswith("B/s")


@pytest.mark.parametrize("window", WINDOWS)
def test_nothing_is_wider_than_the_window(lab_page: LabPage, window: dict[str, Any]) -> None:
    page = lab_page.open(**window)
    assert page.run("document.documentElement.scrollWidth") <= window["width"]


def test_names_are_never_markup(lab_page: LabPage) -> None:
    """Host NQNs take any printable character."""
    page = lab_page.open()
    nqn = "nqn.x:<img src=x onerror=alert(1)>"
    volume = f"{PROJECT}/volumes/{lab_page.volume['UUID']}"
    Api(lab_page.lab).call("PUT", volume, {"acl": {"values": [nqn]}})
    wait_for(page, "#events", f"{NAME} admits {nqn}")
    assert page.run("document.querySelectorAll('#events img').length") == 0


def test_without_the_key_it_says_what_to_do(lab_page: LabPage) -> None:
    page = lab_page.browser.open(lab_page.url.partition("#")[0])
    wait_for(page, "#problem", "lightos lab status")
    assert page.run("document.querySelector('main').hidden")


def test_the_key_does_not_stay_in_the_address(lab_page: LabPage) -> None:
    assert lab_page.open().run("location.hash") == ""
