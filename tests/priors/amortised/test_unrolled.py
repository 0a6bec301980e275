"""Unrolled networks: deepinv's loop where they are MoDL, the posterior mean where it is known, and files."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Generator, nn

from infield import InfieldError
from infield.core._deepinv import MoDL
from infield.core.grid import Grid
from infield.datasets.mri.operator_family import UndersampledKspace
from infield.datasets.training.operator_families import Deblurring, Inpainting
from infield.physics.operators.sensors import Mask
from infield.priors.amortised import base as supervised
from infield.priors.amortised.average_velocity import HALF_NOISE
from infield.priors.amortised.unrolled import Unrolled, data_step, from_entry, load_unrolled, to_entry
from infield.priors.base import Standardisation
from infield.priors.networks.mlp import Perceptron
from infield.priors.networks.unet import UNet
from infield.priors.training.measurement_family import FamilyTraining, measured, standardisation_of, survey
from infield.priors.training.posterior_mean import PosteriorMean

POINTS = 6
GRID = Grid.regular((POINTS,), 1.0, periodic=True)
DISTANCE = (torch.arange(POINTS)[:, None] - torch.arange(POINTS)).abs()
COVARIANCE = torch.exp(-torch.minimum(DISTANCE, POINTS - DISTANCE).double() / 2)
"""Of the fields of these tests: unit variance, neighbours alike."""


def model_of(network, variances, shape=(1, POINTS), units=None) -> Unrolled:
    one = torch.ones(shape[0], *[1] * (len(shape) - 1), dtype=torch.float64)
    return Unrolled(
        name="test",
        network=network,
        standardisation=units or Standardisation(0 * one, one),
        event_shape=shape,
        noise=(0.0, 0.5),
        serves={"operator": "mask", "numbers": {"observed": [0.2, 0.8]}},
        variances=torch.as_tensor(variances, dtype=torch.float64),
    )


def draws(n: int, seed: int) -> torch.Tensor:
    white = torch.randn((n, 1, POINTS), generator=Generator().manual_seed(seed), dtype=torch.float64)
    return white @ torch.linalg.cholesky(COVARIANCE).T


def exact_mean(operator, y: torch.Tensor, s: float) -> torch.Tensor:
    """C A^T (A C A^T + s^2 I)^-1 y, by dense algebra."""
    A = torch.stack([operator.A(e[None, None]).flatten() for e in torch.eye(POINTS, dtype=torch.float64)], dim=1)
    gain = COVARIANCE @ A.T @ torch.linalg.inv(A @ COVARIANCE @ A.T + s**2 * torch.eye(len(A)))
    return (y.flatten(1).double() @ gain.T).reshape(-1, 1, POINTS)


class Shrinks(nn.Module):
    """D(x) = 0.7 x + 0.1 roll(x), whatever it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def denoise(self, x):
        return 0.7 * x + 0.1 * x.roll(1, -1)

    def forward(self, x, numbers):
        x = x[:, : x.shape[1] // 3]
        return self.denoise(x) - x


@pytest.mark.parametrize(
    "family, channels, shape",
    [
        (Inpainting((0.5, 0.5)), 1, (8,)),
        (Deblurring((1.0, 1.0)), 1, (8, 8)),
        (Deblurring((1.0, 1.0), "zero"), 1, (8, 8)),
        (UndersampledKspace(accelerations=(2.0,)), 2, (16, 16)),
    ],
)
def test_it_is_deepinvs_modl_where_that_is_told_the_same(family, channels, shape):
    """Half-quadratic splitting with the same weights; theirs starts with the adjoint, which the first weight makes."""
    grid, s, v = Grid.regular(shape, 1.0, periodic=True), 0.3, [0.2, 0.4, 0.1]
    operator = family.draw(grid, channels, Generator().manual_seed(0))
    y = operator.A(torch.randn((2, channels, *shape), generator=Generator().manual_seed(1), dtype=torch.float64))
    network = Shrinks()
    ours = model_of(network, v, (channels, *shape)).estimate(operator, y, s)
    theirs = MoDL(lambda x, sigma, **_: network.denoise(x), num_iter=3).double()
    for step, variance in zip(theirs.init_params_algo["stepsize"], v, strict=True):
        step.data.fill_(variance / s**2)
    # theirs: prox, D, prox, D, prox, D from A^T y; ours: prox from 0, D, prox, D, prox
    with torch.no_grad():
        expected = theirs(y, operator, init=torch.zeros_like(ours))
        assert torch.allclose(network.denoise(ours), expected, rtol=1e-6, atol=1e-6)
        other = model_of(network, [0.2, 0.4, 0.3], (channels, *shape)).estimate(operator, y, s)
        assert not torch.allclose(network.denoise(other), expected, rtol=1e-2, atol=1e-2)


class TrainsOn:
    """A trainer and its data module, as far as `setup` looks."""

    global_rank = 0

    def __init__(self, fields: torch.Tensor, grid: Grid = GRID) -> None:
        data = SimpleNamespace(grid=grid, grid_description={}, units="1", channels=("a",), examples=lambda: fields)
        self.datamodule, self.strategy = data, SimpleNamespace()


def ready(module: FamilyTraining, monkeypatch, fields: torch.Tensor) -> FamilyTraining:
    """A training whose `setup` has been called."""
    monkeypatch.setattr(type(module), "trainer", TrainsOn(fields), raising=False)
    module.setup("fit")
    return module


def fitted(module: FamilyTraining, fields: torch.Tensor, steps: int, learning_rate: float) -> None:
    """Adam on the module's own loss, with a falling rate."""
    optimizer = torch.optim.Adam(module.parameters(), learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, 1e-5)
    for step in range(steps):
        at = torch.randint(len(fields), (256,), generator=Generator().manual_seed(step))
        loss = module.loss(fields[at], Generator().manual_seed(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


class ThreePoints(Inpainting):
    """The same points every time."""

    def draw(self, grid, channels, generator):
        return Mask(grid, channels, torch.tensor([True, True, False, True, False, False]))


def error(module: PosteriorMean, noise: float, told: float | None = None) -> float:
    """Of the estimate beside the exact posterior mean: mean square over that of the mean."""
    part = measured(module.family, GRID, draws(4000, 10).float(), (noise, noise), 0.0, Generator().manual_seed(0))
    with torch.no_grad():
        variances = module.log_variances.exp()
        estimate = module.model.estimate(part.operator, part.y, told or noise, variances=variances).double()
    mean = exact_mean(part.operator, part.y, noise)
    return float((estimate - mean).square().mean() / mean.square().mean())


def test_training_leads_to_the_posterior_mean(monkeypatch):
    """Of correlated fields, for any noise from 0.1 to 1: within 1 % in power of the closed form."""
    torch.manual_seed(0)
    fields = draws(20000, 0)
    network = Perceptron(1, (POINTS,), 32, 2, inputs=3, times=2)
    module = PosteriorMean(network, ThreePoints(), noise=(0.1, 1.0), steps=2, operators=4)
    ready(module, monkeypatch, fields)
    assert min(error(module, noise) for noise in (0.1, 0.5, 1.0)) > 0.2
    fitted(module, fields, 400, 5e-3)
    assert max(error(module, noise) for noise in (0.1, 0.5, 1.0)) < 0.01
    assert error(module, 1.0, told=0.1) > 0.5  # of other noise it is not the mean


def test_exact_data_are_kept_by_the_last_step():
    """Of a mask they are: what the network says is overruled where there are data."""
    operator = Inpainting((0.5, 0.5)).draw(GRID, 1, Generator().manual_seed(0))
    y = operator.A(draws(3, 0))
    x = model_of(Shrinks(), [1.0, 1.0, 1.0]).estimate(operator, y, 0.0)
    assert torch.allclose(operator.A(x), y, atol=1e-5)
    noisy = model_of(Shrinks(), [1.0, 1.0, 1.0]).estimate(operator, y, 0.5)
    assert not torch.allclose(operator.A(noisy), y, atol=1e-2)


def test_the_network_is_told_step_noise_and_what_is_seen():
    told = []

    class Spy(Shrinks):
        def forward(self, x, numbers):
            told.append((x, numbers))
            return super().forward(x, numbers)

    operator = Inpainting((0.5, 0.5)).draw(GRID, 1, Generator().manual_seed(0))
    model_of(Spy(), [1.0, 1.0, 1.0]).estimate(operator, operator.A(draws(2, 0)), 0.3)
    assert [numbers[0].tolist() for _, numbers in told] == [
        pytest.approx([step, 0.3 / (0.3 + HALF_NOISE)]) for step in (0.0, 0.5)
    ]
    assert torch.equal(told[1][0][0, 2] > 0.5, operator.observed[0])
    assert torch.equal(told[0][0][:, 0], told[0][0][:, 1]) and not torch.equal(told[1][0][:, 0], told[1][0][:, 1])


@pytest.mark.parametrize("family", [Inpainting(), Deblurring(), Deblurring(boundary="zero")])
def test_every_number_of_it_is_trained(family, monkeypatch):
    """Through the data's step, in closed form and by conjugate gradients; against a finite difference."""
    grid = Grid.regular((8, 8), 1.0, periodic=True)
    fields = torch.randn((20, 1, 8, 8), generator=Generator().manual_seed(0), dtype=torch.float64)
    module = PosteriorMean(UNet(1, 2, widths=(8,), inputs=3, times=2), family, noise=(0.2, 0.2), steps=2)
    monkeypatch.setattr(type(module), "trainer", TrainsOn(fields, grid), raising=False)
    module.setup("fit")
    module.network.head.weight.data.normal_(generator=Generator().manual_seed(1))

    def loss():
        return module.loss(fields, Generator().manual_seed(2))

    loss().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in module.parameters())
    with torch.no_grad():
        for k in range(3):
            both = []
            for h in (1e-2, -1e-2):
                module.log_variances[k] += h
                both.append(float(loss()))
                module.log_variances[k] -= h
            assert (both[0] - both[1]) / 2e-2 == pytest.approx(float(module.log_variances.grad[k]), rel=0.05, abs=1e-4)


@pytest.mark.parametrize("family", [Inpainting(), Deblurring(boundary="zero")])
def test_the_derivatives_of_the_datas_step(family):
    """Against finite differences in double precision, in closed form and by conjugate gradients."""
    operator = family.draw(Grid.regular((5, 4), 1.0, periodic=True), 1, Generator().manual_seed(0))
    z, x = (torch.randn((2, 1, 5, 4), generator=Generator().manual_seed(i), dtype=torch.float64) for i in range(2))
    y, gamma = operator.A(x), torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda z, gamma: data_step(operator, z, y, gamma), (z.requires_grad_(), gamma), atol=1e-6)
    assert torch.equal(data_step(operator, z, y, gamma), operator.prox_l2(z, y, gamma))


def test_a_run_of_other_steps_does_not_go_on(monkeypatch):
    def training(steps):
        network = Perceptron(1, (POINTS,), 8, 1, inputs=3, times=2)
        return ready(PosteriorMean(network, ThreePoints(), steps=steps), monkeypatch, draws(20, 0))

    two, three = training(2), training(3)
    checkpoint = {"infield_unrolled": two.to_entry(two.model, {"state_dict": two.state_dict()})}
    two.on_load_checkpoint(checkpoint)
    with pytest.raises(InfieldError, match="found 2 steps, expected 3"):
        three.on_load_checkpoint(checkpoint)


def test_file_round_trip(tmp_path):
    network = UNet(2, 2, widths=(8,), inputs=6, times=2)
    network.head.weight.data.normal_(generator=Generator().manual_seed(0))
    model = model_of(network.eval(), [1.0, 0.5], (2, 8, 8))
    torch.save({"infield_unrolled": to_entry(model)}, tmp_path / "u.ckpt")
    again = load_unrolled(tmp_path / "u.ckpt")
    operator = UndersampledKspace(accelerations=(2.0,)).draw(
        Grid.regular((8, 8), 1.0, periodic=True), 2, Generator().manual_seed(0)
    )
    y = operator.A(torch.randn((1, 2, 8, 8), generator=Generator().manual_seed(1), dtype=torch.float64))
    assert torch.equal(again.estimate(operator, y, 0.1), model.estimate(operator, y, 0.1))
    assert again.serves == model.serves and again.noise == model.noise and len(again.sha256) == 64
    assert from_entry(to_entry(again)).event_shape == (2, 8, 8)
    assert supervised.arguments_from_entry(to_entry(again))["name"] == "test"


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"noise": (0.2, 0.1)}, "found noise"),
        ({"noiseless": 1.5}, "noiseless 1.5"),
        ({"family": 7}, "family 7"),
        ({"steps": 0}, "steps 0"),
    ],
)
def test_bad_settings(settings, words):
    with pytest.raises(InfieldError, match=words):
        PosteriorMean(**{"network": Perceptron(1, (6,), inputs=3, times=2), "family": Inpainting(), **settings})


def test_a_network_of_other_sizes_is_refused(monkeypatch):
    module = PosteriorMean(Perceptron(1, (POINTS,), inputs=2, times=2), Inpainting())
    with pytest.raises(InfieldError, match="inputs 2, times 2, expected 1, 3 and 2"):
        ready(module, monkeypatch, draws(20, 0))


def test_a_family_of_two_kinds_is_refused():
    class Either:
        def draw(self, grid, channels, generator):
            return None

        def numbers(self, operator):
            self.last = not getattr(self, "last", False)
            return ("mask" if self.last else "blur"), {}

    with pytest.raises(InfieldError, match=r"\['blur', 'mask'\], expected operators of one kind"):
        survey(Either(), GRID, 1, Generator())


def test_fields_without_variation_are_refused():
    with pytest.raises(InfieldError, match="one value only"):
        standardisation_of(torch.ones((4, 1, 3)))
