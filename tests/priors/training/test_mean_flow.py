"""Average velocities: the identity that trains them, the source that data adapt to, and files."""

from __future__ import annotations

import math

import pytest
import torch
from examples.gaussian_average import TAU, GaussianAverage
from torch import Generator

from infield import InfieldError
from infield.core.grid import Grid
from infield.datasets.mri.operator_family import UndersampledKspace
from infield.datasets.training.operator_families import Deblurring, Inpainting
from infield.physics.operators.fingerprint import operator_fingerprint
from infield.physics.operators.sensors import Mask
from infield.priors.amortised import adapted_source as adapted_source_module
from infield.priors.amortised.adapted_source import adapted_source, soft_null_projection
from infield.priors.amortised.average_velocity import (
    AverageVelocity,
    conditions,
    from_entry,
    load_average_velocity,
    outside_training_range,
    to_entry,
)
from infield.priors.base import Standardisation
from infield.priors.networks.mlp import Perceptron
from infield.priors.networks.unet import UNet
from infield.priors.training import mean_flow
from infield.priors.training import measurement_family as family_training
from infield.priors.training.mean_flow import MeanFlow
from infield.priors.training.spread_score import dawid_sebastiani_score

GRID = Grid.regular((6,), 1.0, periodic=True)
POWER = torch.tensor(TAU**2, dtype=torch.float64)


def model_of(network, noise=(0.1, 0.1), tau=TAU, channels=1, shape=(6,)):
    one = torch.ones(channels, *[1] * len(shape), dtype=torch.float64)
    serves = {"operator": "mask", "numbers": {"observed": [0.2, 0.8]}}
    units, power = Standardisation(0 * one, one), torch.tensor(tau**2)
    return AverageVelocity(
        name="test", network=network, standardisation=units, event_shape=(channels, *shape), power=power, noise=noise,
        serves=serves,
    )  # fmt: skip


def flow_of(network, monkeypatch, **settings):
    described = {"name": "x", "arguments": {"times": 3}}
    monkeypatch.setattr(family_training, "network_description", lambda network: described)
    flow = MeanFlow(network, Inpainting((0.5, 0.5)), tau=TAU, **settings)
    flow.grid, flow.model = GRID, model_of(network)
    return flow


def z_score(x: torch.Tensor) -> float:
    return float((x.mean(0) / (x.std(0) / math.sqrt(len(x)))).abs().max())


def regressed_error(flow, n=40000, seed=0) -> float:
    """Worst z-score of error x feature over features of (z, r, t, y): zero in the mean for the conditional mean.

    The gradient of the loss in the direction of a feature f is 2 E[(u - target) f].
    """
    seen = {}

    def spy(z, r, t, conditions, level):
        u = AverageVelocity.velocity(flow.model, z, r, t, conditions, level)
        if z.requires_grad is False and "z" not in seen.get("done", ""):
            seen["last"] = (z, r, t, conditions)
        return u

    object.__setattr__(flow.model, "velocity", spy)
    errors = []
    original = torch.Tensor.square
    try:
        torch.Tensor.square = lambda e: errors.append(e) or original(e)
        x_1 = torch.randn((n, 1, 6), generator=Generator().manual_seed(seed))
        flow._loss_of(x_1, Generator().manual_seed(seed + 1))
    finally:
        torch.Tensor.square = original
    z, r, t, told = seen["last"]
    r_, t_ = r[:, None, None], t[:, None, None]
    error = errors[-1]
    features = [torch.ones_like(z), z, told[:, :1], r_ * z, t_ * z, (t_ - r_) * z, (t_ - r_) * told[:, :1]]
    return max(z_score((error * f).flatten(1).double()) for f in features)


def test_exact_average_velocity_is_where_the_loss_is_stationary(monkeypatch):
    flow = flow_of(GaussianAverage(), monkeypatch, noise=(0.1, 0.1), corner=0.3)
    assert regressed_error(flow) < 4.5


def test_a_velocity_that_is_not_an_average_is_not(monkeypatch):
    class Instantaneous(GaussianAverage):
        def forward(self, x, numbers):
            return super().forward(x, torch.stack([numbers[:, 0], numbers[:, 0], numbers[:, 2]], dim=1))

    flow = flow_of(Instantaneous(), monkeypatch, noise=(0.1, 0.1), corner=0.3)
    assert regressed_error(flow) > 20


