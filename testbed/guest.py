# SPDX-License-Identifier: Apache-2.0
"""What every test host has in common: a Linux of its own on the machine's files, and its agent.

    host.warm_up()                                     # imports os-brick in background
    host.run(["nvme", "list"]).stdout                  # waits; non-zero raises
    fio = host.popen(["fio", "--name=x", "..."])       # in background
    fio.wait(timeout_seconds=60).stdout
    host.call("tests.kernel.guest_side.some_function", 1, key="value")   # JSON both ways
    host.write_file("/etc/discovery-client/discovery.d/x.conf", b"...")

The guest's root is the machine's `/` read-only with a file system in memory on top, so it sees
the checkout and the virtualenv under the same paths; changes made inside vanish with it.
`kernel_host.KernelHost` is one in QEMU, `uml_host.UmlHost` one in user-mode Linux.
"""

from __future__ import annotations

import abc
import base64
import contextlib
import json
import os
import queue
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from testbed.kernel_image import CHECKOUT
from testbed.life import Life
from testbed.network import HOST_ADDRESSES, PREFIX_LENGTH, Network

OS_BRICK = "os_brick.initiator.connector"
_EXIT_SECONDS = 10.0
_CONSOLE_LINES = 40
_TERMINAL_CODES = re.compile(r"\x1bc|\x1b\[[?0-9;]*[A-Za-z]")


class GuestError(Exception):
    """Base of what goes wrong with a guest."""


class GuestDied(GuestError):
    """The guest did not come up, or is gone; ends with the last lines of its console."""


class GuestTimeout(GuestError):
    """The guest did not answer in time; a command that ran too long has been killed."""


class GuestCommandFailed(GuestError):
    """A command in the guest returned non-zero; `completed` holds its output."""

    def __init__(self, host: str, completed: subprocess.CompletedProcess[str]) -> None:
        output = (completed.stderr.strip() or completed.stdout.strip())[-2000:]
        command = shlex.join(completed.args)
        super().__init__(f"{host}: `{command}` returned {completed.returncode}: {output}")
        self.completed = completed


class GuestCallFailed(GuestError):
    """A call in the guest raised; `type_name` is the exception's class name over there."""

    def __init__(self, host: str, request: str, error: dict[str, str]) -> None:
        super().__init__(f"{host}: {request} raised {error['type']}: {error['message']}")
        self.type_name = error["type"]
        self.add_note(f"in the guest:\n{error['traceback']}")


