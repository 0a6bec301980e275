"""Channel flow: exact laminar and Stokes solutions, the Orr-Sommerfeld mode, balances, pressure, order in
time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import torch

from infield import InfieldError
from infield.physics.wall_pressure.channel.channel_statistics import energy, plane_mean, plane_means
from infield.physics.wall_pressure.channel.chebyshev import product
from infield.physics.wall_pressure.channel.initial_condition import mean_profile, turbulent_start
from infield.physics.wall_pressure.channel.solver import ALPHA, BETA, LARGEST_CFL, ChannelFlowSolver, ChannelState

LENGTHS = (math.pi, 0.4 * math.pi)


def channel(points=(16, 33, 16), viscosity=0.02, lengths=LENGTHS, **settings):
    return ChannelFlowSolver(viscosity, lengths, points, **settings)


def smooth(flow, seed=0, size=0.3, profile=None):
    """Divergence-free flow of a few long waves that any of our grids resolves."""
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(2, 3, 3, 3, generator=generator, dtype=torch.complex128)
    y = flow.chebyshev.y
    powers = (y[:, None] ** torch.arange(3)).to(white.dtype)
    waves = torch.zeros(2, len(y), *flow.k2.shape, dtype=white.dtype)
    for kz in (-1, 0, 1):
        waves[:, :, kz, :3] = torch.einsum("yp,apx->ayx", powers, white[:, :, kz + 1])
    waves[:, :, 0, 0] = 0
    waves[:, :, -1, 0] = waves[:, :, 1, 0].conj()
    waves[:, :, 0, 0] = 0
    bump = (1 - y**2)[:, None, None]
    mean = torch.stack([1 - y**2, 0.2 * (1 - y**4)]) * 4 if profile is None else profile
    return flow.state(size * bump**2 * waves[0], 3 * size * bump * waves[1], mean)


def run(flow, state, time, steps):
    for _ in range(steps):
        state = flow.advance(state, time / steps)
    return state


def difference(a, b):
    """Relative difference of two states."""
    pairs = ((a.modes, b.modes), (a.mean, b.mean))
    return max(float((p - q).norm() / q.norm()) for p, q in pairs)


def divergence(flow, spectra):
    u, v, w = spectra[:3]
    return flow.ikx * u + product(flow.chebyshev.first, v) + flow.ikz * w


def test_velocity_has_no_divergence_and_no_slip():
    flow = channel()
    state = run(flow, smooth(flow), 0.05, 5)
    spectra = flow.spectra(state)
    size = spectra[:3].abs().max()
    assert float(divergence(flow, spectra).abs().max() / size) < 1e-13
    slip = spectra[:3][:, [0, -1]].abs().max() / size
    slope = product(flow.chebyshev.first[[0, -1]], spectra[1]).abs().max() / size
    assert float(slip) < 1e-14 and float(slope) < 1e-12
    turned = torch.stack([spectra[0], spectra[1], -spectra[2]])  # negative control
    assert float(divergence(flow, turned).abs().max() / size) > 0.1


def test_vorticity_is_the_curl_of_the_velocity():
    flow = channel()
    u, v, w, a, b, c = flow.spectra(run(flow, smooth(flow), 0.05, 5))
    first = flow.chebyshev.first
    for found, curl in (
        (a, product(first, w) - flow.ikz * v),
        (b, flow.ikz * u - flow.ikx * w),
        (c, flow.ikx * v - product(first, u)),
    ):
        assert float((found - curl).abs().max() / found.abs().max()) < 1e-12


def test_fields_and_amplitudes_belong_together():
    flow = channel()
    spectra = flow.spectra(smooth(flow))
    for shape in ((16, 16), (24, 24), (20, 30)):
        torch.testing.assert_close(flow.amplitudes(flow.fields(spectra, shape)), spectra, rtol=0, atol=1e-12)
    values = flow.fields(spectra, (16, 16))
    x, z = (torch.arange(16).double() / 16 * length for length in LENGTHS)
    wave = torch.exp(1j * (flow.kx * x[3] + flow.kz[:, None] * z[5]))
    twice = torch.where(flow.kx > 0, 2.0, 1.0)
    torch.testing.assert_close(values[..., 5, 3], (spectra * wave * twice).real.sum((-2, -1)), rtol=0, atol=1e-12)
    torch.testing.assert_close(plane_mean(spectra, spectra), values.square().mean((-2, -1)), rtol=1e-12, atol=1e-12)
    assert flow.padded == (24, 24) and channel((14, 33, 10)).padded == (16, 22)


def growth(z):
    """What the scheme makes of an exponential of rate z / step in a step, by its three viscous halves."""
    factor = 1.0
    for alpha, beta in zip(ALPHA, BETA, strict=True):
        factor *= (1 + alpha * z) / (1 - beta * z)
    return factor


def stokes_frequency(k, even):
    """The slowest mu of the modes of v: mu tan mu = -k tanh k, or mu cot mu = k coth k."""
    if even:
        return scipy.optimize.brentq(lambda m: m * math.sin(m) + k * math.tanh(k) * math.cos(m), 1.6, 3.1, xtol=1e-15)
    return scipy.optimize.brentq(lambda m: m * math.cos(m) - k / math.tanh(k) * math.sin(m), 3.2, 4.7, xtol=1e-15)


@pytest.mark.parametrize("kind", ["vorticity", "even", "odd"])
def test_stokes_modes_decay_at_their_rates(kind):
    flow = channel((8, 33, 8), viscosity=0.05, forcing=0.0)
    y, where, h = flow.chebyshev.y, (2, 1), 0.01
    k2 = float(flow.k2[where])
    k = math.sqrt(k2)
    if kind == "vorticity":
        mu, shape = 1.5 * math.pi, torch.sin(1.5 * math.pi * (y + 1))
    elif kind == "even":
        mu = stokes_frequency(k, True)
        shape = torch.cos(mu * y) / math.cos(mu) - torch.cosh(k * y) / math.cosh(k)
    else:
        mu = stokes_frequency(k, False)
        shape = torch.sin(mu * y) / math.sin(mu) - torch.sinh(k * y) / math.sinh(k)
    waves = torch.zeros(2, 33, *flow.k2.shape, dtype=torch.complex128)
    component = int(kind == "vorticity")
    waves[component][:, where[0], where[1]] = 1e-9 * shape  # so small that products do not matter
    start = flow.state(*waves, torch.zeros(2, 33).double())
    rate = -0.05 * (k2 + mu**2)
    moved = run(flow, start, 10 * h, 10)
    ratio = (moved.modes[component].abs().norm() / start.modes[component].abs().norm()).item()
    assert abs(ratio / growth(rate * h) ** 10 - 1) < 1e-9  # the mode is one of the discrete equations
    errors = [abs(growth(rate * s) ** (1 / s) / math.exp(rate) - 1) for s in (0.01, 0.005)]
    assert errors[0] < 6e-4 and errors[0] / errors[1] > 3.9  # and its rate the exact one to second order
    shape_kept = (moved.modes[component] * start.modes[component].conj()).sum().abs()
    assert abs(float(shape_kept / moved.modes[component].norm() / start.modes[component].norm()) - 1) < 1e-12
    wrong = growth(rate * 1.01 * h) ** 10  # negative control
    assert abs(ratio / wrong - 1) > 1e-4


def test_laminar_flow_is_kept_to_the_last_digit_and_reached_from_rest():
    flow = channel((4, 65, 4), viscosity=1 / 180)
    y = flow.chebyshev.y
    laminar = torch.stack([90 * (1 - y**2), 0 * y])
    still = torch.zeros(65, *flow.k2.shape, dtype=torch.complex128)
    kept = run(flow, flow.state(still, still, laminar), 1.0, 20)
    torch.testing.assert_close(flow.chebyshev.values @ kept.mean[0], laminar[0], rtol=0, atol=90 * 2e-14)
    assert float(kept.modes.abs().max()) == 0 and float(kept.mean[1].abs().max()) == 0
    found = plane_means(flow, kept)
    torch.testing.assert_close(found.wall_shear, torch.ones(2).double(), rtol=1e-12, atol=0)
    rest = flow.state(still, still, 0 * laminar)
    reached = run(flow, rest, 4000.0, 40)
    torch.testing.assert_close(flow.chebyshev.values @ reached.mean[0], laminar[0], rtol=0, atol=90 * 1e-13)
    early = flow.chebyshev.values @ run(flow, rest, 1.0, 20).mean[0]  # negative control
    assert float((early - laminar[0]).abs().max()) > 50


def orr_sommerfeld(flow, k, base, viscosity):
    """The fastest growing mode of v at streamwise wave number k: complex frequency, and shape."""
    y, first, second = (t.numpy() for t in (flow.chebyshev.y, flow.chebyshev.first, flow.chebyshev.second))
    inner = slice(1, -1)
    third, fourth = second @ first, second @ second
    scale = np.zeros_like(y)
    scale[inner] = 1 / (1 - y[inner] ** 2)
    clamped = (np.diag(1 - y**2) @ fourth - 8 * np.diag(y) @ third - 12 * second) @ np.diag(scale)
    D2, D4, one = second[inner, inner], clamped[inner, inner], np.eye(len(y) - 2)
    U, laplacian = np.diag(base(y)[inner]), D2 - k**2 * one
    A = viscosity * (D4 - 2 * k**2 * D2 + k**4 * one) - 1j * k * (U @ laplacian + 2 * one)
    values, vectors = scipy.linalg.eig(A, laplacian)
    values = np.where(np.isfinite(values), values, -np.inf)
    best = int(np.argmax(values.real))
    shape = np.zeros(len(y), dtype=complex)
    shape[inner] = vectors[:, best] / np.abs(vectors[:, best]).max()
    return 1j * values[best], torch.from_numpy(shape)


def test_growth_of_the_orr_sommerfeld_mode():
    """Re 10000, wave number 1: omega = 0.23752649 + 0.00373967 i (Orszag 1971, J. Fluid Mech. 50, 689)."""
    flow = channel((4, 81, 4), viscosity=1e-4, lengths=(2 * math.pi, 2 * math.pi), forcing=2e-4)
    y = flow.chebyshev.y
    omega, shape = orr_sommerfeld(flow, 1.0, lambda y: 1 - y**2, 1e-4)
    assert abs(omega - (0.23752649 + 0.00373967j)) < 1e-7
    v = torch.zeros(81, *flow.k2.shape, dtype=torch.complex128)
    v[:, 0, 1] = 1e-7 * shape
    start = flow.state(v, 0 * v, torch.stack([1 - y**2, 0 * y]))

    def frequency(state, time, steps):
        before, after = (flow.spectra(s)[1, :, 0, 1] for s in (state, run(flow, state, time, steps)))
        return 1j * torch.log((before.conj() @ after) / (before.conj() @ before)).item() / time

    found = frequency(start, 4.0, 100)
    assert abs(found.imag - 0.00373967) < 1e-5 and abs(found.real - 0.23752649) < 1e-5, found
    assert abs(frequency(start, 4.0, 200).imag - 0.00373967) < 1e-6
    slower = ChannelState(start.modes, 0.98 * start.mean)  # negative control: another flow
    assert abs(frequency(slower, 4.0, 100).imag - 0.00373967) > 1e-5


def test_energy_changes_by_what_is_gained_and_lost():
    """But for the time step, with its order; the sums are by Simpson's rule, whose order is higher."""
    flow = channel((16, 33, 16), viscosity=0.05, forcing=3.0)
    residuals, time = [], 0.2
    for steps in (16, 32, 64):
        states = [smooth(flow)]
        for _ in range(steps):
            states.append(flow.advance(states[-1], time / steps))
        balances = [energy(flow, state) for state in states]
        weights = np.array([1, *[4, 2] * (steps // 2 - 1), 4, 1]) * time / steps / 3
        change = balances[-1].kinetic - balances[0].kinetic
        residuals.append(abs(change / (weights @ [b.gained - b.lost for b in balances]) - 1))
    slopes = np.log2(np.array(residuals[:-1]) / residuals[1:])
    assert (slopes > 2.8).all() and residuals[-1] < 1e-5, residuals
    assert abs(change / (weights @ [b.gained for b in balances]) - 1) > 0.2  # negative control: friction forgotten


def test_products_neither_make_nor_take_energy():
    """The tendency by products is orthogonal to the velocity, where y is resolved; where it is not, it is not."""
    losses = []
    for ny in (9, 17, 33):
        flow = channel((16, ny, 16), forcing=0.0)
        state = smooth(flow)
        cross, _ = flow.products(state)
        work = plane_mean(flow.spectra(state)[:3], cross)
        losses.append(float(flow.chebyshev.weights @ work.sum(0)) / float(flow.chebyshev.weights @ work.abs().sum(0)))
    assert abs(losses[-1]) < 1e-14, losses
    change = flow.advance(ChannelState(state.modes, state.mean), 1e-6)
    kinetic = [energy(flow, s) for s in (state, change)]
    rate = (kinetic[1].kinetic - kinetic[0].kinetic) / 1e-6
    assert abs(rate + kinetic[0].lost) < 1e-3 * kinetic[0].lost


def test_order_in_time():
    flow = channel((12, 25, 12), viscosity=0.02)
    start = run(flow, smooth(flow), 0.02, 20)  # past the first moments, in which any start is not smooth
    finest = run(flow, start, 0.2, 320)
    errors = [difference(run(flow, start, 0.2, steps), finest) for steps in (20, 40, 80)]
    slopes = np.log2(np.array(errors[:-1]) / errors[1:])
    assert (slopes > 1.9).all() and errors[-1] < 1e-4, (slopes, errors)


def test_order_in_time_is_three_without_viscosity():
    flow = channel((12, 25, 12), viscosity=1e-7)
    start = smooth(flow)
    finest = run(flow, start, 0.2, 320)
    errors = [difference(run(flow, start, 0.2, steps), finest) for steps in (10, 20, 40)]
    slopes = np.log2(np.array(errors[:-1]) / errors[1:])
    assert (np.abs(slopes - 3) < 0.3).all(), (slopes, errors)


def test_accuracy_in_space_is_spectral():
    fine = channel((24, 65, 24))
    exact = fine.spectra(run(fine, smooth(fine), 0.1, 40))
    errors = {}
    for nx, ny, nz in ((8, 33, 8), (12, 33, 12), (16, 33, 16), (16, 17, 16), (16, 9, 16)):
        flow = channel((nx, ny, nz))
        found = flow.spectra(run(flow, smooth(flow), 0.1, 40))
        same = exact[:, :: 64 // (ny - 1)][..., [*range(nz // 2), *range(1 - nz // 2, 0)], : nx // 2]
        errors[nx, ny] = float((found - same).abs().max() / same.abs().max())
    waves, planes = [errors[n, 33] for n in (8, 12, 16)], [errors[16, n] for n in (9, 17, 33)]
    assert waves[0] > 5 * waves[1] > 25 * waves[2] and waves[2] < 1e-4, errors
    assert planes[0] > 5 * planes[1] > 100 * planes[2], errors


def test_products_of_the_shortest_waves_are_not_aliased():
    """x-index 7 twice makes index 14, which 16 points cannot tell from -2; with the 3/2 rule nothing lands there."""
    aliased = []
    for padding in (1.5, 1.0):
        flow = channel(padding=padding)
        y = flow.chebyshev.y
        waves = torch.zeros(2, 33, *flow.k2.shape, dtype=torch.complex128)
        waves[0][:, 0, 7] = (1 - y**2) ** 2 * (1 + 0.3j + y)
        waves[1][:, 7, 0] = (1 - y**2) * (1 - 0.5j)
        waves[1][:, -7, 0] = waves[1][:, 7, 0].conj()
        cross, _ = flow.products(flow.state(*waves, torch.zeros(2, 33).double()))
        aliased.append(float(cross[:, :, [0, 2, -2], [2, 0, 0]].abs().max() / cross.abs().max()))
    assert aliased[0] < 1e-14 and aliased[1] > 0.01, aliased


def test_mirrored_shifted_and_turned_flows_stay_so():
    flow = channel((16, 33, 16))
    state = smooth(flow)
    moved = flow.spectra(run(flow, state, 0.05, 5))

    def start(v, g, mean):
        return flow.spectra(run(flow, flow.state(v, g, mean), 0.05, 5))

    spectra = flow.spectra(state)
    v, g, mean = spectra[1], spectra[4].clone(), spectra[[0, 2], :, 0, 0].real
    phase = torch.exp(1j * (flow.kx * 0.3 + flow.kz[:, None] * 0.1))
    torch.testing.assert_close(start(v * phase, g * phase, mean), moved * phase, rtol=0, atol=1e-10)
    signs = torch.tensor([1, -1, 1, -1, 1, -1])[:, None, None, None]
    mirrored = start(-v.flip(0), g.flip(0), mean.flip(1))
    torch.testing.assert_close(mirrored, signs * moved.flip(1), rtol=0, atol=1e-10)
    order = [0, *range(flow.points[2] - 2, 0, -1)]
    signs = torch.tensor([1, 1, -1, -1, -1, 1])[:, None, None, None]
    turned = start(v[:, order], -g[:, order], mean * torch.tensor([[1.0], [-1.0]]))
    torch.testing.assert_close(turned, signs * moved[:, :, order], rtol=0, atol=1e-10)
    assert float((moved - signs * moved[:, :, order]).abs().max()) > 0.1  # negative control


def laplacian(flow, amplitudes):
    return product(flow.chebyshev.second, amplitudes) - flow.k2 * amplitudes


def test_pressure_of_a_force_that_is_a_gradient():
    flow = channel()
    y = flow.chebyshev.y[:, None, None]
    phase = torch.randn(flow.k2.shape, generator=torch.Generator().manual_seed(0), dtype=torch.complex128)
    exact = torch.exp(y) * torch.cos(3 * y + flow.k2.sqrt()) * phase
    slope = product(flow.chebyshev.first, exact)
    force = torch.stack([flow.ikx * exact, slope, flow.ikz * exact])
    found = flow.pressure(force, slope[[0, -1]])
    torch.testing.assert_close(found, exact * flow.wave, rtol=0, atol=1e-10)
    assert float((flow.pressure(force, 1.01 * slope[[0, -1]]) - exact * flow.wave).abs().max()) > 1e-3  # control
    solenoidal = torch.stack([flow.ikz * exact, 0 * exact, -flow.ikx * exact])
    torch.testing.assert_close(flow.pressure(force + solenoidal, slope[[0, -1]]), found, rtol=0, atol=1e-10)


def momentum(flow, state):
    """u x omega - grad P + nu Laplacian u: what changes the velocity."""
    cross, _ = flow.products(state)
    total = flow.total_pressure(state)
    gradient = torch.stack([flow.ikx * total, product(flow.chebyshev.first, total), flow.ikz * total])
    velocity = flow.spectra(state)[:3]
    return (cross - gradient + flow.viscosity * torch.stack([laplacian(flow, f) for f in velocity])) * flow.wave, total


@pytest.fixture(scope="module")
def developed():
    """Flows that grew out of one start, in steps of two lengths, and the start."""
    flow = channel((12, 49, 12), viscosity=0.05)
    return flow, smooth(flow), {steps: run(flow, smooth(flow), 0.4, steps) for steps in (80, 320)}


def test_pressure_keeps_the_flow_free_of_divergence_and_at_rest_at_the_walls(developed):
    """Only the wall-normal equation was used at the walls: that the flow obeys the other two there is a test.

    A start that we make up has a pressure that does not (Gresho & Sani 1987, Int. J. Numer. Methods Fluids 7, 1111).
    """
    flow, start, later = developed
    found = []
    for state in (start, later[320]):
        change, _ = momentum(flow, state)
        size = change.abs().max()
        inside = divergence(flow, change)[1:-1].abs().max() / size
        assert float(inside) < 1e-6
        assert float(change[1, [0, -1]].abs().max() / size) < 1e-10
        found.append([float(change[i, [0, -1]].abs().max() / size) for i in (0, 2)])
    assert min(found[0]) > 0.05 and max(found[1]) < 1e-4, found


def test_the_flow_moves_as_the_momentum_equation_has_it():
    """In all three components and everywhere, though two other unknowns are what is stepped: to second order in h."""
    flow = channel((12, 49, 12), viscosity=0.05)
    start = run(flow, smooth(flow), 0.1, 100)
    errors = []
    for h in (2e-3, 1e-3):
        middle = flow.advance(start, h)
        ends = [flow.spectra(state)[:3] for state in (start, flow.advance(middle, h))]
        change, _ = momentum(flow, middle)
        wrong = (ends[1] - ends[0]) * flow.wave / (2 * h) - change
        errors.append((wrong.abs().amax((1, 2, 3)) / change.abs().amax((1, 2, 3))).numpy())
    assert (errors[1] < 2e-4).all() and (errors[0] > 3.8 * errors[1]).all(), errors
    viscous = flow.viscosity * torch.stack([laplacian(flow, f) for f in flow.spectra(middle)[:3]])
    assert float((0.01 * viscous * flow.wave).abs().max()) > 5 * float(wrong.abs().max())  # 1 % of it would be seen


def test_pressure_at_the_walls_is_the_third_derivative_there(developed):
    """nu v''' / k^2 of a flow that obeys the equations: another road, without products and Poisson's equation.

    It needs smaller steps, since v''' at the wall is the last to follow.
    """
    flow, _, later = developed
    c = flow.chebyshev
    pressures = {steps: flow.total_pressure(state)[[0, -1]] for steps, state in later.items()}
    best = pressures[320]
    third = product((c.first @ c.second)[[0, -1]], flow.spectra(later[320])[1])
    other = flow.viscosity * third * flow.wave / flow.k2.clamp(min=1)
    assert float((other - best).abs().max() / best.abs().max()) < 2e-4
    assert float((pressures[80] - best).abs().max() / best.abs().max()) < 2e-4
    planes = flow.wall_pressure(later[320])
    assert planes.shape == (2, 12, 12) and float(planes.mean((1, 2)).abs().max()) < 1e-14
    torch.testing.assert_close(planes, flow.fields(best, (12, 12)))


def test_steps_end_at_the_wanted_time_and_keep_the_cfl_number():
    flow = channel()
    state = smooth(flow)
    speed = float(flow.tendency(state).speed)
    fields = flow.fields(flow.spectra(state)[:3], flow.padded).abs().amax((-2, -1))
    gaps = torch.cat([flow.chebyshev.y.diff()[:1], (flow.chebyshev.y[2:] - flow.chebyshev.y[:-2]) / 2])
    bound = 16 / LENGTHS[0] * fields[0].max() + (fields[1, :-1] / gaps).max() + 16 / LENGTHS[1] * fields[2].max()
    assert float(bound) * math.pi * 0.5 < speed <= float(bound) * math.pi
    count = 0
    while state.time < 0.05:
        before, state = state.time, flow.step(state, 0.05, cfl=0.8)
        assert (state.time - before) * speed < 0.8 * 1.2
        count += 1
    assert state.time == 0.05 and count == pytest.approx(0.05 * speed / 0.8, rel=0.3)


def test_a_flow_that_blows_up_says_when_and_with_which_cfl_number():
    flow = channel((16, 33, 16), viscosity=1 / 180)
    state = turbulent_start(flow, torch.Generator().manual_seed(0))
    with pytest.raises(InfieldError, match=r"blew up at time \S+ with CFL number 30, expected at most 1.73") as caught:
        for _ in range(200):
            state = flow.step(state, 10.0, cfl=30.0)
    assert "\n" not in str(caught.value)
    assert LARGEST_CFL < 30


def test_a_turbulent_start_is_what_it_says_and_depends_on_its_seed():
    flow = channel((16, 65, 16), viscosity=1 / 180)
    state = turbulent_start(flow, torch.Generator().manual_seed(3), time=-10.0)
    again = turbulent_start(flow, torch.Generator().manual_seed(3))
    assert torch.equal(state.modes, again.modes) and state.time == -10
    assert not torch.equal(state.modes, turbulent_start(flow, torch.Generator().manual_seed(4)).modes)
    spectra = flow.spectra(state)
    size = float(spectra[:3].abs().max())
    assert float(divergence(flow, spectra).abs().max()) < 1e-12 * size
    assert float(product(flow.chebyshev.first[[0, -1]], spectra[1]).abs().max()) < 1e-10 * size
    means = plane_means(flow, state)
    assert float(means.vv.max()) == pytest.approx(1) and 8 < float(means.uu.max()) < 11
    torch.testing.assert_close(means.wall_shear, torch.ones(2).double(), rtol=1e-3, atol=0)
    profile = mean_profile(flow)
    assert 17.5 < float(profile.max()) < 19 and float(profile[3]) == pytest.approx(
        180 * float(1 + flow.chebyshev.y[3]), rel=0.02
    )
    conjugate = spectra[:, :, [0, *range(14, 0, -1)], 0].conj()
    torch.testing.assert_close(spectra[:, :, :, 0], conjugate, rtol=0, atol=1e-12 * size)


def test_plane_means_are_those_of_the_fields():
    flow = channel()
    state = smooth(flow)
    means = plane_means(flow, state)
    u, v, w = flow.fields(flow.spectra(state)[:3], (16, 16))
    mean = u.mean((-2, -1))
    torch.testing.assert_close(means.u, mean)
    u, w = u - mean[:, None, None], w - w.mean((-2, -1), keepdim=True)
    for found, field in ((means.uu, u * u), (means.vv, v * v), (means.ww, w * w), (means.uv, u * v)):
        torch.testing.assert_close(found, field.mean((-2, -1)), rtol=1e-12, atol=1e-12)
    shear = flow.viscosity * (flow.chebyshev.first @ mean)[[0, -1]] * torch.tensor([1, -1])
    torch.testing.assert_close(means.wall_shear, shear)


def test_everything_stays_on_its_device():
    """On torch's device without numbers, which refuses to be mixed with another."""
    flow = channel((8, 17, 8), device="meta")
    state = flow.advance(turbulent_start(flow, torch.Generator().manual_seed(0)), 0.01)
    means = plane_means(flow, state)
    for tensor in (state.modes, state.mean, flow.wall_pressure(state), means.uv, means.wall_shear):
        assert tensor.device.type == "meta"


BAD = {
    "odd x": (((15, 33, 16), 0.1), "found 15 points in x, expected an even number of at least 4"),
    "odd z": (((16, 33, 7), 0.1), "found 7 points in z, expected an even number"),
    "few z": (((16, 33, 2), 0.1), "found 2 points in z"),
    "few y": (((16, 4, 16), 0.1), "found 4, expected at least 5"),
    "viscosity": (((16, 33, 16), 0.0), "found viscosity 0.0"),
    "nan": (((16, 33, 16), math.nan), "found viscosity nan"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_numbers(case):
    arguments, message = BAD[case]
    with pytest.raises(InfieldError, match=message):
        channel(*arguments)