def test_source_is_the_posterior_under_a_white_prior():
    """Its mean and covariance against dense algebra, for a blur."""
    operator = Deblurring((1.0, 1.0)).draw(GRID, 1, Generator().manual_seed(0))
    s, n, generator = 0.2, 20000, Generator().manual_seed(1)
    A = torch.stack([operator.A(e[None, None])[0, 0] for e in torch.eye(6, dtype=torch.float64)], dim=1)
    y = torch.randn((1, 1, 6), generator=generator, dtype=torch.float64)
    noise = [torch.randn((n, 1, 6), generator=generator, dtype=torch.float64) for _ in range(2)]
    x = adapted_source(operator, y, *noise, power=POWER, noise=s)[:, 0]
    precision = A.T @ A / s**2 + torch.eye(6) / TAU**2
    mean = torch.linalg.solve(precision, A.T @ y[0, 0] / s**2)
    root = torch.linalg.cholesky(precision)
    white = (x - mean) @ root
    assert z_score(white) < 4.5
    products = torch.stack([white[:, i] * white[:, j] - float(i == j) for i in range(6) for j in range(i + 1)], dim=1)
    assert z_score(products) < 4.5
    zero = torch.zeros((1, 1, 6), dtype=torch.float64)
    assert torch.allclose(adapted_source(operator, y, zero, zero, power=POWER, noise=s)[0, 0], mean, atol=1e-10)


def linear_mean(operator, power, s: float) -> torch.Tensor:
    """K of the mean K y of the source, shape (6, 6)."""
    unit, zero = torch.eye(6, dtype=torch.float64)[:, None], torch.zeros((6, 1, 6), dtype=torch.float64)
    return adapted_source(operator, unit, zero, zero, power=power, noise=s)[:, 0].T


def test_source_with_a_spectrum_is_the_posterior_under_it(monkeypatch):
    monkeypatch.setattr(adapted_source_module, "SETTINGS", {})  # to rounding
    k = torch.fft.fftfreq(6, dtype=torch.float64) * 6
    power, s, n = 1 / (0.5 + k**2), 0.2, 20000
    operator = Mask(GRID, 1, torch.tensor([True, True, False, True, False, False]))
    generator = Generator().manual_seed(1)
    e, noise = (torch.randn((n, 1, 6), generator=generator, dtype=torch.float64) for _ in range(2))
    y = operator.A(torch.randn((1, 1, 6), generator=generator, dtype=torch.float64))
    x = adapted_source(operator, y, e, operator.observed * noise, power=power, noise=s)[:, 0]
    unit = torch.eye(6, dtype=torch.float64)
    C, A = torch.fft.ifft(power * torch.fft.fft(unit)).real, torch.diag(operator.observed[0].double())
    K = C @ A @ torch.linalg.inv(A @ C @ A + s**2 * unit)
    white = torch.linalg.solve(torch.linalg.cholesky(C - K @ A @ C), (x - K @ y[0, 0]).T).T
    assert z_score(white) < 4.5
    products = torch.stack([white[:, i] * white[:, j] - float(i == j) for i in range(6) for j in range(i + 1)], dim=1)
    assert z_score(products) < 4.5


def test_its_spread_is_its_error_on_average_for_fields_of_any_law(monkeypatch):
    """Averaged over shifts of a mask, for fields whose mean power is the source's; not for another power."""
    monkeypatch.setattr(adapted_source_module, "SETTINGS", {})
    root = torch.randn((6, 6), generator=Generator().manual_seed(0), dtype=torch.float64)
    true, s = root @ root.T, 0.3
    fields = 6**0.5 * torch.linalg.cholesky(true).T[:, None]  # six of them, with this second moment exactly
    power = mean_flow._mean_power(fields)
    unit = torch.eye(6, dtype=torch.float64)
    mask = torch.tensor([True, True, False, True, False, False])

    def ratio(power: torch.Tensor) -> float:
        C, spread, error = torch.fft.ifft(power * torch.fft.fft(unit)).real, 0.0, 0.0
        for shift in range(6):
            A = torch.diag(mask.roll(shift).double())
            K = linear_mean(Mask(GRID, 1, mask.roll(shift)), power, s) @ A
            spread += float((C - K @ A @ C).trace())
            error += float(((unit - K @ A) @ true @ (unit - K @ A).T + s**2 * K @ K.T).trace())
        return spread / error

    assert ratio(power) == pytest.approx(1, abs=1e-6)
    assert abs(ratio(2 * power) - 1) > 0.3


