"""Pages served to a browser on this machine alone, until Ctrl-C."""

from __future__ import annotations

import webbrowser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from infield.core.errors import InfieldError

HOST = "127.0.0.1"


class LoopbackHandler(BaseHTTPRequestHandler):
    """Answers requests that name this machine as their host, without a line printed."""

    def own_host(self) -> bool:
        """Whether the host is this machine's own name; else the request is refused: a foreign page may have its own
        name lead here."""
        if self.headers.get("Host", "").rsplit(":", 1)[0] in (HOST, "localhost"):
            return True
        self.send_error(403)
        return False

    def send(self, status: int, body: bytes, kind: str) -> None:
        """Answer with a body of some content type, which is not kept by the browser."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *values: object) -> None:
        """Requests are not printed."""


def loopback_server(handler: type[LoopbackHandler], port: int) -> ThreadingHTTPServer:
    """A server on this machine alone; port 0 is any free one.

    Raises:
        InfieldError: The port is taken, or not allowed.
    """
    try:
        return ThreadingHTTPServer((HOST, port), handler)
    except (OSError, OverflowError) as error:
        raise InfieldError(
            where=f"--port {port}",
            found=f"a port that cannot be used ({error})",
            expected="a free one from 1024 to 65535",
        ) from error


def address_of(server: ThreadingHTTPServer) -> str:
    """What a browser opens."""
    return f"http://{HOST}:{server.server_port}/"


def serve_until_interrupted(server: ThreadingHTTPServer, open_browser: bool) -> None:
    """Answer requests until Ctrl-C, the usual end."""
    if open_browser:
        webbrowser.open(address_of(server))
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        return
