"""The conditional prior of lightcones: its limit without a network, its parts of a line of sight, its file."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import infield.priors.cm21.flow as lightcone_flow
from infield import InfieldError
from infield.priors.base import FlowPrior
from infield.priors.cm21.box_repeats import BoxRepeatNetwork
from infield.priors.cm21.linear_correction import LinearCorrection
from infield.priors.cm21.prior import LightconePrior
from infield.priors.cm21.prior_entry import load_lightcone_prior, to_entry
from infield.priors.cm21.slice_spectra import KNOTS, SliceSpectra
from infield.priors.cm21.slice_statistics import SliceStatistics
from infield.priors.cm21.training import draw_times
from infield.priors.cm21.voxel_transform import VoxelTransform
from infield.priors.networks.local_unet import LocalUNet
from infield.priors.storage.checkpoint import export_prior

HERE = {"ION_Tvir_MIN": 4.8, "HII_EFF_FACTOR": 131.0}
DEPTH = 96


def prior(trained=True, **changes) -> LightconePrior:
    """With weights that no training found: random ones, or those before it."""
    generator = torch.Generator().manual_seed(0)
    network, statistics, spectra = LocalUNet(2, 10, 2, (8, 8)), SliceStatistics(2, 2, 16), SliceSpectra(2, 2, 16)
    with torch.no_grad():
        falling = torch.linspace(1.0, -2.5, KNOTS).repeat(4)  # red
        spectra.layers[-1].bias.copy_(falling)
        for weights in [*network.parameters()] * trained + [*statistics.parameters()]:
            weights.copy_(torch.randn(weights.shape, generator=generator) / weights[0].numel() ** 0.5)
        statistics.layers[-1].bias[1] = -0.3  # not all is ionised
    settings = {
        "name": "flow of lightcones",
        "network": network.eval().requires_grad_(False),
        "statistics": statistics.eval().requires_grad_(False),
        "spectra": spectra.eval().requires_grad_(False),
        "repeats": BoxRepeatNetwork(2, 2, 8, 16).eval().requires_grad_(False),
        "linear_part": LinearCorrection(2, 2, 16).eval().requires_grad_(False),
        "drawn": white(1),
        "transform": VoxelTransform("linear", mean=5.0, scale=20.0, fill=False),
        "ranges": {"ION_Tvir_MIN": (4.0, 6.0), "HII_EFF_FACTOR": (10.0, 250.0)},
        "cell": 4.0,
        "points": (8, 8),
        "distance": 8900 + 4.0 * np.arange(DEPTH),
        "redshift": np.linspace(7.5, 9, DEPTH),
        "provenance": {"kind": "lightcones"},
    }
    return LightconePrior(**{**settings, **changes})


def white(channels=2):
    spectra = SliceSpectra(2, channels, 16)
    return spectra.eval().requires_grad_(False)


@pytest.mark.slow
def test_before_training_draws_have_the_mean_and_the_spread_of_slices():
    one = prior(trained=False, spectra=white())
    cones = one.draw(HERE, torch.Generator().manual_seed(1), n=24, steps=12)
    flow = one.at(HERE)
    mu, sigma = flow.profiles.mu[0], flow.profiles.sigma[0]
    zeros = (cones == 0).double().mean((0, 1, 2))
    expected = torch.distributions.Normal(0, 1).cdf(mu[1] / sigma[1])
    n = 24 * 64
    assert ((zeros - expected).abs() < 5 * (expected * (1 - expected) / n).sqrt() + 0.003).all()
    xi = one.innovations(flow, torch.Generator().manual_seed(1), 24, 12)
    temperature = flow.standardisation.to_units(xi)[:, 0].double().mean((0, 1, 2))  # before zeros are set
    told, spread = 5 + 20 * mu[0], 20 * sigma[0]
    assert ((temperature - told).abs() < 5 * spread / n**0.5 + 0.003 * spread).all()
    # A control: at other parameters these are another history.
    (other,) = (prior(trained=False).at({**HERE, "ION_Tvir_MIN": 5.9}).profiles.mu,)
    assert (other[0, 0] - mu[0]).abs().max() > 0.05


@pytest.mark.slow
def test_before_training_draws_are_gaussian_lightcones_of_the_spectra():
    """The first term of the velocity is the exact flow of white noise to itself, and exactly taken:
    what is drawn is the noise that it started from, coloured."""
    one = prior(trained=False, transform=VoxelTransform("linear", 0.0, 1.0, atom=True))
    flow = one.at(HERE, cells=slice(0, 64))
    xi = torch.randn(50, 2, 8, 8, 64, generator=torch.Generator().manual_seed(1))
    drawn = one.evolved(flow, xi, 2)
    assert float((drawn - xi).square().mean()) < 1e-10
    spread = flow.standardisation.scale[0, 0, 0].float()
    x = (flow.standardisation.to_units(drawn) - flow.standardisation.shift)[:, 0] / spread
    power = torch.fft.fft(x, dim=1, norm="ortho").abs().square().mean((0, 2, 3))
    told = torch.fft.fft(flow.innovations.colour(xi)[:, 0], dim=1, norm="ortho").abs().square().mean((0, 2, 3))
    assert float((power / told - 1).abs().max()) < 0.05 and power[1] > 4 * power[4]
    assert torch.equal(flow.source.diagonal, torch.ones(2, 8, 8, 64)) and flow.covariance is flow.source


def test_what_power_draws_have_too_much_of_is_taken_out():
    half = white(1)
    half.layers[-1].bias.fill_(math.log(0.5))  # of the amplitude of what is drawn
    one, other = prior().at(HERE), prior(drawn=half).at(HERE)
    xi = torch.randn(1, 2, 8, 8, DEPTH, generator=torch.Generator().manual_seed(3))
    units = [flow.standardisation for flow in (one, other)]
    fields, twice = ((part.to_units(xi) - part.shift)[0].std((1, 2, 3)) for part in units)
    assert torch.allclose(twice, torch.tensor([2.0, 1.0]) * fields, rtol=1e-3)  # of the temperature
    assert torch.equal(one.velocity(xi, 0.4), other.velocity(xi, 0.4))  # the network sees what it was trained on


def test_stretches_with_their_halos_are_the_whole_cone(monkeypatch):
    flow = replace(prior().at(HERE, cells=slice(0, 90)), half=False)  # 90 is no multiple of the coarsest cell
    x = torch.randn(2, 2, 8, 8, 90, generator=torch.Generator().manual_seed(2))
    monkeypatch.setattr(lightcone_flow, "STRETCH", 1024)
    whole = flow.velocity(x, 0.4)
    monkeypatch.setattr(lightcone_flow, "STRETCH", 32)
    assert torch.allclose(flow.velocity(x, 0.4), whole, atol=1e-5) and whole.std() > 0.1
    monkeypatch.setattr(LocalUNet, "reach", 0)
    assert not torch.allclose(flow.velocity(x, 0.4), whole, atol=1e-2)


def test_a_part_of_the_line_of_sight_knows_where_it_is():
    one = prior()
    part, same, other = (one.at(HERE, cells=cells) for cells in (slice(40, 72), slice(40, 72), slice(0, 32)))
    assert torch.equal(part.profiles.mu, one.at(HERE).profiles.mu[..., 40:72])
    x = torch.randn(1, 2, 8, 8, 32, generator=torch.Generator().manual_seed(2))
    assert torch.equal(part.velocity(x, 0.5), same.velocity(x, 0.5))
    assert not torch.allclose(part.velocity(x, 0.5), other.velocity(x, 0.5), atol=1e-3)
    assert isinstance(part, FlowPrior) and part.covariance.event_shape == part.source.event_shape == (2, 8, 8, 32)


def test_other_boxes_and_counts():
    one = prior()
    assert one.draw(HERE, torch.Generator().manual_seed(1), n=2, points=(16, 8), steps=2).shape == (2, 16, 8, DEPTH)
    with pytest.raises(InfieldError, match="found 6 x 8 cells across, expected multiples of 4"):
        one.draw(HERE, torch.Generator(), points=(6, 8), steps=2)
    with pytest.raises(InfieldError, match="found no cell"):
        one.at(HERE, cells=slice(200, 210))


def test_standardised_fields_are_temperatures_where_the_transform_is_linear():
    one = prior()
    flow = one.at(HERE)
    x = torch.randn(1, 2, 8, 8, DEPTH, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    temperature = one.temperature(flow, x)
    assert temperature.shape == (len(x), 1, *x.shape[2:])
    temperature = temperature[:, 0]
    in_units = flow.standardisation.to_units(x)
    neutral = in_units[:, 1] < 0
    assert torch.allclose(temperature[neutral], in_units[:, 0][neutral]) and (temperature[~neutral] == 0).all()
    assert flow.units == "mK" and prior(transform=VoxelTransform("yeo-johnson", 0.0, 1.0, 1.3)).at(HERE).units == "1"


def test_parameters_are_refused():
    one = prior()
    for parameters, words in (
        ({**HERE, "ION_Tvir_MIN": 6.5}, "ION_Tvir_MIN: found 6.5, expected 4 to 6"),
        ({**HERE, "HII_EFF_FACTOR": float("nan")}, "HII_EFF_FACTOR: found nan"),
        ({**HERE, "L_X": 40.0}, "unknown L_X, expected ION_Tvir_MIN, HII_EFF_FACTOR"),
        ({"ION_Tvir_MIN": 4.8}, "found no HII_EFF_FACTOR"),
    ):
        with pytest.raises(InfieldError, match=words):
            one.at(parameters)
    assert one.at({**HERE, "ION_Tvir_MIN": 6.5}, extrapolate=True).theta[0] == 1.25


def test_its_file_is_the_prior(tmp_path):
    one = prior()
    torch.save({"infield_lightcones": to_entry(one)}, tmp_path / "last.ckpt")
    export_prior(tmp_path / "last.ckpt", tmp_path / "lightcones.ckpt")
    again = load_lightcone_prior(tmp_path / "lightcones.ckpt")
    draws = [p.draw(HERE, torch.Generator().manual_seed(1), steps=3) for p in (one, again)]
    assert torch.equal(*draws)
    assert again.ranges == one.ranges and again.points == (8, 8) and len(again.sha256) == 64
    assert np.array_equal(again.distance, one.distance)
    entry = to_entry(one)
    del entry["spectra"]
    torch.save({"infield_lightcones": entry}, tmp_path / "damaged.ckpt")
    with pytest.raises(InfieldError, match=r"damaged.ckpt.*'spectra'"):
        load_lightcone_prior(tmp_path / "damaged.ckpt")
    with pytest.raises(InfieldError, match=r"expected a lightcones trained|no file there"):
        load_lightcone_prior(tmp_path / "missing.ckpt")


def test_times_are_uniform_and_stratified():
    t = draw_times(1000, torch.Generator().manual_seed(0))
    assert (t.sort().values - torch.linspace(0.0005, 0.9995, 1000)).abs().max() < 1e-3
    assert not torch.equal(t, t.sort().values)
