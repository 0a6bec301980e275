"""Vorticity of a two-dimensional flow: exact solutions, orders of convergence, conservation, and the gradient."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import torch

from infield import InfieldError
from infield.core.grid import Axis, Grid
from infield.physics.operators.registry import build_operator
from infield.physics.pde.navier_stokes import NavierStokes, li_forcing

PI2 = 2 * math.pi


def torus(*shape, lengths=1.0):
    return Grid.regular(shape, lengths, periodic=True)


def places(grid):
    y, x = (torch.tensor(axis.coordinates, dtype=torch.float64) for axis in grid.axes)
    return y[:, None], x[None]


def smooth(grid, batch=2, seed=0, size=0.8, decay=2.0):
    """Random fields with a falling spectrum."""
    white = torch.randn(batch, 1, *grid.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    k = torch.stack(torch.meshgrid(*[torch.fft.fftfreq(n, 1 / n) for n in grid.shape], indexing="ij")).norm(dim=0)
    field = torch.fft.ifft2(torch.fft.fft2(white) * torch.exp(-((k / decay) ** 2)).double()).real
    return size * field / field.flatten(1).std(1)[:, None, None, None]


def relative(a, b):
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("shape", [(32, 32), (27, 40), (16, 48)])
def test_taylor_green_vortex_decays_exactly(shape):
    grid = torus(*shape, lengths=(1.0, 2.0))
    y, x = places(grid)
    w = (torch.sin(PI2 * y * 2) * torch.sin(PI2 * x / 2 * 3))[None, None]
    rate = 0.01 * PI2**2 * (2**2 + 1.5**2)
    z = NavierStokes(grid, viscosity=0.01, time=0.5).A(w)
    torch.testing.assert_close(z, w * math.exp(-0.5 * rate), rtol=0, atol=1e-13)
    assert relative(z, w * math.exp(-0.4 * rate)) > 0.01  # negative control


def test_a_random_flow_of_one_wave_length_decays_exactly():
    """Twelve modes with |k|^2 = 25: each pair interacts, all of them together do not."""
    grid = torus(32, 32)
    y, x = places(grid)
    pairs = [(5, 0), (0, 5), (3, 4), (4, 3), (3, -4), (4, -3)]
    waves = [torch.cos(PI2 * (a * y + b * x) + 1.7 * i) * (0.5 + i) for i, (a, b) in enumerate(pairs)]
    w = torch.stack(waves).sum(0)[None, None]
    z = NavierStokes(grid, viscosity=1e-3, steps=64).A(w)
    torch.testing.assert_close(z, w * math.exp(-1e-3 * PI2**2 * 25), rtol=0, atol=1e-12)
    waves[0] = torch.cos(PI2 * 4 * (y + 0 * x))  # negative control: two wave lengths do interact
    w = torch.stack(waves).sum(0)[None, None]
    assert relative(NavierStokes(grid, viscosity=0, steps=64).A(w), w) > 0.1


def manufactured(grid, viscosity):
    """A steady flow of two wave lengths, and the forcing that keeps it."""
    y, x = places(grid)
    sy, cy, sx, cx = torch.sin(PI2 * y), torch.cos(PI2 * y), torch.sin(PI2 * x), torch.cos(PI2 * x)
    psi = [sy * sx, 0.3 * torch.cos(2 * PI2 * y) * torch.cos(PI2 * x)]
    squares = [2 * PI2**2, 5 * PI2**2]
    psi_x = [PI2 * sy * cx, -0.3 * PI2 * torch.cos(2 * PI2 * y) * sx]
    psi_y = [PI2 * cy * sx, -0.6 * PI2 * torch.sin(2 * PI2 * y) * cx]
    w, w_x, w_y = (sum(k * f for k, f in zip(squares, part, strict=True)) / PI2**2 for part in (psi, psi_x, psi_y))
    u, v = (sum(part) / PI2**2 for part in (psi_y, [-f for f in psi_x]))
    diffusion = viscosity * sum(k**2 * f for k, f in zip(squares, psi, strict=True)) / PI2**2
    return w[None, None], u * w_x + v * w_y + diffusion


def test_a_manufactured_flow_stays():
    grid = torus(32, 32)
    w, forcing = manufactured(grid, 0.01)
    z = NavierStokes(grid, viscosity=0.01, steps=64, forcing=forcing).A(w)
    torch.testing.assert_close(z, w, rtol=0, atol=2e-6)  # the error in time of 64 steps
    finer = NavierStokes(grid, viscosity=0.01, steps=128, forcing=forcing).A(w)
    assert relative(finer, w) < relative(z, w) / 12
    y, x = places(grid)
    turned = NavierStokes(grid, viscosity=0.01, steps=64, forcing=forcing.mT)  # negative control: advected backwards
    assert relative(turned.A(w), w) > 0.05 and y.shape == x.mT.shape


def test_order_in_time_is_four():
    grid = torus(32, 32)
    w = smooth(grid)
    finest = NavierStokes(grid, steps=256).A(w)
    errors = [relative(NavierStokes(grid, steps=n).A(w), finest) for n in (8, 16, 32)]
    slopes = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all(np.abs(slopes - 4) < 0.3), slopes


def test_accuracy_in_space_is_spectral():
    """Each refinement gains more digits than the one before, until time steps and rounding are left."""
    grid = torus(96, 96)
    w = smooth(grid, size=1.0, decay=1.5)
    finest = NavierStokes(grid, viscosity=5e-3, steps=64).A(w)
    errors = []
    for n in (12, 16, 24, 32, 48):
        coarse = NavierStokes(torus(n, n), viscosity=5e-3, steps=64).A(resampled(w, n))
        errors.append(relative(coarse, resampled(finest, n)))
    gains = np.diff(np.log10(errors))
    assert errors[-1] < 1e-10 and (gains < -1).all(), errors
    order = np.log(np.array(errors[:-1]) / errors[1:]) / np.log(np.array([16, 24, 32, 48]) / [12, 16, 24, 32])
    assert order[-1] > 10, order


def resampled(w, n):
    """The same trigonometric polynomial at n points an axis, short of its modes that n points cannot show."""
    old = w.shape[-1]
    keep = torch.fft.fftfreq(n, 1 / n).long()
    spectrum = torch.fft.fft2(w)[..., keep[:, None] % old, keep[None] % old] * (n / old) ** 2
    spectrum[..., n // 2, :] = spectrum[..., :, n // 2] = 0
    return torch.fft.ifft2(spectrum).real


def rates(scheme, w):
    """Relative rates of change of energy and enstrophy by advection."""
    spectrum = torch.fft.rfft2(w) * scheme.kept
    tendency = scheme.tendency(spectrum) - scheme.source
    inverse = scheme.velocity.abs().square().sum(0)  # 1 / k^2
    both = []
    for weight in (inverse, torch.ones_like(inverse)):
        weight = weight * torch.where(torch.arange(weight.shape[-1]) > 0, 2.0, 1.0)
        product = (weight * (spectrum.conj() * tendency).real).sum((-2, -1))
        size = (weight * (spectrum.conj() * tendency).abs()).sum((-2, -1))
        both.append(float((product / size).abs().max()))
    return both


def test_advection_conserves_energy_and_enstrophy_and_aliasing_would_not():
    grid = torus(32, 32)
    w = torch.randn(3, 1, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    operator = NavierStokes(grid, viscosity=0)
    assert max(rates(operator.scheme(w), w)) < 1e-13
    operator.frequencies[2] = ((operator.frequencies[:2].abs() / PI2).amax(0) < 16).double()  # all but Nyquist's modes
    assert min(rates(operator.scheme(w), w)) > 1e-3


def test_inviscid_energy_and_enstrophy_are_kept_to_order_five():
    grid = torus(32, 32)
    w = smooth(grid, size=2.0, decay=3.0)
    losses = []
    for steps in (64, 128):
        z = NavierStokes(grid, viscosity=0, steps=steps).A(w)
        losses.append(float((z.square().mean((-3, -2, -1)) / w.square().mean((-3, -2, -1)) - 1).abs().max()))
    assert losses[0] < 1e-3 and losses[0] / losses[1] > 20, losses


def test_mean_stays_and_modes_beyond_two_thirds_go():
    grid = torus(24, 24)
    w = smooth(grid)
    operator = NavierStokes(grid)
    torch.testing.assert_close(operator.A(w + 3), operator.A(w) + 3, rtol=0, atol=1e-12)
    y, x = places(grid)
    gone, kept = (torch.cos(PI2 * k * (x + 0 * y)) for k in (8, 7))
    torch.testing.assert_close(operator.A(w + gone), operator.A(w), rtol=0, atol=1e-12)
    assert relative(operator.A(w + kept), operator.A(w)) > 0.01


def test_precision_follows_the_field():
    grid = torus(32, 32)
    w = smooth(grid)
    operator = NavierStokes(grid)
    single = operator.A(w.float())
    assert single.dtype == torch.float32 and operator.A(w).dtype == torch.float64
    assert relative(single.double(), operator.A(w)) < 1e-5
    assert relative(operator.to(torch.float32).A(w.float()).double(), single.double()) < 1e-5


def taylor_slopes(operator, w, direction, gradient):
    """Slopes of the remainder of a linearised functional against the step."""
    target = torch.sin(torch.arange(w.numel(), dtype=torch.float64)).reshape(w.shape)
    value = (operator.A(w) * target).sum()
    slope = (gradient(w, target) * direction).sum()
    steps = [3e-2, 1e-2, 3e-3]
    remainders = [float(((operator.A(w + h * direction) * target).sum() - value - h * slope).abs()) for h in steps]
    return np.diff(np.log(remainders)) / np.diff(np.log(steps))


def test_gradient_passes_the_taylor_test():
    grid = torus(16, 16)
    w, direction = smooth(grid, 2, 0), smooth(grid, 2, 1)
    operator = NavierStokes(grid, steps=8)
    slopes = taylor_slopes(operator, w, direction, operator.A_vjp)
    assert np.all(np.abs(slopes - 2) < 0.1), slopes
    wrong = taylor_slopes(operator, w, direction, lambda x, v: 1.01 * operator.A_vjp(x, v))
    assert wrong[-1] < 1.5, wrong


def unrolled(operator, x):
    scheme = operator.scheme(x)
    spectrum = torch.fft.rfft2(x) * scheme.kept
    for _ in range(operator.steps):
        spectrum = scheme.step(spectrum)
    return torch.fft.irfft2(spectrum, s=operator.grid.shape)


def test_checkpointed_gradient_is_that_of_the_unrolled_solver():
    grid = torus(16, 18)
    operator = NavierStokes(grid, steps=5, forcing=li_forcing(grid))
    w, v = smooth(grid), smooth(grid, seed=1)
    x = w.clone().requires_grad_()
    (expected,) = torch.autograd.grad(unrolled(operator, x), x, v)
    with torch.no_grad():  # as samplers call it
        torch.testing.assert_close(operator.A_vjp(w, v), expected, rtol=1e-12, atol=1e-12)
    z, pull = torch.func.vjp(operator.A, w)
    torch.testing.assert_close(z, unrolled(operator, w), rtol=0, atol=0)
    torch.testing.assert_close(pull(v)[0], expected, rtol=1e-12, atol=1e-12)
    many = torch.vmap(lambda v: pull(v)[0])(torch.stack([v, 2 * v]))
    torch.testing.assert_close(many[1], 2 * expected, rtol=1e-12, atol=1e-12)
    tangent = torch.func.jvp(operator.A, (w,), (w,))[1]
    torch.testing.assert_close((tangent * v).sum(), (expected * w).sum())


def saved_bytes(solve, w):
    """Bytes that a forward pass keeps for the way back."""
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        z = solve(w.clone().requires_grad_())
    assert z.requires_grad
    return sum(kept.values())


def test_memory_is_one_spectrum_a_step():
    grid = torus(32, 32)
    w = smooth(grid)
    spectrum = torch.fft.rfft2(w)
    size = spectrum.numel() * spectrum.element_size()
    few, many = (NavierStokes(grid, steps=n) for n in (12, 20))
    assert saved_bytes(many.A, w) - saved_bytes(few.A, w) == 8 * size
    unrolled_bytes = [saved_bytes(lambda x, A=A: unrolled(A, x), w) for A in (few, many)]
    assert unrolled_bytes[1] - unrolled_bytes[0] > 8 * 12 * size  # negative control


DESCRIPTION = {"name": "navier-stokes", "parameters": {"viscosity": 2e-3, "time": 0.5, "steps": 6, "forcing": "li"}}


def test_by_name_composed_with_points_and_pickled():
    grid = torus(16, 16)
    arrays = {"where": np.array([[0.1, 0.97], [0.5, 0.25]])}
    points = {"name": "points", "arrays": {"coordinates": "where"}}
    operator = build_operator({"name": "compose", "operators": [points, DESCRIPTION]}, arrays, grid, 1)
    inner = operator.operators[1]
    assert (inner.name, inner.viscosity, inner.time, inner.steps) == ("navier-stokes", 2e-3, 0.5, 6)
    assert inner.grid == inner.data_grid == grid and inner.data_shape == (1, 16, 16) and inner.observed is None
    w = smooth(grid, 3)
    z = operator.A(w)
    assert z.shape == (3, 1, 2)
    x = w.clone().requires_grad_()
    (expected,) = torch.autograd.grad(operator.A(x), x, z)
    torch.testing.assert_close(operator.A_vjp(w, z), expected)
    again = pickle.loads(pickle.dumps(operator))
    assert torch.equal(again.A(w), z)
    forced = {**DESCRIPTION, "parameters": {**DESCRIPTION["parameters"]}, "arrays": {"forcing": "f"}}
    del forced["parameters"]["forcing"]
    same = build_operator(forced, {"f": li_forcing(grid).numpy()}, grid, 1)
    assert torch.equal(same.A(w), inner.A(w))


def test_default_number_of_steps():
    assert NavierStokes(torus(64, 64)).steps == 16
    assert NavierStokes(torus(64, 128), time=0.1).steps == 4


UNEVEN = Axis("y", (0.0, 0.1, 0.5, 0.7), "1", True)
BAD = {
    "rim": (Grid.regular((16, 16)), {}, r"found the axes \(y: 16 points, uniform; .*expected two uniform periodic"),
    "uneven": (Grid((UNEVEN, torus(8, 8).axes[1])), {}, "y: 4 points, periodic; x"),
    "line": (torus(16), {}, "expected two uniform periodic"),
    "few": (torus(3, 16), {}, "y: 3 points"),
    "steps": (torus(16, 16), {"steps": 1.5}, "found steps 1.5, expected a whole number"),
    "no steps": (torus(16, 16), {"steps": 0}, "found steps 0"),
    "viscosity": (torus(16, 16), {"viscosity": -1e-3}, "found viscosity -0.001"),
    "time": (torus(16, 16), {"time": 0}, "found time 0, expected a finite number above zero"),
    "forcing": (torus(16, 16), {"forcing": "wind"}, "found forcing 'wind', expected none or li, or an array"),
    "name": (torus(16, 16), {"nu": 1}, "found parameter nu, expected viscosity, time, steps, forcing"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_descriptions(case):
    grid, parameters, message = BAD[case]
    with pytest.raises(InfieldError, match=message) as caught:
        build_operator({"name": "navier-stokes", "parameters": parameters}, {}, grid, 1)
    assert "operator 'navier-stokes'" in str(caught.value) and "\n" not in str(caught.value)


def test_bad_channels():
    with pytest.raises(InfieldError, match="found 2 channels, expected 1"):
        build_operator({"name": "navier-stokes"}, {}, torus(16, 16), 2)


def test_a_field_of_another_shape():
    with pytest.raises(InfieldError, match=r"found a field of shape \(1, 16, 12\), expected \(1, 16, 16\)"):
        NavierStokes(torus(16, 16)).A(torch.zeros(2, 1, 16, 12))


def test_a_trajectory_that_is_none_names_the_sample():
    grid = torus(32, 32)
    w = smooth(grid, 3)
    spoiled = w.clone()
    spoiled[1, 0, 3, 4] = float("nan")
    operator = NavierStokes(grid)
    with pytest.raises(InfieldError, match=r"sample 1 of the batch.* at step 0: found NaN or infinity at its start"):
        operator.A(spoiled)
    fast = w * torch.tensor([1.0, 1.0, 30.0])[:, None, None, None]
    with pytest.raises(
        InfieldError, match=r"sample 2 of the batch is too fast .* found CFL number .* with 8 steps"
    ) as e:
        operator.A(fast)
    enough = int(str(e.value).split("take ")[1].split()[0])
    NavierStokes(grid, steps=enough).A(fast)  # the remedy helps


def test_blow_up_is_noticed_by_the_energy_estimate(monkeypatch):
    """Where the check of the time step is switched off, the bound of the norm by the forcing still holds the line."""
    monkeypatch.setattr("infield.physics.pde.navier_stokes.LARGEST_CFL", math.inf)
    grid = torus(32, 32)
    w = smooth(grid, 3) * torch.tensor([1.0, 30.0, 1.0])[:, None, None, None]
    with pytest.raises(InfieldError, match="sample 1 of the batch has blown up at step"):
        NavierStokes(grid, viscosity=0).A(w)
    NavierStokes(grid, forcing=100 * li_forcing(grid), steps=64).A(w[:1])  # growth by the forcing is none


def test_the_forcing_of_li_is_constant_along_one_diagonal():
    """At (x, y) = (1/8, 0), (0, 1/8) and (1/8, 1/8) of a period: sin and cos of pi/4, pi/4 and pi/2, times 0.1."""
    f = li_forcing(torus(8, 16))
    expected = torch.tensor([0.1 * 2**0.5, 0.1 * 2**0.5, 0.1], dtype=torch.float64)
    torch.testing.assert_close(torch.stack([f[0, 2], f[1, 0], f[1, 2]]), expected)
    torch.testing.assert_close(f[7, 4], f[2, 14])  # (1/4, 7/8) and (7/8, 1/4)
    assert (f[1, 0] - f[7, 0]).abs() > 0.1  # a control: not even in y
