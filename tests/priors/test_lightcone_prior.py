"""The conditional prior of lightcones: its limit without a network, its parts of a line of sight, its file."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import infield.priors.lightcone_flow as lightcone_flow
from infield import InfieldError
from infield.priors.checkpoint import export_prior
from infield.priors.lightcone_matching import EARLIEST, EARLY, draw_times
from infield.priors.lightcones import LightconePrior, colour, from_entry, load_lightcone_prior, times, to_entry
from infield.priors.local_unet import LocalUNet
from infield.priors.modes import Hartley
from infield.priors.prior import Prior, heun
from infield.priors.slice_statistics import SliceStatistics
from infield.priors.voxel_transform import VoxelTransform

HERE = {"ION_Tvir_MIN": 4.8, "HII_EFF_FACTOR": 131.0}
DEPTH = 96


def prior(trained=True, **changes) -> LightconePrior:
    """With weights that no training found: random ones, or those before it."""
    generator = torch.Generator().manual_seed(0)
    network, statistics = LocalUNet(2, 7, 2, (8, 8)), SliceStatistics(2, 2, 16)
    with torch.no_grad():
        for weights in [*network.parameters()] * trained + [*statistics.parameters()]:
            weights.copy_(torch.randn(weights.shape, generator=generator) / weights[0].numel() ** 0.5)
        statistics.layers[-1].bias[1] = -0.3  # not all is ionised
    settings = {
        "name": "flow of lightcones",
        "network": network.eval().requires_grad_(False),
        "statistics": statistics.eval().requires_grad_(False),
        "transform": VoxelTransform("linear", mean=5.0, scale=20.0, fill=False),
        "ranges": {"ION_Tvir_MIN": (4.0, 6.0), "HII_EFF_FACTOR": (10.0, 250.0)},
        "cell": 4.0,
        "points": (8, 8),
        "distance": 8900 + 4.0 * np.arange(DEPTH),
        "redshift": np.linspace(7.5, 9, DEPTH),
        "spectrum": torch.ones(2, 8, 8, 32),
        "coloured": False,
        "provenance": {"kind": "lightcones"},
    }
    return LightconePrior(**{**settings, **changes})


def test_before_training_draws_have_the_mean_and_the_spread_of_slices():
    one = prior(trained=False)
    cones = one.draw(HERE, torch.Generator().manual_seed(1), n=24, steps=12)
    flow = one.at(HERE)
    mu, sigma = flow.profiles.mu[0], flow.profiles.sigma[0]
    zeros = (cones == 0).double().mean((0, 1, 2))
    expected = torch.distributions.Normal(0, 1).cdf(mu[1] / sigma[1])
    n = 24 * 64
    assert ((zeros - expected).abs() < 5 * (expected * (1 - expected) / n).sqrt() + 0.003).all()
    some = expected < 0.9
    neutral = (cones.double() * (cones != 0)).sum((0, 1, 2)) / (cones != 0).sum((0, 1, 2))
    told, spread = 5 + 20 * mu[0], 20 * sigma[0]
    assert some.any() and ((neutral - told).abs() < 5 * spread / (n / 10) ** 0.5 + 0.003 * spread)[some].all()
    # A control: at other parameters these are another history.
    (other,) = (prior(trained=False).at({**HERE, "ION_Tvir_MIN": 5.9}).profiles.mu,)
    assert (other[0, 0] - mu[0]).abs().max() > 0.05


def test_before_training_draws_from_a_coloured_source_have_its_spectrum():
    """The first term of the velocity is the exact flow of that Gaussian, here with a known error of Heun's method."""
    k = torch.fft.fftfreq(8).abs()
    across = torch.sqrt(k[:, None, None] ** 2 + k[None, :, None] ** 2 + torch.fft.fftfreq(32).abs() ** 2)
    spectrum = ((0.15 / (0.15 + across)) ** 3).expand(2, 8, 8, 32)
    spectrum = spectrum / spectrum.mean()
    one = prior(
        trained=False, coloured=True, spectrum=spectrum, transform=VoxelTransform("linear", 0.0, 1.0, atom=True)
    )
    flow = one.at(HERE, cells=slice(0, 32))
    x_0 = colour(torch.randn(400, 2, 8, 8, 32, generator=torch.Generator().manual_seed(1)), spectrum)
    x_1 = heun(flow, x_0, times(12, coloured=True))
    for x in (x_0, x_1):
        found = Hartley(3).analyse(x).square().mean(0)
        assert abs(float((found / spectrum).mean()) - 1) < 0.02
        assert float((found / spectrum - 1).abs().max()) < 0.45  # 400 draws: 7 % each
    assert float((x_1 - x_0).square().mean()) < 0.02  # from the law to itself it goes nowhere
    white = replace(flow, coloured=False)
    assert torch.equal(white.source.diagonal, torch.ones_like(white.source.diagonal))
    assert torch.allclose(flow.source.diagonal, spectrum.double())


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
    assert isinstance(part, Prior) and part.covariance.event_shape == part.source.event_shape == (2, 8, 8, 32)


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
    temperature = one.temperature(flow, x)[:, 0]
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
    one = prior(spectrum=torch.rand(2, 8, 8, 32).flip(1) + 1)
    torch.save({"infield_lightcones": to_entry(one)}, tmp_path / "last.ckpt")
    export_prior(tmp_path / "last.ckpt", tmp_path / "lightcones.ckpt")
    again = load_lightcone_prior(tmp_path / "lightcones.ckpt")
    draws = [p.draw(HERE, torch.Generator().manual_seed(1), steps=3) for p in (one, again)]
    assert torch.equal(*draws)
    assert again.ranges == one.ranges and again.points == (8, 8) and len(again.sha256) == 64
    assert np.array_equal(again.distance, one.distance)
    entry = to_entry(one)
    assert torch.allclose(from_entry(entry).spectrum, from_entry(to_entry(from_entry(entry))).spectrum)
    del entry["statistics"]
    torch.save({"infield_lightcones": entry}, tmp_path / "damaged.ckpt")
    with pytest.raises(InfieldError, match=r"damaged.ckpt.*'statistics'"):
        load_lightcone_prior(tmp_path / "damaged.ckpt")
    with pytest.raises(InfieldError, match=r"expected a lightcones trained|no file there"):
        load_lightcone_prior(tmp_path / "missing.ckpt")


def test_small_times_are_not_rare():
    t = draw_times(20000, torch.Generator().manual_seed(0))
    assert ((t > 0) & (t < 1)).all()
    early = float((t < 0.01).double().mean())
    span = 2 * np.log((1 - EARLIEST) / EARLIEST)
    expected = 0.01 * (1 - EARLY) + EARLY * (np.log(0.01 / 0.99) - np.log(EARLIEST / (1 - EARLIEST))) / span
    assert abs(early - expected) < 0.002 and early > 4 * 0.01
