# SPDX-License-Identifier: Apache-2.0
"""The web page on loopback, and the few calls that it makes.

A browser runs scripts of every site that its user looks at, and every user of a machine reaches
loopback. So the page's server takes calls only under its own name (no other name can be made to
lead here, as DNS rebinding does) and only with the key, which stands behind `#` in the page's
address: browsers send it nowhere by themselves, and scripts of other sites do not know it. What
changes something must say that it comes from the page itself, as well.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from lightos.api.errors import GrpcCode
from lightos.lab.files import write_secret
from lightos.lab.replies import error_reply

KEY_HEADER = "x-lab-key"
KEY_BYTES = 24
_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_CALLS = tuple(
    re.compile(pattern)
    for pattern in (
        "GET /lab/v1/overview",
        "POST /lab/v1/faults",
        "DELETE /lab/v1/faults/[0-9]+",
        "POST /api/v2/nodes/[0-9a-f-]+/(start|stop)",
    )
)
"""The page need not be able to do what it does not offer."""


def page_key(path: Path) -> str:
    """The key in a file that only its owner reads; made when it is not there."""
    if not path.exists():
        write_secret(path, secrets.token_urlsafe(KEY_BYTES).encode() + b"\n")
    return path.read_text().strip()


class PageServer:
    """The ASGI application of the page; `control` answers its calls as the administrator's."""

    def __init__(self, control: ASGIApp, key: str, port: int) -> None:
        folder = resources.files("lightos.lab.page") / "static"
        self._files = {
            path: Response((folder / name).read_bytes(), 200, _HEADERS, media_type)
            for path, (name, media_type) in _FILES.items()
        }
        self._control = control
        self._key = key.encode()
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope["method"], scope["path"], Headers(scope=scope))
        if refusal is not None:
            await refusal(scope, receive, send)
        elif scope["path"] in self._files:
            await self._files[scope["path"]](scope, receive, send)
        else:
            await self._control(scope, receive, send)

    def _refusal(self, method: str, path: str, headers: Mapping[str, str]) -> Response | None:
        """Why a call is not answered; None for one that is."""
        host = headers.get("host", "")
        if host not in self._hosts:
            return _forbidden(f"the lab's page is not at {host[:64]!r}")
        if path in self._files:
            return None if method in ("GET", "HEAD") else _forbidden("the page can only be read")
        if not secrets.compare_digest(headers.get(KEY_HEADER, "").encode(), self._key):
            return _forbidden("open the page by the address that `lightos lab status` prints")
        if method != "GET" and headers.get("origin") != f"http://{host}":
            return _forbidden("only the page itself may change something here")
        if not any(pattern.fullmatch(f"{method} {path}") for pattern in _CALLS):
            return _forbidden(f"{method} {path[:64]} is not for the page; use the API")
        return None


def _forbidden(text: str) -> Response:
    reply = error_reply(403, GrpcCode.PERMISSION_DENIED, text)
    reply.headers.update(_HEADERS)
    return reply
