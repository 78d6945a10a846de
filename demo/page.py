# SPDX-License-Identifier: Apache-2.0
"""`make demo-page`: the page of the lab that `make demo KEEP=1` left running, in a real browser.

A node is stopped on the page, and the paths of the host change on it.
"""

from __future__ import annotations

import json
import sys

from rich.console import Console

from demo.scenario import STATE
from demo.steps import Steps
from lightos.cli.lab_folder import page_url
from lightos.lab.errors import LabError
from lightos.lab.state_folder import StateFolder
from testbed.browser import BrowserError, Page, running_browser

PICTURE = STATE / "page.png"
RECONNECTED_SECONDS = 120
USED = "#hosts .used"
USED_NODE = f"document.querySelector('{USED}')?.innerText.split('\\n')[0]"


def text(page: Page, selector: str) -> str:
    return str(page.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))


def wait_for(page: Page, selector: str, words: str) -> None:
    found = f"document.querySelector({json.dumps(selector)})?.innerText"
    page.wait(f"{found}?.includes({json.dumps(words)})")


def show(steps: Steps, page: Page) -> None:
    """Raises BrowserError for what is not seen on the page."""
    with steps.step("Open the lab's page") as step:
        page.wait("document.getElementById('live').textContent === 'live'")
        page.wait(f"{USED_NODE} !== undefined")
        first = text(page, USED).splitlines()[0]
        step.evidence = f"the host uses {first}"
    with steps.step(f"Stop {first} on the page") as step:
        page.click(f'button[aria-label="Stop {first}"]')
        wait_for(page, "#events", f"{first} is Inactive")
        wait_for(page, "#hosts .bad", f"{first}\nno path")
        page.wait(f"{USED_NODE} !== undefined && {USED_NODE} !== {json.dumps(first)}")
        second = text(page, USED).splitlines()[0]
        wait_for(page, "#events", f": {first} → {second}")
        page.screenshot(PICTURE, whole=True)
        step.evidence = f"the host uses {second}; {PICTURE}"
    with steps.step(f"Start {first} on the page") as step:
        page.click(f'button[aria-label="Start {first}"]')
        wait_for(page, "#events", f"{first} is Active")
        wait_for(page, "#summary .health", "OK")
        page.wait("document.querySelector('#hosts .bad') === null", RECONNECTED_SECONDS)
        page.wait(f"{USED_NODE} === {json.dumps(first)}", RECONNECTED_SECONDS)
        step.evidence = f"the host uses {first} again"


def main() -> int:
    folder = StateFolder(STATE / "lab")
    console = Console(highlight=False)
    try:
        url = page_url(folder.require_running(), folder)
        with running_browser() as browser:
            show(Steps(console), browser.open(url))
    except (LabError, BrowserError) as error:
        print(f"make demo-page: {error}; is `make demo KEEP=1` running?", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
