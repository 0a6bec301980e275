"""The synthetic cohort: a scanner that measures what is there, subjects that are their numbers, files that resume."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from infield.core.errors import InfieldError
from infield.datasets.formats.simulation import open_simulation
from infield.datasets.pet.amyloid_law import AmyloidLaw
from infield.datasets.pet.brain_regions import GROUPS, NAMES
from infield.datasets.pet.phantom import SLICES, AmyloidPhantom
from infield.datasets.pet.scanner import Scanner
from infield.datasets.pet.training import RegionPairs
from infield.pipelines.cli import main
from infield.pipelines.pet import simulate

SMALL = Scanner(shape=(24, 24), spacing=8.0, angles=24, subsets=4, counts=2e5, psf=6.0, filter=8.0)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def disc(scanner, radius, fine):
    y, x = (torch.from_numpy(c) for c in scanner.coordinates(fine))
    return (torch.hypot(y[:, None], x) < radius).double()[None]


def test_scanner_recovers_a_disc_without_bias():
    """Mean over many scans equals noise-free data, which is the disc; without the attenuation it is not."""
    activity = 1.5 * disc(SMALL, 70.0, True)
    attenuation = SMALL.attenuation(disc(SMALL, 80.0, True))
    assert 0.15 < float(attenuation.min()) < 0.4 and float(attenuation.max()) <= 1
    inside = disc(SMALL, 40.0, False) > 0
    images = [SMALL.scan(activity, attenuation, rng(k)) for k in range(12)]
    noise_free = images[0][1]
    assert float(noise_free[inside].mean()) == pytest.approx(1.5, rel=0.02)
    means = torch.stack([image[inside].mean() for image, _ in images])
    assert abs(float(means.mean() - noise_free[inside].mean())) < 4 * float(means.std()) / 12**0.5
    assert float(means.std()) > 1e-3
    expected, *rest = SMALL.expected(activity, attenuation)
    wrong = SMALL.reconstruct(expected, torch.ones_like(attenuation), *rest)
    assert float(wrong[inside].mean()) < 0.8


def test_every_region_has_voxels_and_its_own_side(tmp_path):
    phantom = AmyloidPhantom()
    weights = phantom.region_weights.weights
    assert weights.shape == (len(NAMES), 5, 56, 48) and int((weights.flatten(1) > 0).sum(1).min()) > 30
    assert torch.allclose(weights.flatten(1).sum(1), torch.ones(len(NAMES), dtype=weights.dtype), atol=1e-5)
    x = torch.tensor(phantom.grid.axes[2].coordinates, dtype=weights.dtype)
    middle = (weights * x).flatten(1).sum(1)
    left = torch.tensor([name.endswith("left") for name in NAMES])
    assert (middle[left] < -3).all() and (middle[~left] > 3).all()
    assert GROUPS.count(-1) == 4 and AmyloidLaw().groups == GROUPS  # the law of vectors is that of the images


def test_a_subject_is_its_number_and_grows_where_the_law_says(tmp_path):
    phantom = AmyloidPhantom(scanner=Scanner(counts=1e9, randoms=0.0), heights=SLICES)
    a, again = phantom.subject(3, 5), phantom.subject(3, 5)
    assert all(torch.equal(a[k], again[k]) for k in a)
    assert not torch.equal(a["baseline"], phantom.subject(3, 6)["baseline"])
    law = a["follow_up_regions_law"] - a["baseline_regions_law"]
    seen = a["follow_up_regions_noise_free"] - a["baseline_regions_noise_free"]
    assert float(law.max()) > 0.05  # this one accumulates
    assert np.corrcoef(law, seen)[0, 1] > 0.9 and 0.3 < float((law @ seen) / (law @ law)) < 1
    factor = a["subject"][6]
    assert torch.allclose(a["baseline_regions"] / factor, a["baseline_regions_noise_free"], rtol=5e-3)
    assert float(factor) != 1


def test_the_command_resumes_and_is_reproducible(tmp_path, monkeypatch):
    whole, part = tmp_path / "a.zarr", tmp_path / "b.zarr"
    command = ["simulate", "pet", "--samples", "3", "--seed", "4", "--with", "angles=20", "--quiet", "-o"]
    monkeypatch.setattr(simulate, "BLOCK", 2)
    assert main([*command, str(whole)]) == 0
    real = simulate.draw_block

    def stopped(phantom, seed, samples, block):
        if block == 1:
            raise InfieldError("stopped")
        return real(phantom, seed, samples, block)

    monkeypatch.setattr(simulate, "draw_block", stopped)
    assert main([*command, str(part), "--workers", "1"]) == 2 and not part.exists()
    monkeypatch.setattr(simulate, "draw_block", real)
    assert main([*command, str(part)]) == 0
    a, b = open_simulation(whole), open_simulation(part)
    assert all(np.array_equal(a[k].values, b[k].values) for k in a.data_vars)
    assert a.attrs["synthetic"] == 1 and a["baseline"].dims == ("sample", "z", "y", "x")
    data = RegionPairs(str(whole), batch_size=2, validation=0.4)
    data.setup("fit")
    assert data.synthetic and data.regions == NAMES and len(data.held_out) == 1
    x_b, x_f, years = data.examples()
    assert x_b.shape == x_f.shape == (2, 26) and 0.5 <= float(years.min()) and float(years.max()) <= 5


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--with", "capcity=1"], "capcity"),
        (["--with", "counts=-1"], "counts above 0"),
        (["--with", "subsets=7"], "divide the angles"),
        (["--with", "counts=many"], "a number"),
        (["--years", "0", "2"], "a range above 0"),
    ],
)
def test_impossible_cohorts(tmp_path, capsys, extra, words):
    assert main(["simulate", "pet", "--samples", "2", "-o", str(tmp_path / "a.zarr"), *extra]) == 2
    assert words in capsys.readouterr().err and not list(tmp_path.iterdir())
