"""Noise of stacked data: the battery, and sums of the parts' own densities."""

import numpy as np
import pytest
import torch

from infield import InfieldError
from infield.physics.noise.registry import GaussianNoise, LowRankGaussianNoise, PoissonNoise, noise_from_json
from infield.physics.noise.stack import StackedGaussianNoise, flat, stacked
from infield.testing import check_noise_model

SIZES = (7, 5)


def parts():
    rng = torch.Generator().manual_seed(0)
    variances = torch.rand(5, generator=rng, dtype=torch.float64) + 0.1
    shared = torch.randn(2, 7, generator=rng, dtype=torch.float64)
    return {
        "gaussian": (LowRankGaussianNoise(torch.tensor(0.2), shared), GaussianNoise(variances)),
        "counts": (PoissonNoise(0.5), GaussianNoise(variances)),
    }


def noiseless() -> torch.Tensor:
    return 0.5 + 4 * torch.rand(1, 1, sum(SIZES), generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("name", parts())
def test_battery_and_density(name):
    models, z = parts()[name], noiseless()
    law = stacked(models, SIZES)
    assert isinstance(law, StackedGaussianNoise) == (name == "gaussian")
    check_noise_model(law, z, draws=1000)
    y = law.sample(z, torch.Generator().manual_seed(2))
    own = [m.log_prob(a, b) for m, a, b in zip(models, y[:, 0].split(SIZES, 1), z[:, 0].split(SIZES, 1), strict=True)]
    assert torch.allclose(law.log_prob(y, z), sum(own))
    exchanged = stacked(models[::-1], SIZES[::-1]) if name == "counts" else stacked((models[1],) * 2, (5, 7)[::1])
    with pytest.raises((InfieldError, RuntimeError, AssertionError)):  # laws of other parts are other laws
        assert torch.allclose(exchanged.log_prob(y, z), sum(own))


def test_covariance_of_gaussian_parts_is_block_diagonal():
    law = stacked(parts()["gaussian"], SIZES)
    R = law.apply(torch.eye(12, dtype=torch.float64)[:, None])[:, 0]
    first, second = parts()["gaussian"]
    expected = np.zeros((12, 12))
    expected[:7, :7] = 0.2 * np.eye(7) + first.factors.numpy().T @ first.factors.numpy()
    expected[7:, 7:] = np.diag(second.variance.numpy())
    np.testing.assert_allclose(R.numpy(), expected, atol=1e-12)
    np.testing.assert_allclose(law.variance[0].numpy(), expected.diagonal(), atol=1e-12)


@pytest.mark.parametrize("wrong", [{"laws": []}, {"sizes": [7]}, {"sizes": [7, 0]}, {"laws": 3}])
def test_descriptions_that_do_not_fit_are_refused(wrong):
    law = stacked((GaussianNoise(0.1), GaussianNoise(0.2)), SIZES)
    noise_from_json(law.to_json(), {})
    with pytest.raises(InfieldError, match="a law and a size for each part"):
        noise_from_json(law.to_json() | wrong, {})


def test_arrays_along_axes_are_flattened():
    variance = torch.rand(1, 2, 3, dtype=torch.float64) + 0.1
    assert torch.equal(flat(GaussianNoise(variance), 6, (1, 2, 3)).variance, variance.flatten())
