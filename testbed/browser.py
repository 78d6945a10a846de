# SPDX-License-Identifier: Apache-2.0
"""Chromium without a screen, by its own remote debugging protocol over a pipe.

A pipe needs neither a port nor a driver program: messages are JSON with a zero byte after each.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from testbed.polling import wait_until

CHROMIUM = "chromium"
ANSWER_SECONDS = 60
POLL_SECONDS = 0.05


class BrowserError(Exception):
    """The browser, or a script in its page, did not do what it was asked."""


class Browser:
    """A running Chromium; `running_browser` starts and ends it."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._received = bytearray()
        self._ids = itertools.count(1)

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol and its result. Raises BrowserError."""
        number = next(self._ids)
        message = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != number:
            pass
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error'].get('message')}")
        result: dict[str, Any] = answer["result"]
        return result

    def _receive(self) -> dict[str, Any]:
        while (end := self._received.find(b"\0")) < 0:
            if not select.select([self._from], [], [], ANSWER_SECONDS)[0]:
                raise BrowserError(f"the browser did not answer within {ANSWER_SECONDS} s")
            if not (more := os.read(self._from, 1 << 16)):
                raise BrowserError("the browser has ended")
            self._received += more
        message: dict[str, Any] = json.loads(self._received[:end])
        del self._received[: end + 1]
        return message

    def open(self, url: str, *, width: int = 1440, height: int = 900, dark: bool = False) -> Page:
        """A page in a window of its own, of so many CSS pixels."""
        target = self.call("Target.createTarget", url="about:blank", newWindow=True)["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        page = Page(self, attached["sessionId"])
        page.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.call("Emulation.setEmulatedMedia", features=[scheme])
        page.call("Page.navigate", url=url)
        page.wait("document.readyState === 'complete'")
        return page


class Page:
    """One page; scripts are JavaScript expressions that run in it."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def run(self, script: str) -> Any:
        """The value of a script, of its promise if it is one. Raises BrowserError if it throws."""
        done = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in done:
            details = done["exceptionDetails"]
            text = details.get("exception", {}).get("description", details.get("text"))
            raise BrowserError(f"{script}: {text}")
        return done["result"].get("value")

    def wait(self, script: str, seconds: float = ANSWER_SECONDS) -> None:
        """Return once a script is true. Raises BrowserError, with what the page says, if never."""
        try:
            wait_until(lambda: self.run(script), script, seconds, pause=POLL_SECONDS)
        except TimeoutError as error:
            raise BrowserError(f"{error}\n{self.run('document.body.innerText')}") from None

    def click(self, selector: str) -> None:
        """Click in the middle of an element, as a mouse does; what is covered is not hit."""
        x, y = self.run(
            f"(() => {{ const element = document.querySelector({json.dumps(selector)});"
            "element.scrollIntoView({block: 'center'});"
            "const box = element.getBoundingClientRect();"
            "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """A picture of what is seen, or of the whole page."""
        taken = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(taken["data"]))


@contextmanager
def running_browser() -> Iterator[Browser]:
    """A Chromium with a profile of its own, that ends with the block."""
    to_browser, to_us = os.pipe(), os.pipe()
    # Its helpers may write there for a moment yet when they are killed.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [
            CHROMIUM,
            "--headless",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--no-first-run",
            *(["--no-sandbox"] if os.geteuid() == 0 else []),  # it refuses to run as root else
        ]
        # The protocol is spoken on descriptors 3 and 4.
        shell = f"exec {shlex.join(command)} 3<&{to_browser[0]} 4>&{to_us[1]}"
        process = subprocess.Popen(
            ["bash", "-c", shell],
            pass_fds=(to_browser[0], to_us[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_browser[0])
        os.close(to_us[1])
        try:
            yield Browser(to_browser[1], to_us[0])
        finally:
            os.close(to_browser[1])
            os.close(to_us[0])
            process.terminate()
            process.wait()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