def test_source_without_noise_agrees_with_the_data_and_is_the_limit():
    operator = Inpainting((0.5, 0.5)).draw(GRID, 1, Generator().manual_seed(0))
    generator = Generator().manual_seed(1)
    x_1, e, n = (torch.randn((3, 1, 6), generator=generator, dtype=torch.float64) for _ in range(3))
    y = operator.A(x_1)
    x_0 = adapted_source(operator, y, e, n, power=POWER, noise=0.0)
    assert torch.allclose(operator.A(x_0), y, atol=1e-12)
    assert torch.allclose(adapted_source(operator, y, e, n, power=POWER, noise=1e-7), x_0, atol=1e-6)
    assert not torch.allclose(adapted_source(operator, y, e, n, power=POWER, noise=0.3), x_0, atol=1e-2)
    spectrum = 1 / (0.5 + (torch.fft.fftfreq(6, dtype=torch.float64) * 6) ** 2)
    assert torch.allclose(operator.A(adapted_source(operator, y, e, n, power=spectrum, noise=0.0)), y, atol=1e-12)


def test_velocity_is_confined_to_the_null_space_without_noise(monkeypatch):
    """A network that moves what is seen by 100 has no error there: P takes it out, or all but s of it."""

    class Everywhere(GaussianAverage):
        def forward(self, x, numbers):
            return torch.where(x[:, 2:] > 0.5, torch.full_like(x[:, :1], 100.0), torch.zeros_like(x[:, :1]))

    exact = flow_of(Everywhere(), monkeypatch, noise=(0.0, 0.0), noiseless=1.0)
    x_1 = torch.randn((8, 1, 6), generator=Generator().manual_seed(0))
    assert exact._loss_of(x_1, Generator().manual_seed(1)).max() < 10
    noisy = flow_of(Everywhere(), monkeypatch, noise=(0.1, 0.1))
    loss = noisy._loss_of(x_1, Generator().manual_seed(1))  # half of the points, moved by 100 s / (1 + s)
    assert loss.min() > 30 and loss.max() < 60


def test_velocities_are_confined_as_the_noise_allows():
    """By s / (1 + s) where a point is seen, one to one; not at all where that would cost a solver."""
    seen, u = torch.tensor([True, False] * 3), torch.randn((2, 1, 6), generator=Generator().manual_seed(0)).double()
    factor = torch.where(seen, 0.2 / 1.2, 1.0)
    assert torch.allclose(soft_null_projection(Mask(GRID, 1, seen), u, noise=0.2), factor * u, atol=1e-12)
    assert torch.equal(soft_null_projection(Mask(GRID, 1, seen), u, noise=0.0), torch.where(seen, 0.0, u))
    blur = [Deblurring((1.0, 1.0), edge).draw(GRID, 1, Generator().manual_seed(0)) for edge in ("periodic", "zero")]
    power = torch.fft.fft(blur[0].A(torch.eye(6, dtype=torch.float64)[:1, None]))[0, 0].abs().square()
    expected = torch.fft.ifft(torch.fft.fft(u) * 0.2 / (power + 0.2)).real
    assert torch.allclose(soft_null_projection(blur[0], u, noise=0.2), expected, atol=1e-12)
    assert soft_null_projection(blur[1], u, noise=0.2) is u and not blur[1].direct


@pytest.mark.parametrize("floor", [0.0, 0.3])
def test_the_score_is_least_for_the_right_mean_and_spread(floor):
    """Also where errors differ from field to field more than the draws can know."""
    generator, n, values = Generator().manual_seed(0), 400, 1000
    size = 1 + (torch.rand((n, 1, 1), generator=generator) < 0.1) * 3  # a tenth of the fields are 4 times as far off
    truth, *white = (torch.randn((n, 1, values), generator=generator, dtype=torch.float64) for _ in range(3))
    truth, right = size * truth, float((size**2).double().mean()) ** 0.5

    def score(spread: float, shift: float) -> torch.Tensor:
        return dawid_sebastiani_score(*(shift + spread * w for w in white), truth, floor=floor)

    exact = score(right, 0.0)
    for spread, shift in ((0.9 * right, 0.0), (1.1 * right, 0.0), (right, 0.3)):
        assert (score(spread, shift) - exact).mean() > 0.002
    too_sure = score(1e-3, 0.0).mean() / exact.mean()
    assert too_sure < 5 if floor else too_sure > 1e5


