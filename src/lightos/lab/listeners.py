# SPDX-License-Identifier: Apache-2.0
"""Listening sockets, with errors that say what to do, and the HTTP server on top of one."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import socket
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from lightos.lab.certificates import CertificateFiles
from lightos.lab.errors import LabError
from lightos.lab.silence import Silence
from lightos.lab.state_folder import StateFolder

BACKLOG = 256
KEEP_ALIVE_SECONDS = 60
GRACE_SECONDS = 1


def tcp_listener(address: str, port: int, option: str) -> socket.socket:
    """Listen on an address. LabError names the fix, `option` being what sets the port."""
    version = ipaddress.ip_address(address.partition("%")[0]).version
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named; without it a reply takes 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(BACKLOG)
    except OSError as cause:
        listener.close()
        raise LabError(explained(cause, address, port, option)) from cause
    listener.setblocking(False)
    return listener


def check_tcp_port(address: str, port: int, option: str) -> None:
    """Raise the LabError that listening there would meet now."""
    tcp_listener(address, port, option).close()


def explained(error: OSError, address: str, port: int, option: str) -> str:
    """One line on why an address cannot be had, and what to do."""
    where = f"port {port} on {address}"
    match error.errno:
        case errno.EADDRINUSE:
            return f"{where} is in use: end the process that has it, or choose another {option}"
        case errno.EADDRNOTAVAIL:
            return (
                f"address {address} is not on this machine: add it "
                f"(`ip address add {address} dev ...`) or choose other --addresses"
            )
        case errno.EACCES | errno.EPERM:
            return f"no permission for {where}: run as root, or choose {option} above 1023"
        case errno.EINVAL if ipaddress.ip_address(address).is_link_local:
            return f"link-local address {address} is not usable here: choose other --addresses"
    return f"cannot listen on {where}: {error.strerror}"


def control_listener(folder: StateFolder) -> socket.socket:
    """The unix socket in the state folder; only its owner can connect."""
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        with folder.control_address() as path:
            listener.bind(path)
    finally:
        os.umask(before)
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


class _Config(uvicorn.Config):
    """uvicorn's, which its connections know, with what else they have to."""

    silence: Silence
    connected: Callable[[], None]


class _Connection(H11Protocol):
    """uvicorn's; applications find its transport as `scope["state"]["transport"]`."""

    config: _Config

    def connection_made(  # type: ignore[override] # as uvicorn has it
        self, transport: asyncio.Transport
    ) -> None:
        super().connection_made(transport)
        self.app_state = {"transport": transport}
        self.config.connected()
        if self.config.silence.kept:  # TLS had begun before
            self.config.silence.add(self.leave())

    def leave(self) -> asyncio.Transport:
        """End as if the peer were gone, and leave the transport open, for nobody."""
        self._unset_keepalive_if_required()
        self.connection_lost(ConnectionAbortedError())
        return self.transport


class _Server(uvicorn.Server):
    """uvicorn that leaves signals to its owner, and says when it serves."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.serving = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.serving.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let requests in hand end, then drop every connection.

        uvicorn's own would wait for idle clients, which do not answer the end of TLS.
        """
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        for connection in tuple(self.server_state.connections):
            connection.shutdown()
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=GRACE_SECONDS)
        for connection in tuple(self.server_state.connections):
            connection.transport.abort()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """An ASGI application behind one listening socket."""

    def __init__(
        self,
        server: _Server,
        task: asyncio.Task[None],
        listener: socket.socket,
        silence: Silence,
        thawed: asyncio.Event,
    ) -> None:
        self._thawed = thawed
        self._server = server
        self._task = task
        self._listener = listener
        self._silence = silence

    @classmethod
    async def start(
        cls,
        application: ASGIApp,
        listener: socket.socket,
        tls: CertificateFiles | None = None,
        connected: Callable[[], None] = lambda: None,
    ) -> HttpServer:
        """Serve from now on; HTTPS with `tls`. `connected` is called for each connection."""
        thawed = asyncio.Event()
        thawed.set()

        async def unless_frozen(scope: Scope, receive: Receive, send: Send) -> None:
            await thawed.wait()
            await application(scope, receive, send)

        config = _Config(
            unless_frozen,
            http=_Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            ssl_certfile=tls.server if tls else None,
            ssl_keyfile=tls.server_key if tls else None,
        )
        config.silence = Silence()
        config.connected = connected
        server = _Server(config)
        task = asyncio.create_task(server.serve([listener]))
        await server.serving.wait()
        return cls(server, task, listener, config.silence, thawed)

    def swallow(self) -> None:
        """Neither accept nor hear nor say anything, as if the network had lost the address."""
        self._silence.begin([self._listener])
        for connection in tuple(self._server.server_state.connections):
            if isinstance(connection, _Connection):
                self._silence.add(connection.leave())

    def answer(self) -> None:
        """Undo `swallow`; the connections of before are reset."""
        self._silence.end([self._listener])

    def freeze(self) -> None:
        """Take calls, and answer none of them before `thaw`."""
        self._thawed.clear()

    def thaw(self) -> None:
        """Undo `freeze`, and answer what was asked meanwhile."""
        self._thawed.set()

    def hold_writes(self) -> None:
        """Hosts do not write to volumes here."""

    def release_writes(self) -> None:
        """Hosts do not write to volumes here."""

    async def close(self) -> None:
        """Close the listener, answer what is in hand, then drop every connection."""
        self._silence.end()
        self.thaw()
        self._server.should_exit = True
        await self._task
