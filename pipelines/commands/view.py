"""Serves the report of a posterior on this machine alone, for a browser: `infield view POSTERIOR.zarr`.

The page is made when the command starts and kept in memory; Ctrl-C ends it. `reconstruct --report FILE.html` writes the
same page to a file.
"""

from __future__ import annotations

import argparse
import tempfile
import webbrowser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from infield.core.errors import InfieldError
from infield.pipelines.run.options import Parser, add_json

HOST = "127.0.0.1"


def add_arguments(parser: Parser) -> None:
    parser.add_argument("posterior", type=Path, metavar="POSTERIOR.zarr", help="the posterior")
    parser.add_argument(
        "--measurement", type=Path, metavar="MEASUREMENT.zarr", help="its measurement: adds data, residuals and truth"
    )
    parser.add_argument("--port", type=int, default=0, metavar="N", help="port of the page (default: any free one)")
    parser.add_argument("--no-browser", action="store_true", help="print the address, and open nothing")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    text = _page(arguments.posterior, arguments.measurement)
    with _server(text, arguments.port) as server:
        address = f"http://{HOST}:{server.server_port}/"
        if arguments.json:
            print(f'{{"address": "{address}"}}', flush=True)
        elif not arguments.quiet:
            print(f"{arguments.posterior}: {address}  (Ctrl-C ends it)", flush=True)
        if not arguments.no_browser:
            webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:  # the usual end
            return 0
    return 0


def _page(posterior: Path, measurement: Path | None) -> bytes:
    from infield.pipelines.report import write_report  # pictures take a while to import

    with tempfile.TemporaryDirectory(prefix="infield-") as folder:
        report = Path(folder) / "report.html"
        write_report(posterior, report, measurement)
        return report.read_bytes()


def _server(page: bytes, port: int) -> ThreadingHTTPServer:
    """A server of one page, for requests to this machine's own name.

    Raises:
        InfieldError: The port is taken, or not allowed.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.headers.get("Host", "").rsplit(":", 1)[0]
            if name not in (HOST, "localhost"):  # a foreign page that has its own name lead here
                self.send_error(403)
                return
            if self.path.partition("?")[0] != "/":
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(page)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, format: str, *values: object) -> None:
            """Requests are not printed."""

    try:
        return ThreadingHTTPServer((HOST, port), Handler)
    except (OSError, OverflowError) as error:
        raise InfieldError(
            where=f"--port {port}",
            found=f"a port that cannot be used ({error})",
            expected="a free one from 1024 to 65535",
        ) from error
