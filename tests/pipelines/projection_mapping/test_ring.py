"""Views around an object: what they share agrees, also between the last and the first; alone they do not."""

from __future__ import annotations

import json

import numpy as np
import pytest
from examples.projection import scene

from infield.core.errors import InfieldError
from infield.core.grid import Grid
from infield.datasets.projection_mapping.images import read_codes
from infield.datasets.projection_mapping.setup_file import write_setup
from infield.pipelines.cli import main
from infield.pipelines.projection_mapping.ring import Ring, cross_faded, draw_ring, open_ring, panorama, seams
from infield.posterior.samplers.diffpir import DiffPIR
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.prior import gaussian_prior

pytest.importorskip("cv2")
PRIOR = gaussian_prior(Matern(1.5, 3.0), Grid.regular((9, 12), (9.0, 12.0), units="1"), channels=3).in_units(0.5, 0.2)


@pytest.fixture(scope="module")
def ring():
    views = tuple(scene("relief", "hard", albedo=0.7, seed=s).truth() for s in (0, 1, 2))
    return Ring(("a", "b", "c"), views, 12)


def drawn(ring, joined):
    return draw_ring(ring, PRIOR, DiffPIR(levels=6), exposure=0.3, tolerance=0.02, every=4, joined=joined)


def test_views_agree_where_they_overlap(ring):
    """Within two standard deviations of 0.02, the last with the first too; control: views drawn alone."""
    together, alone = seams(drawn(ring, True), 3, True), seams(drawn(ring, False), 3, True)
    assert together["overlap"] < 0.04 < 0.1 < alone["overlap"]
    assert together["step"] < 2 < alone["step"]


def test_cross_fading_and_the_panorama():
    rng = np.random.default_rng(0)
    views = [rng.random((3, 2, 10)) for _ in range(3)]
    faded = cross_faded(views, 4, True)
    for v in range(3):
        np.testing.assert_array_equal(faded[v][..., -4:], faded[(v + 1) % 3][..., :4])
        np.testing.assert_array_equal(faded[v][..., 4:6], views[v][..., 4:6])
    np.testing.assert_allclose(faded[1][..., 0], 7 / 8 * views[0][..., -4] + 1 / 8 * views[1][..., 0])
    assert seams(faded, 4, True)["overlap"] == 0 < seams(views, 4, True)["overlap"]
    assert panorama(faded, 4, True).shape == (3, 2, 18) and panorama(faded, 4, False).shape == (3, 2, 22)
    flat = [np.broadcast_to(np.arange(10.0) + 6 * v, (3, 2, 10)) for v in range(3)]
    assert seams(flat, 4, False) == {"overlap": 0.0, "step": 1.0}


def test_the_command(ring, tmp_path, capsys):
    for name, setup in zip(ring.names, ring.setups, strict=True):
        write_setup(tmp_path / f"{name}.zarr", setup)
    (tmp_path / "p.yaml").write_text("prior: gaussian\nlaw: {law: matern, nu: 1.5, length: 3}\nmean: 0.5\nscale: 0.2\n")
    (tmp_path / "ring.yaml").write_text("views: [a.zarr, b.zarr, c.zarr]\noverlap: 12\n")
    words = ["project", "--views", str(tmp_path / "ring.yaml"), "--paradigm", "cooperative", "--every", "4"]
    words += ["--prior", str(tmp_path / "p.yaml"), "--samples", "1", "--iterations", "0", "--with", "levels=4"]
    assert main([*words, "-o", str(tmp_path / "OUT"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["views"] == 3 and facts["overlap"] == 0 and "no draws of the posterior" in facts["caveat"]
    own = tmp_path / "OUT" / "sample_000"
    assert read_codes(own / "panorama.png").shape == (9, 27, 3)
    assert read_codes(own / "b" / "projector_0.png").any()
    a, b = (read_codes(own / n / "sample.png") for n in "ab")
    np.testing.assert_array_equal(a[:, -12::4], b[:, :12:4])
    assert main([*words, "-o", str(tmp_path / "bad"), str(tmp_path / "a.zarr")]) == 2
    assert "which name their set-ups" in capsys.readouterr().err
    assert main([*words[:-8], "--every", "5", *words[-8:], "-o", str(tmp_path / "bad")]) == 2
    assert "multiples" in capsys.readouterr().err and not (tmp_path / "bad").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("views: [a.zarr]\noverlap: 12", "at least 2"),
        ("views: [a.zarr, a.zarr]\noverlap: 40", "1 to 16"),
        ("views: [a.zarr, small.zarr]\noverlap: 12", "one size"),
        ("views: [", "no description"),
    ],
)
def test_what_is_refused(ring, tmp_path, text, words):
    write_setup(tmp_path / "a.zarr", ring.setups[0])
    write_setup(tmp_path / "small.zarr", scene("plane", height=24).truth())
    (tmp_path / "ring.yaml").write_text(text)
    with pytest.raises(InfieldError, match=words):
        open_ring(tmp_path / "ring.yaml")
