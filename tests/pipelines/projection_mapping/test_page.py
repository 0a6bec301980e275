"""The page of projectors: previews and saved files are those of the command; other sites are refused."""

from __future__ import annotations

import json
import shlex
import shutil
import threading
import urllib.error
import urllib.request
from base64 import b64decode
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from examples.projection import picture, scene

from infield.core.errors import InfieldError
from infield.datasets.projection_mapping.images import write_png
from infield.datasets.projection_mapping.setup_file import write_setup
from infield.physics.projection_mapping.setup import Setup
from infield.pipelines.cli import main
from infield.pipelines.projection_mapping.page import Session, server
from infield.pipelines.projection_mapping.page_text import PAGE
from infield.pipelines.projection_mapping.preview import smaller

cv2 = pytest.importorskip("cv2")


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    at = tmp_path_factory.mktemp("page")
    write_setup(at / "s.zarr", scene(albedo=0.7).truth())
    write_png(at / "t.png", np.round(255 * picture((36, 48), 0.2, 0.8).transpose(1, 2, 0)).astype(np.uint8))
    (at / "p.yaml").write_text("prior: gaussian\nlaw: {law: matern, nu: 1.5, length: 6}\nmean: 0.5\nscale: 0.25\n")
    return Session(at / "s.zarr", at / "OUT", str(at / "p.yaml"), at / "t.png", settings=("levels=4",))


@contextmanager
def running(session):
    with server(session, 0) as one:
        thread = threading.Thread(target=one.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{one.server_port}"
        finally:
            one.shutdown()
            thread.join()


def ask(address, body=None, **headers):
    request = urllib.request.Request(address, None if body is None else json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request) as answer:
        return answer.read()


def image(uri):
    data = np.frombuffer(b64decode(uri.partition(",")[2]), np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def test_a_preview_and_what_is_saved(session, tmp_path):
    with running(session) as address:
        facts = json.loads(ask(f"{address}/facts"))
        assert facts["projectors"] == ["projector_0", "projector_1"] and facts["preview"] == [36, 48]
        bright, dark = (
            json.loads(ask(f"{address}/preview", {"exposure": e * facts["exposure"], "off": []})) for e in (1, 0.25)
        )
        assert image(bright["images"]["appearance"]).mean() > 1.5 * image(dark["images"]["appearance"]).mean()
        asked = {"exposure": 0.2, "error": "lab", "scale": "none", "iterations": 0, "off": ["projector_1"]}
        one = json.loads(ask(f"{address}/preview", asked))
        half = json.loads(ask(f"{address}/preview", asked | {"quick": True}))
        assert half["figures"].keys() == one["figures"].keys()
        assert list(one["projectors"]) == ["projector_0"]
        saved = json.loads(ask(f"{address}/save", asked))
    words = shlex.split(saved["command"])
    words[words.index("-o") + 1] = str(tmp_path / "again")
    assert main(words[1:]) == 0
    out = session.output
    names = sorted(p.name for p in out.glob("*.png"))
    assert "projector_0.png" in names and "projector_1.png" not in names
    for name in names:
        assert (out / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    np.testing.assert_array_equal(image(one["images"]["appearance"]), cv2.imread(str(out / "appearance.png")))


def test_samples_are_drawn_and_uploads_taken(session):
    with running(session) as address:
        drawn = json.loads(ask(f"{address}/draw", {"samples": 1, "exposure": 0.3}))
        assert list(drawn["samples"]) == ["sample_0"] and image(drawn["samples"]["sample_0"]).std() > 5
        shown = json.loads(ask(f"{address}/preview", {"source": "sample_0", "exposure": 0.3}))
        assert shown["figures"]["outside"] < 0.9
        _, data = cv2.imencode(".png", np.full((36, 48, 3), 200, np.uint8))
        request = urllib.request.Request(f"{address}/upload/png", data.tobytes())
        with urllib.request.urlopen(request) as answer:
            assert json.loads(answer.read())["target"].endswith(".png")
        flat = json.loads(ask(f"{address}/preview", {"exposure": 0.05}))
        assert image(flat["images"]["target"])[8:-8, 12:-12].std() < 1


def send(address, image):
    _, data = cv2.imencode(".png", image)
    with urllib.request.urlopen(urllib.request.Request(address, data.tobytes())) as answer:
        return json.loads(answer.read())


def test_a_mask_is_that_of_the_command(session, tmp_path):
    """Its left half stays dark, on the page and in what the printed command writes; control: without it."""
    mask = np.zeros((36, 48), np.uint8)
    mask[:, 24:] = 255
    asked = {"exposure": 0.2, "iterations": 0}
    lit = lambda found: image(found["images"]["gamut"])[:, :20].any()  # noqa: E731
    with running(session) as address:
        send(f"{address}/mask/png", mask)
        with pytest.raises(urllib.error.HTTPError) as caught:
            send(f"{address}/mask/png", mask[:30])
        assert "36" in json.loads(caught.value.read())["error"]
        dark = json.loads(ask(f"{address}/preview", asked))
        saved = json.loads(ask(f"{address}/save", asked))
        ask(f"{address}/unmask", {})
        whole = json.loads(ask(f"{address}/preview", asked))
    assert not lit(dark) and lit(whole)
    words = shlex.split(saved["command"])
    out = words[words.index("-o") + 1]
    words[words.index("-o") + 1] = str(tmp_path / "again")
    assert main(words[1:]) == 0
    for name in ("projector_0.png", "appearance.png"):
        assert (tmp_path / "again" / name).read_bytes() == (session.output.parent / out / name).read_bytes()


def test_samples_are_like_a_picture(session):
    """Left half bright, right half dark; control: a weight of 0."""
    two = np.full((36, 48, 3), 40, np.uint8)
    two[:, :24] = 190
    apart = []
    with running(session) as address:
        with pytest.raises(urllib.error.HTTPError) as caught:
            ask(f"{address}/draw", {"samples": 1, "like": 1.0})
        assert "no picture" in json.loads(caught.value.read())["error"]
        send(f"{address}/like/png", two)
        for weight in (4.0, 0.0):
            drawn = json.loads(ask(f"{address}/draw", {"samples": 2, "exposure": 0.1, "like": weight}))
            shown = np.stack([image(uri).astype(float) for uri in drawn["samples"].values()])
            apart.append(shown[:, :, :20].mean() - shown[:, :, 28:].mean())
    assert apart[0] > 60 > 45 > abs(apart[1])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"source": "other"}, "source"),
        ({"off": ["projector_0", "projector_1"]}, "not all"),
        ({"exposure": "1"}, "a number"),
        ({"exposure": -1}, "above 0"),
        ({"error": "rgb"}, "offered"),
    ],
)
def test_wrong_requests_get_one_line(session, body, words):
    with running(session) as address, pytest.raises(urllib.error.HTTPError) as caught:
        ask(f"{address}/preview", body)
    assert caught.value.code == 400 and words in json.loads(caught.value.read())["error"]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/facts", {"Host": "evil.example"}, 403),
        ("/facts", {"Origin": "http://evil.example"}, 403),
        ("/other", {}, 404),
    ],
)
def test_other_sites_are_refused(session, path, headers, status):
    with running(session) as address:
        with pytest.raises(urllib.error.HTTPError) as caught:
            ask(address + path, **headers)
        assert caught.value.code == status
        assert b"<!doctype html>" in ask(address + "/")


