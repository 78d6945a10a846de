# SPDX-License-Identifier: Apache-2.0
"""The one long-lived Python process inside a test guest; `guest.Guest` talks to it.

Requests and events are JSON objects, one per line, over a virtio-serial port or, with
`--listen ADDRESS[:PORT]`, over TCP; bytes travel as base64. A request has `id`, `op` and the op's
arguments; its events carry the same `id`: `output` any number of times (op `run`), then one
`result` or `error`.

Starting Python and importing os-brick take half a minute under emulation, so functions are
called by name in this process instead. It is root, so os-brick's privileged code runs in
place: no sudo, no privsep daemon.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import functools
import importlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Protocol

PORT_NAME = "lightos.agent"
TCP_PORT = 7500
_OUTPUT_GRACE_SECONDS = 2.0

_processes: dict[str, subprocess.Popen[bytes]] = {}


def warm_up(*modules: str) -> None:
    """Import modules ahead of their use; os-brick's privileged calls then run in place."""
    for module in modules:
        importlib.import_module(module)
    if any(module.partition(".")[0] == "os_brick" for module in modules):
        privileged = importlib.import_module("os_brick.privileged")
        privileged.default.set_client_mode(False)


class Port(Protocol):
    """Our end of the line to whoever uses the guest."""

    def send(self, event: dict[str, Any]) -> None:
        """Send one event; any thread may."""

    def lines(self) -> Iterator[bytes]:
        """Requests as they come."""


class VirtioPort:
    """A virtio-serial port, which is there for the guest's whole life."""

    def __init__(self, device: Path) -> None:
        self._fd = os.open(device, os.O_RDWR)
        self._lock = threading.Lock()

    def send(self, event: dict[str, Any]) -> None:
        data = json.dumps(event).encode() + b"\n"
        with self._lock:
            while data:
                data = data[os.write(self._fd, data) :]

    def lines(self) -> Iterator[bytes]:
        """For ever: while nobody is connected, reads give nothing."""
        pending = b""
        while True:
            data = os.read(self._fd, 65536)
            if not data:
                pending = b""
                time.sleep(0.2)
                continue
            *complete, pending = (pending + data).split(b"\n")
            yield from complete


class Connection:
    """One TCP connection; what is sent after its end is lost."""

    def __init__(self, accepted: socket.socket) -> None:
        self._socket = accepted
        self._lock = threading.Lock()

    def send(self, event: dict[str, Any]) -> None:
        with self._lock, contextlib.suppress(OSError):
            self._socket.sendall(json.dumps(event).encode() + b"\n")

    def lines(self) -> Iterator[bytes]:
        with self._socket, self._socket.makefile("rb") as stream, contextlib.suppress(OSError):
            yield from stream


def serve(port: Port) -> None:
    for line in port.lines():
        request = json.loads(line)
        threading.Thread(target=_answer, args=(port, request), daemon=True).start()


def _answer(port: Port, request: dict[str, Any]) -> None:
    request_id, op = request.pop("id"), request.pop("op")

    def emit(stream: str, data: bytes) -> None:
        text = base64.b64encode(data).decode()
        port.send({"id": request_id, "event": "output", "stream": stream, "data": text})

    operations: dict[str, Callable[..., Any]] = {
        "run": functools.partial(_run, request_id, emit),
        "signal": _signal,
        "call": _call,
        "read_file": _read_file,
        "write_file": _write_file,
        "power_off": _power_off,
    }
    try:
        value = operations[op](**request)
        port.send({"id": request_id, "event": "result", "value": value})
    except BaseException as error:  # noqa: BLE001 - whatever happens, the caller must hear of it
        port.send(
            {
                "id": request_id,
                "event": "error",
                "type": type(error).__name__,
                "message": str(error),
                "traceback": traceback.format_exc(),
            }
        )


def _run(
    request_id: str,
    emit: Callable[[str, bytes], None],
    argv: list[str],
    stdin: str,
    environment: dict[str, str],
) -> int:
    process = subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
        start_new_session=True,
    )
    _processes[request_id] = process
    pumps = [
        threading.Thread(target=_pump, args=(process.stdout, "stdout", emit), daemon=True),
        threading.Thread(target=_pump, args=(process.stderr, "stderr", emit), daemon=True),
    ]
    for pump in pumps:
        pump.start()
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write(base64.b64decode(stdin))
    return_code = process.wait()
    for pump in pumps:  # a daemon left behind by the command may hold its pipes open
        pump.join(_OUTPUT_GRACE_SECONDS)
    del _processes[request_id]
    return return_code


def _pump(pipe: IO[bytes], stream: str, emit: Callable[[str, bytes], None]) -> None:
    while data := os.read(pipe.fileno(), 65536):
        emit(stream, data)


def _signal(target: str, number: int) -> None:
    """Signal the process group of a running `run` request; an ended one is left alone."""
    if process := _processes.get(target):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)


def _call(function: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    module, _, name = function.rpartition(".")
    return getattr(importlib.import_module(module), name)(*args, **kwargs)


def _read_file(path: str) -> str:
    return base64.b64encode(Path(path).read_bytes()).decode()


def _write_file(path: str, data: str, mode: int) -> None:
    """Replace a file by rename, as an editor would, so that watchers see it whole."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(f".{target.name}.new")
    scratch.write_bytes(base64.b64decode(data))
    scratch.chmod(mode)
    scratch.rename(target)


def _power_off() -> None:
    Path("/proc/sysrq-trigger").write_text("o")


def _find_port() -> Path:
    for name in Path("/sys/class/virtio-ports").glob("*/name"):
        if name.read_text().strip() == PORT_NAME:
            return Path("/dev", name.parent.name)
    raise SystemExit(f"guest_agent: no virtio-serial port named {PORT_NAME}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m testbed.guest_agent")
    parser.add_argument("--listen", metavar="ADDRESS[:PORT]", help="serve TCP connections here")
    listen = parser.parse_args().listen
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if listen is None:
        serve(VirtioPort(_find_port()))
        return
    address, _, port = listen.partition(":")
    with socket.create_server((address, int(port or TCP_PORT))) as listening:
        while True:
            connection = Connection(listening.accept()[0])
            threading.Thread(target=serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
