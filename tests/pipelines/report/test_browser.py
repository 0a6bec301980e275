"""The page in a real browser without a window, at two widths and in both schemes of colour; and what it is given."""

import base64
import json
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from html import unescape
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import xarray as xr
from examples.processes import HANG
from examples.report_files import files

from infield import InfieldError
from infield.datasets.formats.field import read_field
from infield.datasets.formats.posterior import open_posterior
from infield.pipelines.commands import view
from infield.pipelines.report import browser, write_report
from infield.pipelines.report.browser import EMPTY, TOP, fields_to_browse
from infield.pipelines.report.figures import Draws

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium, which is not installed here")

PROBE = Path(__file__).with_name("probe.html").read_text()
FRAME = """<pre id="probe"></pre><iframe width="{width}" height="900" style="border: 0" src="{page}"></iframe>
<script>addEventListener("message", event => document.getElementById("probe").textContent = event.data);</script>"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    posterior, measurement, samples, _ = files(folder / "a", "plane")
    write_report(posterior, folder / "r.html", measurement)
    return folder / "r.html", posterior, samples


@needs_browser
@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_in_a_browser(report, tmp_path, width):
    path, _, samples = report
    page = tmp_path / "probe.html"
    page.write_text(path.read_text().replace("</body>", PROBE + "</body>"))
    frame = tmp_path / "frame.html"  # a window has a least width, a frame has none
    frame.write_text(FRAME.format(width=width, page=page.as_uri()))
    words = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    words += ["--window-size=1400,900", "--virtual-time-budget=3000", "--dump-dom", frame.as_uri()]
    done = subprocess.run([CHROMIUM, *words], capture_output=True, text=True, timeout=HANG)
    found = json.loads(unescape(re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.S)[1]))
    assert found["width"] == width and found["scrolls"] <= width  # nothing is off the screen
    first, second = found["panels"]
    assert second["right"] <= width and (second["top"] > first["top"]) == (width < 700)
    assert min(found["colours"]) > 20  # something is drawn
    assert found["label"].startswith("posterior mean of height, ") and "arrow keys" in found["label"]
    assert found["before"] != found["after"] and "x " in found["after"] and "standard deviation" in found["after"]
    value = float(re.search(r"sample 3 (-?[\d.e-]+) mm", found["fourth"])[1])
    row, column = 17 >> 1, (22 >> 1) + 1
    assert value == pytest.approx(float(samples[3, 0, row, column]), abs=1e-3)
    assert found["sample"].startswith(found["after"].split(":")[0])  # the same point
    assert found["sorted"] == sorted(found["sorted"], key=str.lower) and found["aria"] == "ascending"
    assert {found["paper"], found["other"]} == {"rgb(255, 255, 255)", "rgb(23, 25, 28)"} and found["focusable"]


@pytest.mark.parametrize("case", ["line", "plane", "complex", "space", "scattered"])
def test_the_fields_are_those_of_the_file(tmp_path, case):
    path, _, samples, measurement = files(tmp_path, case)
    with open_posterior(path) as dataset:
        found = fields_to_browse(Draws(dataset, read_field(path, dataset)), measurement.truth[0])
        assert isinstance(dataset, xr.Dataset)
    first = {layer["name"]: layer for layer in found["views"][0]["layers"]}
    wanted = {"posterior mean", "standard deviation", "truth", "quantile 5 %", "quantile 50 %", "sample 0", "sample 15"}
    assert wanted <= first.keys() and "sample 16" not in first
    layer = first["sample 2"]
    codes = np.frombuffer(base64.b64decode(layer["data"]), "<u2")
    values = layer["low"] + (layer["high"] - layer["low"]) * codes / TOP
    truth = samples[2].norm(dim=0) if case == "complex" else samples[2, 0]
    np.testing.assert_allclose(values, truth.numpy().ravel(), atol=1e-4 * (layer["high"] - layer["low"]))
    assert found["rows"] * found["columns"] * found["depth"] == codes.size and (codes != EMPTY).all()


def test_large_fields_are_thinned(tmp_path, monkeypatch):
    monkeypatch.setattr(browser, "MAX_VALUES_OF_A_FIELD", 100)
    path, *_ = files(tmp_path)
    with open_posterior(path) as dataset:
        found = fields_to_browse(Draws(dataset, read_field(path, dataset)), None)
    assert found["step"] == 2 and (found["rows"], found["columns"]) == (9, 11)


def test_view_serves_the_page_to_this_machine_alone(report):
    path, *_ = report
    with view._server(path.read_bytes(), 0) as server:
        assert server.server_address[0] == "127.0.0.1"
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        assert urllib.request.urlopen(address).read() == path.read_bytes()
        for request, status in (
            (urllib.request.Request(address, headers={"Host": "evil.example"}), 403),
            (urllib.request.Request(address + "../etc/passwd"), 404),
        ):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(request)
            assert refused.value.code == status
        with pytest.raises(InfieldError, match="--port"):
            view._server(b"", server.server_port)
        server.shutdown()
