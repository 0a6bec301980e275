"""Converted scans whose coil maps end at the head: products with the operator, and the samplers of deepinv."""

import numpy as np
import pytest
import torch
from examples.kspace_examples import COILS, fourier, head, kspace, white

from infield.core.spectra import wavenumbers
from infield.datasets.mri.convert import measurement_of
from infield.datasets.mri.kspace import KSpace
from infield.posterior.inference.linear_gaussian import LinearGaussianData
from infield.posterior.interop.deepinv import WhitenedProblem, to_physics
from infield.priors.gaussian.prior import spectrum_prior

pytestmark = pytest.mark.field
SHAPE = (64, 54)


def prior_of_heads():
    power = wavenumbers(SHAPE).clamp_min(1 / 64) ** -3.0
    return spectrum_prior((0.3 * power / power.mean()).expand(2, *SHAPE).clone(), name="heads")


class Counted(LinearGaussianData):
    calls = 0

    def _data(self, x):
        type(self).calls += 1
        return super()._data(x)


@pytest.mark.parametrize(("snr", "most"), [(33, 30), (333, 40), (3333, 50)])
@pytest.mark.parametrize("half", [False, True])
def test_own_maps_cost_little_more_than_the_true_ones(snr, most, half):
    """Maps of ESPIRiT, 0 outside the head, against those of the simulation: calls of the operator for a mean.

    Of all samples the true maps, of unit power, need a single product; so there the bound is a number.
    """
    image, maps = head(SHAPE)
    sd, rng = float(np.abs(image).max()) / snr, np.random.default_rng(0)
    mask = np.ones(SHAPE, bool)
    if half:
        mask[:, ::2] = False
        mask[:, 15:39] = True
    k = (fourier(maps * image) + sd * white(rng, COILS, *SHAPE)) * mask
    calls, prior = {}, prior_of_heads()
    for kind, given in (("true", maps), ("own", None)):
        slice_ = KSpace(samples=k, mask=mask, noise_covariance=sd**2 * np.eye(COILS), coil_maps=given)
        measurement = measurement_of(slice_, name="x").measurement
        support = (measurement.arrays["coil_maps"] != 0).any(0).mean()
        assert support == 1 if kind == "true" else support < 0.8
        data = Counted(measurement, prior.covariance.modes)
        assert (data.unseen is None) == (kind == "true") and data.information is not None
        Counted.calls = 0
        data.mean(prior.mean[None], prior.covariance)
        calls[kind] = 2 * Counted.calls  # A and its adjoint
    assert calls["own"] <= (2 * calls["true"] + 20 if half else most), calls


def test_a_converted_scan_runs_in_deepinv_with_white_noise():
    """Misfits of whitened data are those of the correlated noise; the operator's adjoint is one."""
    samples = kspace(SHAPE)
    measurement = measurement_of(KSpace(samples=samples, mask=np.ones(SHAPE, bool)), name="x").measurement
    problem = WhitenedProblem(prior_of_heads(), measurement)
    physics = to_physics(problem)
    u = torch.randn((1, 2, *SHAPE), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    v = torch.randn(problem.y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    misfit = ((problem.y - physics.A(u)) ** 2).sum() / problem.noise_std**2
    expected = measurement.chi_square(problem.fields(u)) * measurement.count
    torch.testing.assert_close(misfit, expected[0], rtol=1e-9, atol=0)
    torch.testing.assert_close((physics.A(u) * v).sum(), (u * physics.A_adjoint(v)).sum(), rtol=1e-9, atol=0)