def test_the_score_is_of_draws_in_one_step(monkeypatch):
    """Of half of the examples, and it sees a spread that is wrong there only."""

    class Narrow(GaussianAverage):
        def forward(self, x, numbers):
            z, mean, mask = x.chunk(3, dim=1)
            u, middle = super().forward(x, numbers), super().forward(torch.cat([mean, mean, mask], dim=1), numbers)
            one_step = (numbers[:, 0] == 0) & (numbers[:, 1] == 1)
            return u - torch.where(one_step[:, None, None], 0.7 * (z + u - mean - middle), torch.zeros_like(u))

    x_1 = torch.randn((4000, 1, 6), generator=Generator().manual_seed(0))
    added = {}
    for network in (GaussianAverage(), Narrow()):
        flows = [flow_of(network, monkeypatch, noise=(0.1, 0.1), operators=1, score=s, corner=0.0) for s in (1e-9, 2.0)]
        for flow in flows:  # the second source is drawn after all else but the times
            monkeypatch.setattr(flow, "_times", lambda n, generator: (torch.full((n,), 0.3), torch.full((n,), 0.6)))
        without, with_score = (flow._loss_of(x_1, Generator().manual_seed(1)) for flow in flows)
        assert torch.allclose(without[1::2], with_score[1::2], rtol=1e-5)
        added[type(network)] = float((with_score - without)[::2].mean().detach())
    assert added[Narrow] > added[GaussianAverage] + 1


def test_the_source_is_widened_until_the_spread_is_right_on_held_out_fields(monkeypatch):
    """Draws that are too narrow by 0.8: the source, and with it the draws, becomes wider by 1.25; exact ones stay."""

    class Narrow(GaussianAverage):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def forward(self, x, numbers):
            z, mean, mask = x.chunk(3, dim=1)
            u, middle = super().forward(x, numbers), super().forward(torch.cat([mean, mean, mask], dim=1), numbers)
            return u + (self.factor - 1) * (z + u - mean - middle)

    class Data:
        def val_dataloader(self):
            generator = Generator().manual_seed(5)
            return [torch.randn((4000, 1, 6), generator=generator, dtype=torch.float64) for _ in range(4)]

    class Trainer:
        datamodule, global_rank = Data(), 0

    for factor in (1.0, 0.8):
        # nearly exact data: what is seen neither spreads nor errs
        flow = flow_of(Narrow(factor), monkeypatch, noise=(0.01, 0.01), score=1.0)
        monkeypatch.setattr(type(flow), "trainer", Trainer())
        monkeypatch.setattr(type(flow), "global_rank", 0)
        assert flow._widening(flow.network.state_dict()) == pytest.approx(1 / factor, rel=0.02)
    assert flow_of(Narrow(0.8), monkeypatch, noise=(0.01, 0.01))._widening(flow.network.state_dict()) == 1


def test_a_batch_may_have_no_average_over_time_behind_an_operator():
    """MKL's FFT refuses empty batches: half of the examples have r = t, and all of one operator's may."""
    grid = Grid.regular((8, 8), 1.0, periodic=True)
    flow = MeanFlow(UNet(2, 2, widths=(8,), inputs=6, times=3), UndersampledKspace("random", (2.0,)), operators=4)
    flow.grid, flow.model = grid, model_of(flow.network, channels=2, shape=(8, 8))
    x_1 = torch.randn((4, 2, 8, 8), generator=Generator().manual_seed(0))
    losses = torch.stack([flow._loss_of(x_1, Generator().manual_seed(seed)) for seed in range(20)])
    assert losses.shape == (20, 4) and torch.isfinite(losses).all()


def test_times_cover_the_corner_that_is_used():
    flow = MeanFlow(Perceptron(1, (6,), inputs=3, times=3), Inpainting(), equal=0.5, corner=0.2)
    r, t = flow._times(20000, Generator().manual_seed(0))
    assert (r <= t).all() and (r >= 0).all() and (t <= 1).all()
    assert abs(float((r == t).double().mean()) - 0.5) < 0.02
    assert float(((r < 0.1) & (t > 0.9)).double().mean()) > 0.09


@pytest.mark.parametrize(
    "network",
    [
        UNet(2, 2, widths=(8, 16), inputs=6, times=3, periodic=False),
        UNet(1, 1, widths=(8,), inputs=3, times=3),
        Perceptron(1, (2,), 16, 2, 3, 3),
    ],
)
def test_networks_can_be_differentiated_in_fields_and_times(network):
    """Forward mode against finite differences in double precision."""
    network = network.double()
    generator = Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.2
    ndim = network.arguments.get("ndim", 1)
    shape = (3, network.arguments["inputs"], *((8,) * ndim if "ndim" in network.arguments else (2,)))
    x, dx = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    numbers = torch.rand((3, 3), generator=generator, dtype=torch.float64)
    dn = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64).expand(3, 3)
    value, slope = torch.func.jvp(network, (x, numbers), (dx, dn))
    assert value.shape == (3, network.channels, *shape[2:])
    h = 1e-5
    finite = (network(x + h * dx, numbers + h * dn) - network(x - h * dx, numbers - h * dn)) / (2 * h)
    assert torch.allclose(slope, finite, rtol=1e-5, atol=1e-6 * float(finite.abs().max()))
    assert slope.abs().max() < 1e3 * value.abs().max()  # smooth in the times


