"""From a rendered scene to captures, a set-up and pictures; what is refused, in one line."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from examples.projection import picture, psnr, scene, shown

from infield.datasets.projection_mapping.calibrate import calibrate
from infield.datasets.projection_mapping.capture import write_captures
from infield.datasets.projection_mapping.captures import open_captures
from infield.datasets.projection_mapping.images import read_codes, write_png
from infield.datasets.projection_mapping.setup_file import open_setup, write_setup
from infield.physics.projection_mapping.compensate import compensate
from infield.pipelines.cli import main
from infield.priors.gaussian.kernels import White
from infield.priors.gaussian.prior import gaussian_prior

cv2 = pytest.importorskip("cv2")
HEIGHT = 48


@pytest.fixture(scope="module")
def rendered():
    return scene("corner", height=HEIGHT, albedo=0.6)


@pytest.fixture(scope="module")
def captured(rendered, tmp_path_factory):
    folder = tmp_path_factory.mktemp("captures")
    write_captures(folder, rendered, seed=1)
    return folder


@pytest.fixture(scope="module")
def calibrated(captured):
    return calibrate(open_captures(captured))


def test_calibration_finds_the_truth(rendered, calibrated):
    truth = rendered.truth()
    for found, true in zip(calibrated.projectors, truth.projectors, strict=True):
        both = np.isfinite(found.warp).all(0) & np.isfinite(true.warp).all(0)
        off = found.warp - true.warp
        assert both.mean() > 0.8 and np.sqrt((off[:, both] ** 2).mean()) < 0.08
        assert np.abs(found.response - true.response).max() < 0.005
        assert abs(found.defocus - true.defocus) < 0.15
        parts = (found.mixing - true.mixing)[:, :, both], true.mixing[:, :, both]
        error = np.linalg.norm(parts[0], axis=(0, 1)) / np.linalg.norm(parts[1], axis=(0, 1))
        assert np.median(error) < 0.025
    share = calibrated.facts["indirect"]["share"]
    assert abs(share - rendered.indirect_share()) < 0.03
    assert np.abs(calibrated.background - truth.background).mean() < 0.002
    facts = calibrated.facts["projector_0"]
    assert {"warp_error", "response_error", "mixing_error", "noise_sd", "additivity"} <= set(facts)


def test_compensation_with_the_calibrated_set_up(rendered, calibrated, tmp_path):
    truth = rendered.truth()
    target = picture(truth.shape, 0.08)
    inside = truth.covered & calibrated.covered
    scores = [psnr(shown(rendered, compensate(s, target, iterations=30).codes), target, inside)
              for s in (truth, calibrated)]  # fmt: skip
    assert scores[1] > scores[0] - 6
    write_setup(tmp_path / "s.zarr", calibrated)
    again = open_setup(tmp_path / "s.zarr")
    assert again.patches == calibrated.patches and again.facts["projector_0"] == calibrated.facts["projector_0"]
    np.testing.assert_allclose(again.form_factors, calibrated.form_factors, rtol=1e-5, atol=1e-9)
    np.testing.assert_array_equal(again.seen, calibrated.seen)


def test_the_commands(captured, tmp_path, capsys):
    setup, out = tmp_path / "setup.zarr", tmp_path / "out"
    assert main(["convert", "projection", str(captured), "-o", str(setup), "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["projectors"]) >= {"projector_0", "projector_1"}
    code = np.round(255 * picture((60, 80), 0.2, 0.8).transpose(1, 2, 0)).astype(np.uint8)
    write_png(tmp_path / "t.png", code)
    words = ["project", str(setup), "--target", str(tmp_path / "t.png"), "-o", str(out), "--iterations", "5"]
    assert main([*words, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert 0 < facts["exposure"] < 1 and facts["psnr"] > 15 and facts["colour"] == "camera RGB read as sRGB"
    raster = scene("corner", height=HEIGHT, albedo=0.6).poses[0].raster
    assert read_codes(out / "projector_0.png").shape == (*raster, 3)
    for name in ("appearance", "residual", "gamut", "target"):
        assert read_codes(out / f"{name}.png").shape == (HEIGHT, HEIGHT * 4 // 3, 3)
    assert "projector_1.png" in (out / "report.html").read_text()
    assert main(words) == 2 and "existing output" in capsys.readouterr().err
    more = ["--overwrite", "--bits", "16", "--dither", "--off", "projector_1", "--scale", "smooth", "--quiet"]
    assert main([*words, *more]) == 0
    assert read_codes(out / "projector_0.png").dtype == np.uint16 and not (out / "projector_1.png").exists()
    capsys.readouterr()
    assert main([*words[:-2], "--overwrite", "--exposure", "5", "--iterations", "0", "--json"]) == 0
    assert "outside the gamut" in capsys.readouterr().err


def test_a_gamut_is_a_measurement(calibrated, tmp_path, capsys):
    import infield
    from infield.datasets.formats.measurement import open_measurement
    from infield.physics.projection_mapping.gamut_measurement import gamut_measurement

    write_setup(tmp_path / "s.zarr", calibrated)
    words = ["convert", "gamut", str(tmp_path / "s.zarr"), "-o", str(tmp_path / "m.zarr"), "--exposure", "0.3"]
    assert main([*words, "--every", "24", "--json"]) == 0
    again, made = open_measurement(tmp_path / "m.zarr"), gamut_measurement(calibrated, 0.3, 0.01, 24)
    x = torch.rand(2, 3, *made.grid.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    value = lambda m: m.noise.log_prob(m.y, m.operator.A(x), m.observed)  # noqa: E731
    torch.testing.assert_close(value(again), value(made))
    assert again.channels == ("red", "green", "blue") and value(made).max() < 0
    prior = gaussian_prior(White(), made.grid, channels=3, source=White()).in_units(0.3, 0.1)
    drawn = infield.reconstruct(again, prior=prior, sampler="smc", samples=4, seed=0)
    assert drawn.sizes["sample"] == 4


def copied(captured, tmp_path):
    folder = tmp_path / "captures"
    shutil.copytree(captured, folder)
    return folder, folder / "projector_0"


def _missing(folder, one):
    (one / "green_113.png").unlink()


def _saturated(folder, one):
    write_png(one / "white.png", np.full_like(read_codes(one / "white.png"), 255))


def _dark(folder, one):
    write_png(one / "white.png", np.full_like(read_codes(one / "white.png"), 45))


def _segment(folder, one):
    white = read_codes(one / "white.png").astype(float)
    write_png(one / "white.png", np.clip(white * 1.12, 0, 253).astype(np.uint8))


def _fewer(folder, one):
    (one / "graycode_01.png").unlink()


def _swapped(folder, one):
    names = sorted(one.glob("graycode_*.png"))
    contents = [path.read_bytes() for path in names]
    half = len(names) // 2
    for path, content in zip(names, [*contents[half:], *contents[:half]], strict=True):
        path.write_bytes(content)


def _inverses(folder, one):
    names = sorted(one.glob("graycode_*.png"))
    contents = [path.read_bytes() for path in names]
    for i, path in enumerate(names):
        path.write_bytes(contents[i ^ 1])


def _one_inverse(folder, one):
    a, b = (one / f"graycode_0{i}.png" for i in (4, 5))
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second)
    b.write_bytes(first)


def _portrait(folder, one):
    content = yaml.safe_load((folder / "setup.yaml").read_text())
    first = content["projectors"][0]
    first["width"], first["height"] = first["height"], first["width"]
    (folder / "setup.yaml").write_text(yaml.safe_dump(content))


def _twice(folder, one):
    content = yaml.safe_load((folder / "setup.yaml").read_text())
    content["projectors"][1]["name"] = "projector_0"
    (folder / "setup.yaml").write_text(yaml.safe_dump(content))


def _smaller_level(folder, one):
    write_png(one / "red_085.png", read_codes(one / "red_085.png")[:20])


def _constant_ramp(folder, one):
    for path in one.glob("red_*.png"):
        path.write_bytes((one / "red_255.png").read_bytes())


def _other_size(folder, one):
    content = yaml.safe_load((folder / "setup.yaml").read_text())
    content["projectors"][0] |= {"width": 300}
    (folder / "setup.yaml").write_text(yaml.safe_dump(content))


def _second_size(folder, one):
    other = folder / "projector_1" / "black.png"
    write_png(other, read_codes(other)[:20])


def _falling(folder, one):
    for a, b in (("red_113", "red_227"),):
        x, y = (one / f"{n}.png" for n in (a, b))
        first, second = x.read_bytes(), y.read_bytes()
        x.write_bytes(second)
        y.write_bytes(first)


def _size(folder, one):
    write_png(one / "white.0.png", np.zeros((10, 12, 3), np.uint8))
    shutil.copy(one / "white.png", one / "white.1.png")


def _description(folder, one):
    (folder / "setup.yaml").unlink()


def _levels(folder, one):
    content = yaml.safe_load((folder / "setup.yaml").read_text())
    (folder / "setup.yaml").write_text(yaml.safe_dump(content | {"levels": [255, 10]}))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_missing, "no green_113.png of projector 'projector_0'"),
        (_saturated, "white.png: found 100.0 % of the pixels saturated"),
        (_dark, "a dark white"),
        (_segment, "off the sum of red, green and blue"),
        (_fewer, "images of a Gray code"),
        (_swapped, "Gray code"),
        (_inverses, "Gray code"),
        (_one_inverse, "Gray code"),
        (_portrait, "positions beyond the projector"),
        (_twice, "name 'projector_0'"),
        (_smaller_level, "as the first white capture has"),
        (_constant_ramp, "100 % of full light at level 28"),
        (_other_size, "images of a Gray code"),
        (_second_size, "as the first white capture has"),
        (_falling, "a ramp of red that falls"),
        (_size, "frames of different sizes"),
        (_description, "no setup.yaml"),
        (_levels, "levels [255, 10]"),
    ],
)
def test_bad_captures_are_refused(captured, tmp_path, capsys, spoil, words):
    folder, one = copied(captured, tmp_path)
    spoil(folder, one)
    assert main(["convert", "projection", str(folder), "-o", str(tmp_path / "s.zarr")]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not (tmp_path / "s.zarr").exists()


def test_a_projector_that_nobody_sees_is_left_out(captured, tmp_path):
    folder, one = copied(captured, tmp_path)
    black = (one / "black.png").read_bytes()
    for path in one.glob("*.png"):
        path.write_bytes(black)
    with pytest.warns(UserWarning, match="'projector_0' is seen by no camera pixel"):
        setup = calibrate(open_captures(folder))
    assert [p.name for p in setup.projectors] == ["projector_1"]


def test_targets_of_many_kinds(tmp_path):
    from infield.datasets.projection_mapping.images import fit_to, read_picture

    rng = np.random.default_rng(0)
    grey = rng.integers(0, 255, (30, 60), dtype=np.uint8)
    write_png(tmp_path / "grey.png", grey)
    write_png(tmp_path / "deep.png", (257 * np.stack([grey] * 3, -1).astype(np.uint16)))
    cv2.imwrite(str(tmp_path / "alpha.png"), np.dstack([grey, grey, grey, np.full_like(grey, 128)]))
    pictures = {n: read_picture(tmp_path / f"{n}.png") for n in ("grey", "deep", "alpha")}
    np.testing.assert_allclose(pictures["grey"].code, pictures["deep"].code)
    assert "alpha over black" in pictures["alpha"].notes and pictures["alpha"].code.max() < 0.8
    fitted = fit_to(pictures["grey"], (30, 40))
    assert fitted.code.shape == (3, 30, 40) and "cropped" in fitted.notes[-1]
    np.testing.assert_allclose(fitted.code[0], grey[:, 10:50] / 255, atol=1e-6)
    (tmp_path / "text.png").write_text("no picture")
    assert main(["project", "none.zarr", "--target", "t.png", "-o", str(tmp_path / "o")]) == 2