class Agent:
    """Our end of the agent's port: requests out, events to whoever waits for their id."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._send_lock = threading.Lock()
        self._waiting: dict[str, queue.SimpleQueue[dict[str, Any] | None]] = {}
        self._gone = False
        threading.Thread(target=self._receive, daemon=True, name="guest-agent").start()

    def send(self, op: str, **arguments: Any) -> tuple[str, queue.SimpleQueue[Any]]:
        """Send a request; its events arrive in the queue, `None` when the guest is gone."""
        request_id = uuid.uuid4().hex[:12]
        events: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._waiting[request_id] = events
        data = json.dumps({"id": request_id, "op": op, **arguments}).encode() + b"\n"
        try:
            with self._send_lock:
                self._socket.sendall(data)
        except OSError:
            events.put(None)
        if self._gone:
            events.put(None)
        return request_id, events

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _receive(self) -> None:
        with contextlib.suppress(OSError), self._socket.makefile("rb") as stream:
            for line in stream:
                event = json.loads(line)
                if (waiting := self._waiting.get(event["id"])) is None:
                    continue  # of an earlier client of the same guest
                if event["event"] != "output":
                    del self._waiting[event["id"]]
                waiting.put(event)
        self._gone = True
        for waiting in list(self._waiting.values()):
            waiting.put(None)


class GuestProcess:
    """A command that runs in the guest."""

    def __init__(self, host: Guest, argv: Sequence[str], **options: Any) -> None:
        self.argv = list(argv)
        self._host = host
        self._output: dict[str, bytes] = {"stdout": b"", "stderr": b""}
        self._return_code: int | None = None
        self._id, self._events = host.agent.send("run", argv=self.argv, **options)

    @property
    def stdout(self) -> str:
        """What it has printed so far."""
        self.poll()
        return self._output["stdout"].decode(errors="replace")

    @property
    def stderr(self) -> str:
        self.poll()
        return self._output["stderr"].decode(errors="replace")

    def poll(self) -> int | None:
        """The return code, or None while it runs."""
        with contextlib.suppress(queue.Empty):
            while self._return_code is None:
                self._take(self._events.get_nowait())
        return self._return_code

    def wait(
        self, timeout_seconds: float = 120, *, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Wait for its end. Raises `GuestTimeout` (it is killed), `GuestCommandFailed`."""
        give_up_at = time.monotonic() + timeout_seconds
        while self._return_code is None:
            try:
                self._take(self._events.get(timeout=max(0.0, give_up_at - time.monotonic())))
            except queue.Empty:
                self.signal(signal.SIGKILL)
                raise GuestTimeout(
                    f"{self._host.name}: `{shlex.join(self.argv)}` did not end in "
                    f"{timeout_seconds:.0f} s; it printed: {(self.stdout + self.stderr)[-1000:]}"
                ) from None
        completed = subprocess.CompletedProcess(
            self.argv, self._return_code, self.stdout, self.stderr
        )
        if check and completed.returncode:
            raise GuestCommandFailed(self._host.name, completed)
        return completed

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Signal the command and its children; one that has ended is left alone."""
        self._host.request("signal", target=self._id, number=int(number))

    def _take(self, event: dict[str, Any] | None) -> None:
        if event is None:
            raise self._host.died(f"while it ran `{shlex.join(self.argv)}`")
        if event["event"] == "output":
            self._output[event["stream"]] += base64.b64decode(event["data"])
        elif event["event"] == "result":
            self._return_code = event["value"]
        else:
            raise GuestCallFailed(self._host.name, f"`{shlex.join(self.argv)}`", event)


@dataclass
class Guest(Life):
    """One guest, on its own TAP in `network`, with a host NQN and host id of its own."""

    network: Network
    name: str = "host1"
    address: str = HOST_ADDRESSES[0]
    memory_mib: int = 768
    boot_seconds: float = 120.0
    """How long the guest may take from power-on to a ready agent."""
    _agent: Agent | None = field(default=None, init=False, repr=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    @property
    def host_id(self) -> str:
        """Stable for a name, so that a guest that comes back is the same NVMe host."""
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{self.name}.testbed.lightos"))

    @property
    def host_nqn(self) -> str:
        return f"nqn.2014-08.org.nvmexpress:uuid:{self.host_id}"

    @property
    def mac(self) -> str:
        octets = [int(octet) for octet in self.address.split(".")]
        return "52:54:" + ":".join(f"{octet:02x}" for octet in octets)

    @property
    def console(self) -> Path:
        """Log of the guest's console."""
        return self.folder / "console.log"

    @property
    def folder(self) -> Path:
        """The guest's own run folder."""
        return self.network.run_folder / self.name

    @property
    def tap(self) -> str:
        return f"tap-{self.name}"

    @property
    def agent(self) -> Agent:
        if self._agent is None:
            raise GuestError(f"{self.name} is not started")
        return self._agent

    # -------------------------------------------------------------- what the kinds differ in

    @abc.abstractmethod
    def prepare(self) -> None:
        """Get what the guest boots, which may take minutes the first time."""

    @abc.abstractmethod
    def command(self) -> list[str]:
        """What to run in the namespace; it stays in the foreground for the guest's life."""

    @abc.abstractmethod
    def connect_agent(self) -> socket.socket:
        """Raises `OSError` while nobody listens."""

    @property
    def output(self) -> Path:
        """Where what `command` itself prints goes."""
        return self.console

    # -------------------------------------------------------------- life

    def start(self) -> None:
        """Boot and wait for the agent. Raises `GuestDied`, `KernelImageError`."""
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """Power on, without waiting; a leftover of the same name is ended first."""
        self.prepare()
        self._end(self._running_pid())
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.network.add_tap(self.tap)
        with self.output.open("wb") as output:
            self._process = self.network.popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._pid_path.write_text(f"{self._process.pid}\n")

    def wait_ready(self) -> None:
        """Wait until the agent of a launched guest answers."""
        give_up_at = time.monotonic() + self.boot_seconds
        while True:
            with contextlib.suppress(OSError):
                return self._connect(give_up_at - time.monotonic())
            if self._process is not None and self._process.poll() is not None:
                raise self.died("it ended at once")
            if time.monotonic() > give_up_at:
                raise self.died("its agent does not listen")
            time.sleep(0.05)

    def attach(self, timeout_seconds: float = 30.0) -> None:
        """Talk to a guest whose starter has gone; one process at a time can."""
        try:
            self._connect(timeout_seconds)
        except OSError as error:
            raise GuestDied(f"no guest {self.name} in {self.network.name}: {error}") from error
        except GuestTimeout as error:
            error.add_note("does another process still talk to it? only one at a time can")
            raise

    def _connect(self, timeout_seconds: float) -> None:
        self._agent = Agent(self.connect_agent())
        self.request("read_file", timeout_seconds=timeout_seconds, path="/etc/nvme/hostnqn")

    def stop(self) -> None:
        """Power off; a guest that does not react is ended by its pid. Can be repeated."""
        pid = self._running_pid()
        if self._agent is not None:
            self._agent.send("power_off")
            if pid is not None:
                _wait_exit(pid, _EXIT_SECONDS)
            self._agent.close()
            self._agent = None
        self._end(pid)
        if self._process is not None:
            self._process.wait(_EXIT_SECONDS)
            self._process = None
        if self.network.exists:
            self.network.remove_tap(self.tap)

    # -------------------------------------------------------------- use

    def popen(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        environment: dict[str, str] | None = None,
    ) -> GuestProcess:
        """Start a command in the guest and return at once."""
        return GuestProcess(
            self, argv, stdin=base64.b64encode(stdin).decode(), environment=environment or {}
        )

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_seconds: float = 120,
        check: bool = True,
        stdin: bytes = b"",
        environment: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the guest to its end. Raises as `GuestProcess.wait`."""
        process = self.popen(argv, stdin=stdin, environment=environment)
        return process.wait(timeout_seconds, check=check)

    def shell(self, script: str, **options: Any) -> str:
        """Standard output of a shell script; its first failing command fails it."""
        return self.run(["sh", "-euc", script], **options).stdout

    def call(self, function: str, *args: Any, timeout_seconds: float = 300, **kwargs: Any) -> Any:
        """Call `package.module.function` in the guest's long-lived Python; JSON both ways.

        Raises `GuestCallFailed` with the exception's class name and its traceback.
        """
        return self.request(
            "call", timeout_seconds=timeout_seconds, function=function, args=args, kwargs=kwargs
        )

    def warm_up(self, *modules: str) -> None:
        """Begin to import modules in the guest's Python, in background; default os-brick."""
        self.agent.send(
            "call",
            function="testbed.guest_agent.warm_up",
            args=list(modules or [OS_BRICK]),
            kwargs={},
        )

    def read_file(self, path: str) -> bytes:
        return base64.b64decode(self.request("read_file", path=path))

    def write_file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        encoded = base64.b64encode(data).decode()
        self.request("write_file", path=path, data=encoded, mode=mode)

    def request(self, op: str, *, timeout_seconds: float = 60, **arguments: Any) -> Any:
        """One request to the agent and its result."""
        subject = str(arguments.get("function") or arguments.get("path") or op)
        _, events = self.agent.send(op, **arguments)
        try:
            event = events.get(timeout=timeout_seconds)
        except queue.Empty:
            if self._running_pid() is None:
                raise self.died(f"during {subject}") from None
            raise GuestTimeout(
                f"{self.name}: {subject}: no answer in {timeout_seconds:.0f} s; "
                f"console ends:\n{self._console_tail()}"
            ) from None
        if event is None:
            raise self.died(f"during {subject}")
        if event["event"] == "error":
            raise GuestCallFailed(self.name, subject, event)
        return event["value"]

    def died(self, when: str) -> GuestDied:
        """The error to raise once the guest is found gone."""
        return GuestDied(f"guest {self.name} is gone ({when}); its end:\n{self._console_tail()}")

    # -------------------------------------------------------------- inside

    def boot_words(self, **more: str) -> list[str]:
        """Words of the kernel's command line that it hands on to the guest's first process.

        Raises `GuestError` for a path that cannot be one.
        """
        words = {
            "guest_name": self.name,
            "guest_address": f"{self.address}/{PREFIX_LENGTH}",
            "host_nqn": self.host_nqn,
            "host_id": self.host_id,
            "checkout": str(CHECKOUT),
            "python": sys.executable,
            **more,
        }
        for key, value in words.items():
            if any(character in value for character in ' "\n'):
                raise GuestError(f"{key}={value!r}: a guest cannot use a path with a blank in it")
        return [f"{key}={value}" for key, value in words.items()]

    @property
    def _pid_path(self) -> Path:
        return self.folder / "pid"

    def _running_pid(self) -> int | None:
        """The guest's process, only if it runs in our namespace: pids get reused."""
        try:
            pid = int(self._pid_path.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return pid if self.network.exists and pid in self.network.pids() else None

    def _end(self, pid: int | None) -> None:
        """End the guest with its helpers, which are of the session that it leads."""
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        if not _wait_exit(pid, _EXIT_SECONDS):
            raise GuestError(f"process {pid} of guest {self.name} does not end")

    def _console_tail(self) -> str:
        lines: list[str] = []
        for file in dict.fromkeys((self.output, self.console)):
            if file.exists():
                text = _TERMINAL_CODES.sub("", file.read_text(errors="replace"))
                lines += text.splitlines()[-_CONSOLE_LINES:]
        return "\n".join(lines) or "(its console is empty)"


def _wait_exit(pid: int, timeout_seconds: float) -> bool:
    """Whether a process, child of ours or not, ended in time."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], timeout_seconds)[0])
    finally:
        os.close(descriptor)


def prompt(host: Guest) -> None:
    """Read shell commands and run them in `host` until Ctrl-D."""
    print(f"{host.name} {host.address} {host.host_nqn}: shell commands, end with Ctrl-D")
    while True:
        try:
            line = input(f"{host.name}# ")
        except EOFError:
            print()
            return
        done = host.run(["sh", "-c", line], check=False, timeout_seconds=3600)
        print(done.stdout + done.stderr, end="")
