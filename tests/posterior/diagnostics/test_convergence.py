"""R-hat and effective sample size on chains whose mixing is known."""

from __future__ import annotations

import pytest
import torch

from infield import InfieldError
from infield.posterior.diagnostics.convergence import effective_sample_size, r_hat


def independent(chains: int = 8, draws: int = 200, *event: int) -> torch.Tensor:
    return torch.randn((chains, draws, *event), generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def autoregressive(rho: float, chains: int = 8, draws: int = 2000) -> torch.Tensor:
    """x_t = rho x_{t-1} + noise, stationary with variance 1."""
    noise, x = independent(chains, draws), []
    for t in range(draws):
        x.append(noise[:, t] if t == 0 else rho * x[-1] + (1 - rho**2) ** 0.5 * noise[:, t])
    return torch.stack(x, dim=1)


def test_independent_draws_have_converged_and_count_in_full():
    x = independent(8, 200, 2, 3)
    assert r_hat(x).shape == effective_sample_size(x).shape == (2, 3)
    assert float((r_hat(x) - 1).abs().max()) < 0.01
    assert float((effective_sample_size(x) / 1600 - 1).abs().max()) < 0.2


@pytest.mark.parametrize("rho", [0.5, 0.9])
def test_effective_sample_size_of_an_autoregression_is_known(rho):
    x = autoregressive(rho)
    assert float(effective_sample_size(x)) == pytest.approx(x.numel() * (1 - rho) / (1 + rho), rel=0.15)


@pytest.mark.parametrize("wrong", ["apart", "another width", "drift"])
def test_chains_that_have_not_converged_are_seen(wrong):
    x = independent()
    if wrong == "apart":
        x = x + torch.arange(8.0)[:, None] / 4
    elif wrong == "another width":
        x = torch.cat([x[:4], 3 * x[4:]])
    else:
        x = x + torch.linspace(0, 1.5, 200)
    assert float(r_hat(x)) > 1.05


def test_too_few_draws_are_refused():
    with pytest.raises(InfieldError, match="at least 4 draws"):
        r_hat(independent(8, 3))


def test_chains_may_carry_gradients():
    x = independent()
    assert float(r_hat(x.clone().requires_grad_())) == float(r_hat(x))
