# SPDX-License-Identifier: Apache-2.0
"""A process with one of the two drivers: questions in on stdin, one JSON line out for each.

One driver per process, because Cinder's configuration and its services are global, and because
`LIGHTOS_OVERLAY=0` in the environment is what makes it cinder's own driver.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NoReturn


class DriverDied(RuntimeError):
    """The process ended by itself; says what it printed last."""


class DriverProcess:
    """The other end of `serve`, which `python -m MODULE` calls."""

    def __init__(self, module: str, *, incumbent: bool, inside: Sequence[str] = ()) -> None:
        """`inside` is a command that runs the rest of its command line."""
        environment = {name: text for name, text in os.environ.items() if name != "LIGHTOS_OVERLAY"}
        if incumbent:
            environment["LIGHTOS_OVERLAY"] = "0"
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - `end` closes it
        self._process = subprocess.Popen(
            [*inside, sys.executable, "-W", "ignore", "-m", module],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            bufsize=1,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def ask(self, question: Any) -> Any:
        """Put a question and wait for its answer. DriverDied."""
        self.tell(question)
        return self.answer()

    def tell(self, question: Any) -> None:
        """Put a question, whose `answer` is asked for later."""
        assert self._process.stdin is not None
        try:
            print(json.dumps(question), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise self._death() from None

    def answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._death()
        return json.loads(line)

    def _death(self) -> DriverDied:
        self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace")
        return DriverDied(f"the worker ended: {said[-500:]}")

    def end(self) -> None:
        """Close its stdin, which ends it, and wait."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()


def is_incumbent() -> bool:
    """Whether this process has cinder's own driver."""
    return os.environ.get("LIGHTOS_OVERLAY") == "0"


def serve(answering: AbstractContextManager[Callable[[Any], Any]]) -> NoReturn:
    """Answer what comes on stdin until it is closed, then end the process."""
    # Cinder prints to stdout here and there; what we say goes to the pipe it was.
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with answering as answer:
        for line in sys.stdin:
            print(json.dumps(answer(json.loads(line))), file=replies)
    replies.close()
    os._exit(0)  # Cinder's threads would keep the process
