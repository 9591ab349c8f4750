"""Serves the page on loopback: to this machine alone, and to pages of its own alone."""

from __future__ import annotations

import errno
import os
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from linfusion_cli.errors import BusyError, UsageError
from linfusion_cli.viewer.content import Content

LOOPBACK = "127.0.0.1"
HIGHEST_PORT = 65535
HEADERS = {
    # OpenSeadragon sets styles of its elements, and draws tiles from blobs.
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class ViewServer(ThreadingHTTPServer):
    """One image's page. port: 0 for any that is free."""

    daemon_threads = True
    allow_reuse_address = os.name != "nt"  # where it lets two programs share a port

    def __init__(self, content: Content, port: int = 0) -> None:
        """Raises BusyError for a port that another program uses, UsageError for one that may not be used."""
        self.content = content
        try:
            super().__init__((LOOPBACK, port), _Handler)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise BusyError(
                    f"{port}: another program uses it. Leave it out for one that is free", parameter="port"
                ) from error
            raise UsageError(f"{port}: can't be used ({error.strerror}). Nearest: 8080", parameter="port") from error

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.server_address[1]}/"

    def is_own_host(self, host: str) -> bool:
        """Whether a request's Host is this server: a page elsewhere may have let its own name lead here."""
        return host in {f"{name}:{self.server_address[1]}" for name in (LOOPBACK, "localhost")}


class _Handler(BaseHTTPRequestHandler):
    server: ViewServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "linfusion", ""

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, format: str, *args: Any) -> None:
        """No line for each tile."""

    def _answer(self, *, body: bool) -> None:
        if not self.server.is_own_host(self.headers.get("Host", "")):
            self._send(HTTPStatus.FORBIDDEN, b"This page is served to 127.0.0.1 alone.\n", "text/plain", body=body)
            return
        found = self.server.content.find(self.path.partition("?")[0].removeprefix("/"))
        if found is None:
            self._send(HTTPStatus.NOT_FOUND, b"There is no such file.\n", "text/plain", body=body)
            return
        self._send(HTTPStatus.OK, *found, body=body)

    def _send(self, status: HTTPStatus, data: bytes, kind: str, *, body: bool) -> None:
        try:
            self.send_response(status)
            for name, value in HEADERS.items():
                self.send_header(name, value)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if body:
                self.wfile.write(data)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the browser has moved on
