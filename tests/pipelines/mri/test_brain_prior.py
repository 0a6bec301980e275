"""The road of MRI without restricted data: synthetic brains, a prior of them, raw k-space, its posterior."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

from infield import InfieldError
from infield.core.grid import Grid
from infield.core.randomness import SampleStreams
from infield.datasets.formats.measurement import open_measurement
from infield.datasets.mri.brains import BrainPhantom
from infield.datasets.mri.kspace import fourier
from infield.pipelines.commands.fit import run
from infield.pipelines.package_data import CONFIGS
from infield.priors.base import denoise
from infield.priors.storage.checkpoint import load_flow_prior

CONFIG = CONFIGS / "fit_brain_2d.yaml"
SMALL = {
    "model.init_args.network.init_args.network.init_args.widths": "[8,8]",
    "model.init_args.network.init_args.patch": "[16,16]",
    "model.init_args.network.init_args.overlap": "[4,4]",
    "data.init_args.batch_size": 8,
    "trainer.max_steps": 3,
    "trainer.accelerator": "cpu",
    "trainer.logger": "false",
    "trainer.enable_progress_bar": "false",
    "trainer.enable_model_summary": "false",
}


@pytest.fixture(scope="module")
def brains(tmp_path_factory):
    """Sixteen samples at 32 points, and the prior that three steps of the configuration make of them."""
    from infield.pipelines.cli import main

    folder = tmp_path_factory.mktemp("brains")
    arguments = ["--samples", "16", "--points", "32", "--workers", "1", "--json"]
    assert main(["simulate", "brain", "-o", str(folder / "b.zarr"), *arguments]) == 0
    values = {**SMALL, "data.init_args.path": folder / "b.zarr", "trainer.default_root_dir": folder / "run"}
    assert run(["--config", str(CONFIG), *(word for k, v in values.items() for word in (f"--{k}", str(v)))]) == 0
    return folder


def coils(image, count=4):
    """Complete k-space of an image by a few smooth coils, `(coil, ky, kx)`."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in image.shape), indexing="ij")
    angles = np.arange(count) * 2 * np.pi / count
    maps = np.stack([np.exp(-0.5 * ((y - np.cos(a)) ** 2 + (x - np.sin(a)) ** 2) + 1j * a) for a in angles])
    return fourier(maps / np.sqrt((np.abs(maps) ** 2).sum(0)) * image)


def test_from_a_simulation_to_a_posterior(brains, tmp_path, infield, reconstruct):
    """A prior of 32 x 32 points serves a slice of another matrix and field of view, brought to its spacing."""
    image = xr.open_zarr(brains / "b.zarr", consolidated=False)["image"][0].values.astype(complex)
    rng = np.random.default_rng(0)
    k = np.zeros((4, 48, 40), dtype=complex)
    k[:, 8:40, 4:36] = coils(image)  # the same image, finer
    k += 0.02 * (rng.standard_normal(k.shape) + 1j * rng.standard_normal(k.shape))
    np.save(tmp_path / "k.npy", k)
    options = ("--voxel", 5.0, 6.0, "--resolution", 7.5, "--acceleration", 2, "--centre-fraction", 0.4)
    facts = infield("convert", "mri", tmp_path / "k.npy", "-o", tmp_path / "m.zarr", *options, "--json").summary
    assert facts["shape"] == [32, 32] and facts["truth"]
    measurement = open_measurement(tmp_path / "m.zarr")
    prior = load_flow_prior(brains / "run" / "prior.ckpt").on(measurement.grid)
    draw = torch.randn(1, 2, 32, 32, dtype=torch.float64)
    assert prior.channels == ("real", "imag") and prior.velocity(draw, 0.5).shape == draw.shape
    said = reconstruct(tmp_path / "m.zarr", "-o", tmp_path / "p.zarr", "--prior", brains / "run" / "prior.ckpt",
                       "--samples", 2, "--with", "levels=6", "--json")  # fmt: skip
    assert said.summary["chi_square"] < 3
    mean = xr.open_zarr(tmp_path / "p.zarr", consolidated=False)["mean"].values
    truth = measurement.truth[0].numpy()
    assert np.linalg.norm(mean - truth) < 0.6 * np.linalg.norm(truth)  # three steps of training teach little


def test_another_spacing_is_refused_in_one_line(brains, tmp_path, infield, reconstruct):
    np.save(tmp_path / "k.npy", coils(np.ones((40, 40)) * np.hanning(40)))
    infield("convert", "mri", tmp_path / "k.npy", "-o", tmp_path / "pixels.zarr")
    infield("convert", "mri", tmp_path / "k.npy", "-o", tmp_path / "mm.zarr", "--voxel", 5, 5)
    prior = ("--prior", brains / "run" / "prior.ckpt", "-o", tmp_path / "p.zarr")
    reconstruct(tmp_path / "pixels.zarr", *prior).refused("found coordinates in pixel, expected mm")
    reconstruct(tmp_path / "mm.zarr", *prior).refused("its spacing along 'y' is 7.5 mm: found a spacing of 5")
    with pytest.raises(InfieldError, match="spacing"):
        load_flow_prior(brains / "run" / "prior.ckpt").on(
            Grid.regular((32, 32), (220.0, 220.0), units="mm", periodic=True)
        )


class _Nothing(torch.nn.Module):
    """A network that has learned nothing: the prior is the Gaussian with its spectrum."""

    def __init__(self):
        super().__init__()
        self.none = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x, t):
        return 0 * x


def test_the_shipped_prior_knows_more_than_a_spectrum():
    """It takes noise off brains that it has not seen better than the Gaussian with its own spectrum does."""
    path = CONFIG.parents[1] / "checkpoints" / "brain_2d.ckpt"
    assert path.stat().st_size <= 10e6
    prior = load_flow_prior(path)
    grid = Grid.from_json(prior.grid_description)
    assert prior.channels == ("real", "imag") and [round(axis.spacing, 4) for axis in grid.axes] == [1.875, 1.875]
    image = BrainPhantom().draw(grid, SampleStreams(2000, [0, 1]).normal)
    x = prior.standardisation.from_units(torch.stack([image.real, image.imag], dim=1))
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for t in (0.5, 0.8):
        noisy = t * x + (1 - t) * noise
        errors = [(denoise(one, noisy, t) - x).square().mean() for one in (prior, replace(prior, network=_Nothing()))]
        assert errors[0] < 0.4 * errors[1]
    elsewhere = prior.on(Grid.regular((96, 123), (180.0, 230.0), units="mm", periodic=True))
    z = torch.randn(1, 2, 96, 123, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert elsewhere.velocity(z, 0.5).isfinite().all()