def test_nothing_comes_from_elsewhere():
    assert "http:" not in PAGE and "https:" not in PAGE and "//cdn" not in PAGE


def test_a_smaller_setup_shows_the_same(session):
    """The light of white at every other pixel; control: of the pixels beside."""
    whole = session.setup
    small = smaller(whole, 18, 24)
    assert isinstance(small, Setup) and small.shape == (18, 24) and small.projectors[0].raster[0] <= 64
    assert smaller(whole) is whole
    light = [s.operator.A(torch.ones(1, 3, *s.grid.shape))[0].numpy() for s in (whole, small)]
    inner = np.s_[:, 3:-3, 3:-3]
    np.testing.assert_allclose(light[1][inner], light[0][:, ::2, ::2][inner], rtol=1e-4)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(light[1][inner], light[0][:, 1::2, 1::2][inner], rtol=1e-4)


def test_in_a_browser(session, tmp_path):
    """Headless Chromium without a network: a slider moves the preview, a box switches a projector off, save writes."""
    webdriver = pytest.importorskip("selenium.webdriver")
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (browser and driver):
        pytest.skip("no chromium with its driver on this machine")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in ("--headless=new", "--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"):
        options.add_argument(flag)
    one = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    wait = webdriver.support.ui.WebDriverWait
    source = "return document.querySelector('img[data-name=appearance]')?.src"
    try:
        with running(session) as address:
            one.get(address)
            wait(one, 60).until(lambda d: d.execute_script(source))
            first = one.execute_script(source)
            slide = "const e = document.getElementById('exposure'); e.value = -2; e.dispatchEvent(new Event('input'))"
            one.execute_script(slide)
            wait(one, 60).until(lambda d: d.execute_script(source) != first)
            one.find_element("css selector", "#projectorsOn input[value=projector_1]").click()
            gone = "return !document.querySelector('img[data-name=projector_1]')"
            wait(one, 60).until(lambda d: d.execute_script(gone))
            one.find_element("id", "save").click()
            wait(one, 60).until(lambda d: d.find_element("id", "command").text.startswith("infield project"))
            assert not one.find_element("id", "said").text
    finally:
        one.quit()


def test_a_port_that_cannot_be_used(session):
    with pytest.raises(InfieldError, match="--port 70000"):
        server(session, 70000)
