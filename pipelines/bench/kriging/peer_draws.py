"""Joint draws on a grid by other libraries, the law of the bench's large case given to them."""

from __future__ import annotations

import numpy as np

from infield.pipelines.bench.kriging.fields import Problem
from infield.pipelines.bench.kriging.peers import Answer, Array, Peer

NU, LENGTH, SD, DRAWS = 1.5, 0.1, 2.0, 64


def _of(samples: Array) -> Answer:
    return Answer(samples.mean(0), samples.std(0, ddof=1), None, samples)


def gstools_conditioned(problem: Problem) -> Answer:
    """GSTools' CondSRF: an unconditional field by randomisation, corrected by kriging with all data."""
    import gstools as gs

    assert problem.noise_sd is not None
    model = gs.Matern(dim=2, var=SD**2, nu=NU, len_scale=LENGTH, rescale=2**0.5)  # Rasmussen and Williams' length
    kriging = gs.krige.Simple(model, problem.points.T, problem.values, mean=0.0, exact=False,
                              cond_err=problem.noise_sd**2)  # fmt: skip
    field = gs.CondSRF(kriging)
    field.set_pos(problem.axes, "structured")
    return _of(np.stack([np.asarray(field(seed=seed)).reshape(-1) for seed in range(DRAWS)]))


def gpytorch_love(problem: Problem) -> Answer:
    """GPyTorch's LOVE on KISS-GP's grid (Pleiss et al. 2018)."""
    import gpytorch
    import torch

    assert problem.noise_sd is not None
    torch.set_num_threads(1)
    X, y = torch.from_numpy(problem.points).float(), torch.from_numpy(problem.values).float()

    class Interpolated(gpytorch.models.ExactGP):
        def __init__(self, likelihood: gpytorch.likelihoods.Likelihood) -> None:
            super().__init__(X, y, likelihood)
            self.mean_module = gpytorch.means.ZeroMean()
            base = gpytorch.kernels.ScaleKernel(gpytorch.kernels.MaternKernel(nu=NU))
            base.outputscale, base.base_kernel.lengthscale = SD**2, LENGTH
            self.covar_module = gpytorch.kernels.GridInterpolationKernel(
                base, grid_size=128, num_dims=2, grid_bounds=[(-0.05, 1.05)] * 2
            )

        def forward(self, x: torch.Tensor) -> gpytorch.distributions.MultivariateNormal:
            return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))

    likelihood = gpytorch.likelihoods.GaussianLikelihood()
    likelihood.noise = problem.noise_sd**2
    model = Interpolated(likelihood).eval()
    targets = torch.from_numpy(problem.targets).float()
    with torch.no_grad(), gpytorch.settings.fast_pred_var(), gpytorch.settings.fast_pred_samples():
        return _of(model(targets).rsample(torch.Size([DRAWS])).double().numpy())


PEERS = {
    "gstools": Peer("GSTools, CondSRF, law given", "gstools", ("gstools",), gstools_conditioned),
    "gpytorch": Peer("GPyTorch, LOVE, law given", "gpytorch", ("gpytorch", "torch"), gpytorch_love),
}
