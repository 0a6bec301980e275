"""`infield project` on a set-up without errors: masks, corrections of the warp, sequences, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from examples.projection import picture, scene, shown
from PIL import Image, ImageOps

from infield.datasets.projection_mapping.images import read_codes, read_picture, write_png
from infield.datasets.projection_mapping.setup_file import write_setup
from infield.pipelines.cli import main

pytest.importorskip("cv2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    at = tmp_path_factory.mktemp("project")
    truth = scene(albedo=0.7).truth()
    write_setup(at / "truth.zarr", truth)
    moved = tuple(replace(p, warp=p.warp + np.array([0.0, 3.0])[:, None, None]) for p in truth.projectors)
    write_setup(at / "moved.zarr", replace(truth, projectors=moved))
    code = np.round(255 * picture(truth.shape, 0.2, 0.8).transpose(1, 2, 0)).astype(np.uint8)
    write_png(at / "t.png", code)
    return at


def project(folder, out, *more, setup="truth.zarr", target=("--target", "t.png")):
    words = [str(folder / w) if w.endswith((".png", ".npy")) else w for w in (*target, *more)]
    return main(["project", str(folder / setup), "-o", str(out), "--iterations", "0", "--json", *words])


def codes_of(out):
    return [read_codes(out / f"projector_{p}.png") for p in range(2)]


def test_a_mask_keeps_the_surface_dark(folder, tmp_path, capsys):
    rendered = scene(albedo=0.7)
    keep = np.zeros(rendered.shape, np.uint8)
    keep[:, rendered.shape[1] // 2 :] = 255
    write_png(folder / "mask.png", keep)
    assert project(folder, tmp_path / "whole") == 0 and project(folder, tmp_path / "half", "--mask", "mask.png") == 0
    whole, half = (shown(rendered, codes_of(tmp_path / n)) for n in ("whole", "half"))
    black = rendered.light([None, None])
    left, right = np.s_[:, 4:-4, 4:20], np.s_[:, 4:-4, 30:-4]
    assert (half - black)[left].mean() < 0.05 * (whole - black)[left].mean()
    np.testing.assert_allclose(half[right].mean(), whole[right].mean(), rtol=0.05)
    assert not read_codes(tmp_path / "half" / "appearance.png")[:, :20].any()
    write_png(folder / "small.png", keep[:5])
    capsys.readouterr()
    assert project(folder, tmp_path / "bad", "--mask", "small.png") == 2
    assert "those of the camera" in capsys.readouterr().err and not (tmp_path / "bad").exists()


def test_a_correction_of_the_warp(folder, tmp_path, capsys):
    np.save(folder / "back.npy", np.broadcast_to([0.0, -3.0], (2, 3, 2)))
    assert project(folder, tmp_path / "right") == 0
    assert project(folder, tmp_path / "moved", setup="moved.zarr") == 0
    assert project(folder, tmp_path / "mended", "--warp-correction", "back.npy", setup="moved.zarr") == 0
    right, moved, mended = (np.concatenate([c.ravel().astype(int) for c in codes_of(tmp_path / n)])
                            for n in ("right", "moved", "mended"))  # fmt: skip
    assert np.abs(mended - right).mean() < 0.05 and np.abs(moved - right).mean() > 2
    np.save(folder / "flat.npy", np.zeros((2, 3)))
    (folder / "text.npy").write_text("no array")
    capsys.readouterr()
    for name, words in (("flat.npy", "(rows, columns, 2)"), ("text.npy", "no array"), ("none.npy", "nothing there")):
        assert project(folder, tmp_path / "bad", "--warp-correction", name) == 2
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1 and not (tmp_path / "bad").exists()


def test_a_sequence(folder, tmp_path, capsys):
    frames, code = tmp_path / "frames", read_codes(folder / "t.png")
    frames.mkdir()
    for i, factor in enumerate((1.0, 0.5)):
        write_png(frames / f"frame_{i:03d}.png", (factor * code).astype(np.uint8))
    target = ("--frames", str(frames))
    assert project(folder, tmp_path / "out", "--exposure", "0.3", target=target) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["frames"] == 2 and facts["frames_per_second"] > 0
    assert project(folder, tmp_path / "one", "--exposure", "0.3") == 0
    for p, one in enumerate(codes_of(tmp_path / "one")):
        first, second = (read_codes(tmp_path / f"out/projector_{p}/frame_{i:03d}.png") for i in (0, 1))
        np.testing.assert_array_equal(first, one)
        assert second.mean() < 0.9 * first.mean()
    capsys.readouterr()
    (tmp_path / "empty").mkdir()
    assert project(folder, tmp_path / "bad", target=("--frames", str(tmp_path / "empty"))) == 2
    assert "no pictures" in capsys.readouterr().err and not (tmp_path / "bad").exists()


def test_a_gamut_that_is_one_point(folder, tmp_path, capsys):
    truth = scene(albedo=0.7).truth()
    dark = tuple(replace(p, mixing=0 * p.mixing) for p in truth.projectors)
    write_setup(tmp_path / "dark.zarr", replace(truth, projectors=dark))
    assert project(tmp_path, tmp_path / "bad", setup="dark.zarr", target=("--target", str(folder / "t.png"))) == 2
    error = capsys.readouterr().err
    assert "one point" in error and error.count("\n") == 1 and not (tmp_path / "bad").exists()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photograph_is_read_upright(tmp_path, orientation):
    """As Pillow turns it; control: the stored values of the others differ."""
    values = np.random.default_rng(0).integers(0, 255, (5, 7, 3)).astype(np.uint8)
    image = Image.fromarray(values)
    exif = image.getexif()
    exif[274] = orientation
    image.save(tmp_path / "p.png", exif=exif)
    with Image.open(tmp_path / "p.png") as stored:
        upright = np.asarray(ImageOps.exif_transpose(stored))
    found = read_picture(tmp_path / "p.png")
    np.testing.assert_array_equal(np.round(255 * found.code.transpose(1, 2, 0)), upright)
    assert bool(found.notes) == (orientation > 1) == (not np.array_equal(values, upright))