def test_file_round_trip(tmp_path):
    network = UNet(2, 2, widths=(8,), inputs=6, times=3)
    network.head.weight.data.normal_(generator=Generator().manual_seed(0))
    model = model_of(network, channels=2, shape=(8, 8))
    torch.save({"infield_one_step": to_entry(model)}, tmp_path / "one.ckpt")
    again = load_average_velocity(tmp_path / "one.ckpt")
    z = torch.randn((2, 2, 8, 8), generator=Generator().manual_seed(1))
    told = torch.randn((2, 4, 8, 8), generator=Generator().manual_seed(2))
    arguments = (z, torch.zeros(2), torch.ones(2), told, torch.full((2,), 0.1))
    assert torch.equal(again.velocity(*arguments), model.velocity(*arguments))
    assert again.serves == model.serves and again.noise == model.noise and len(again.sha256) == 64
    assert from_entry(to_entry(again)).event_shape == (2, 8, 8)


def test_it_knows_what_it_serves():
    model = model_of(GaussianAverage(), noise=(0.0, 0.1))
    assert outside_training_range(model, "mask", {"observed": 0.5}, 0.05) is None
    assert "found the operator 'fourier', expected 'mask'" in outside_training_range(
        model, "fourier", {"observed": 0.5}, 0.05
    )
    assert "observed 0.9, expected 0.2 to 0.8" in outside_training_range(model, "mask", {"observed": 0.9}, 0.05)
    assert "0.2, expected 0 to 0.1" in outside_training_range(model, "mask", {"observed": 0.5}, 0.2)


@pytest.mark.parametrize(
    "family, channels, name",
    [
        (Inpainting((0.2, 0.4)), 1, "mask"),
        (Inpainting(box=0.4), 1, "mask"),
        (Deblurring((0.5, 2.0)), 2, "convolution"),
        (UndersampledKspace("equispaced-fraction"), 2, "fourier"),
    ],
)
def test_families_draw_operators_of_their_kind(family, channels, name):
    grid = Grid.regular((16, 16), 1.0, periodic=True)
    first, again = (family.draw(grid, channels, Generator().manual_seed(3)) for _ in range(2))
    x = torch.randn((1, channels, 16, 16), generator=Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(first.A(x), again.A(x))
    generator = Generator().manual_seed(4)
    numbers = [operator_fingerprint(family.draw(grid, channels, generator)) for _ in range(20)]
    assert {n for n, _ in numbers} == {name}
    key = "passed" if name == "convolution" else "observed"
    values = torch.tensor([n[key] for _, n in numbers])
    assert (values > 0).all() and (values < 1).all()
    if family == Inpainting((0.2, 0.4)):
        assert 0.19 < values.min() and values.max() < 0.41 and values.std() > 0.02


def test_wider_blurs_pass_less():
    grid = Grid.regular((128,), 1.0, periodic=True)
    passed = [
        operator_fingerprint(Deblurring((width, width)).draw(grid, 1, Generator().manual_seed(0)))[1]["passed"]
        for width in (1.0, 2.0, 4.0)
    ]
    # of a Gaussian of deviation w spacings the power is exp(-w^2 k^2): its mean over |k| < pi
    exact = [math.erf(w * math.pi) * math.sqrt(math.pi) / (2 * w * math.pi) for w in (1.0, 2.0, 4.0)]
    assert passed == pytest.approx(exact, rel=0.05) and passed[0] > passed[1] > passed[2]


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"network": UNet(1, 1)}, "times: 3"),
        ({"tau": 0.0}, "tau 0"),
        ({"noise": (0.2, 0.1)}, "noise"),
        ({"family": 7}, "family 7"),
        ({"equal": 1.5}, "equal"),
        ({"score": -1.0}, "score -1"),
    ],
)
def test_bad_settings(settings, words):
    with pytest.raises(InfieldError, match=words.replace("(", r"\(")):
        MeanFlow(**{"network": Perceptron(1, (6,), inputs=3, times=3), "family": Inpainting(), **settings})


def test_conditions_show_what_is_seen():
    operator = Mask(GRID, 1, torch.tensor([True, False] * 3))
    told = conditions(operator, torch.ones((1, 1, 6)).double())
    assert told.shape == (1, 2, 6) and torch.equal(told[0, 1] > 0.5, operator.observed[0])
