"""`infield project --paradigm cooperative`: the samples suit the set-up, and each is compensated for."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from examples.projection import scene

from infield.datasets.formats.posterior import open_posterior
from infield.datasets.projection_mapping.images import read_codes, write_png
from infield.datasets.projection_mapping.setup_file import write_setup
from infield.physics.projection_mapping.gamut_measurement import gamut_measurement
from infield.pipelines.cli import main
from infield.pipelines.projection_mapping.cooperation import to_camera

pytest.importorskip("cv2")
EXPOSURE = 0.35


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    at = tmp_path_factory.mktemp("cooperation")
    truth = scene("relief", "hard", albedo=0.7).truth()
    write_setup(at / "s.zarr", truth)
    write_setup(at / "flat.zarr", replace(truth, depth=None))
    (at / "p.yaml").write_text("prior: gaussian\nlaw: {law: matern, nu: 1.5, length: 6}\nmean: 0.5\nscale: 0.25\n")
    picture = np.zeros((36, 48, 3), np.uint8)
    picture[:, :24, 0] = picture[:, 24:, 2] = 200
    write_png(at / "like.png", picture)
    return at, truth


def project(at, out, *more, setup="s.zarr"):
    words = ["--prior", str(at / "p.yaml"), "--samples", "2", "--every", "4", "--exposure", str(EXPOSURE), *more]
    words += ["--iterations", "0", "--with", "levels=8", "--json", "-o", str(out)]
    return main(["project", str(at / setup), "--paradigm", "cooperative", *words])


def distances(truth, out):
    m = gamut_measurement(truth, EXPOSURE, 0.01, 4)
    with open_posterior(out / "posterior.zarr") as posterior:
        x = torch.from_numpy(posterior["samples"].values).double()
    return float(m.noise.distances(m.operator.A(x), m.observed).mean()), x


def test_samples_that_the_projectors_can_show(folder, tmp_path, capsys):
    """Distances far below those of the prior's own draws, which are the control; coarse colours as asked for."""
    at, truth = folder
    assert project(at, tmp_path / "free", "--tolerance", "100") == 0
    capsys.readouterr()
    assert project(at, tmp_path / "guided", "--seed", "0") == 0
    facts = json.loads(capsys.readouterr().out)
    assert "no draws of the posterior" in facts["caveat"] and facts["samples"] == 2
    (free, _), (guided, x) = distances(truth, tmp_path / "free"), distances(truth, tmp_path / "guided")
    assert free > 0.02 and guided < 0.2 * free
    assert float((x[0] - x[1]).abs().mean()) > 0.05
    for i in range(2):
        own = tmp_path / "guided" / f"sample_{i:03d}"
        assert read_codes(own / "sample.png").shape == (36, 48, 3)
        assert read_codes(own / "projector_1.png").any() and (own / "report.json").exists()
    assert project(at, tmp_path / "like", "--like", str(at / "like.png"), "20", "--edges", "1", "--depth", "1") == 0
    _, x = distances(truth, tmp_path / "like")
    left, right = x[..., :5].mean((-2, -1)), x[..., 7:].mean((-2, -1))
    assert (left[:, 0] > left[:, 2] + 0.1).all() and (right[:, 2] > right[:, 0] + 0.1).all()


def test_pictures_on_every_nth_pixel():
    y, x = np.meshgrid(np.arange(4.0), np.arange(5.0), indexing="ij")
    coarse = np.stack([y, x, y + x])
    fine = to_camera(coarse, (10, 13), 3)
    np.testing.assert_allclose(fine[:, ::3, ::3], coarse)
    assert fine[0, 1, 0] == pytest.approx(1 / 3) and to_camera(coarse, (4, 5), 1) is coarse


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--target", "x.png", "--prior", "p"], "leave the target out"),
        ([], "no prior"),
        (["--prior", "p", "--like", "x.png", "no"], "weight 'no'"),
        (["--prior", "p", "--depth", "1"], "no depth"),
        (["--prior", "p", "--sampler", "faster"], "sampler"),
    ],
)
def test_what_is_refused(folder, tmp_path, capsys, words, message):
    at, _ = folder
    words = [str(at / "p.yaml") if w == "p" else w for w in words]
    out = tmp_path / "out"
    assert main(["project", str(at / "flat.zarr"), "-o", str(out), "--paradigm", "cooperative", *words]) == 2
    assert message in capsys.readouterr().err and not out.exists()


def test_guides_belong_to_cooperation(folder, tmp_path, capsys):
    at, _ = folder
    assert main(["project", str(at / "s.zarr"), "-o", str(tmp_path / "o"), "--target", "x.png", "--edges", "1"]) == 2
    assert "--edges" in capsys.readouterr().err
    assert main(["project", str(at / "s.zarr"), "-o", str(tmp_path / "o")]) == 2
    assert "no picture" in capsys.readouterr().err
