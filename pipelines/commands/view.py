"""Serves the report of a posterior on this machine alone, for a browser: `infield view POSTERIOR.zarr`.

The page is made when the command starts and kept in memory; Ctrl-C ends it. `reconstruct --report FILE.html` writes the
same page to a file.
"""

from __future__ import annotations

import argparse
import tempfile
from http.server import ThreadingHTTPServer
from pathlib import Path

from infield.pipelines.run.loopback import LoopbackHandler, address_of, loopback_server, serve_until_interrupted
from infield.pipelines.run.options import Parser, add_json


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
        address = address_of(server)
        if arguments.json:
            print(f'{{"address": "{address}"}}', flush=True)
        elif not arguments.quiet:
            print(f"{arguments.posterior}: {address}  (Ctrl-C ends it)", flush=True)
        serve_until_interrupted(server, not arguments.no_browser)
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

    class Handler(LoopbackHandler):
        def do_GET(self) -> None:
            if not self.own_host():
                return
            if self.path.partition("?")[0] == "/":
                self.send(200, page, "text/html; charset=utf-8")
            else:
                self.send_error(404)

    return loopback_server(Handler, port)
