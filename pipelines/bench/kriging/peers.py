"""Geostatistics by other libraries, each called as its own documentation calls it. They are given what ours is given.

Each takes a problem and returns mean and standard deviation of the noise-free field at its targets; the noise level
where it found one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infield.pipelines.bench.kriging.fields import Problem

Array = NDArray[np.float64]

ORDERS = (0.5, 1.5, 2.5)
"""Orders among which a peer chooses by its evidence, where it has closed forms for these alone."""

SUBSET = 800
"""Data on which scikit-learn fits: its fit costs their cube at every step."""


@dataclass(frozen=True)
class Answer:
    """Mean and standard deviation at the targets; where there are any, the noise level that was found, and draws.

    Arguments:
        mean: `(targets,)`.
        sd: `(targets,)`.
        noise_sd: Standard deviation of the errors.
        samples: On the grid, `(samples, cells)`.
    """

    mean: Array
    sd: Array
    noise_sd: float | None = None
    samples: Array | None = None


@dataclass(frozen=True)
class Peer:
    """A library, how it is imported, and how it answers.

    Arguments:
        label: Its row.
        package: What pip installs.
        modules: Imported before its memory and time count.
        answer: Its answer to a problem.
        truths: Most truths of a case on which it runs, where it is slow; 0 for all.
    """

    label: str
    package: str
    modules: tuple[str, ...]
    answer: Callable[[Problem], Answer]
    truths: int = 0


def gpboost(problem: Problem, covariance: str = "matern", neighbours: int = 30) -> Answer:
    """Vecchia's approximation with 30 neighbours (twice as many to predict), parameters by maximum likelihood."""
    import gpboost as gpb

    law: dict[str, Any] = {"cov_function": f"{covariance}_estimate_shape"}
    if problem.order is not None or covariance == "matern_space_time":
        law = {"cov_function": covariance, "cov_fct_shape": problem.order or 1.5}
    model = gpb.GPModel(
        gp_coords=problem.points,
        gp_approx="vecchia",
        num_neighbors=neighbours,
        likelihood="gaussian",
        num_parallel_threads=1,
        **law,
    )
    settings: dict[str, Any] = {}
    if problem.noise_sd is not None:  # a parameter that is not estimated needs a start of all
        ranges = 1 if covariance == "matern" else problem.points.shape[1]
        size = [0.1 * float(np.ptp(problem.points[:, a])) for a in range(problem.points.shape[1])]
        start = [
            problem.noise_sd**2,
            max(float(problem.values.var()) - problem.noise_sd**2, 0.1 * problem.values.var()),
        ]
        start += size if ranges > 1 else size[:1]
        start += [1.5] if "estimate_shape" in law["cov_function"] else []
        settings = {"init_cov_pars": np.array(start), "estimate_cov_par_index": [0] + [1] * (len(start) - 1)}
    centre = problem.points.mean(0)
    model.fit(y=problem.values, X=_drift(problem, problem.points - centre), params=settings)
    model.set_prediction_data(num_neighbors_pred=2 * neighbours)
    found = model.predict(
        gp_coords_pred=problem.targets,
        X_pred=_drift(problem, problem.targets - centre),
        predict_var=True,
        predict_response=False,
    )
    noise = float(np.asarray(model.get_cov_pars()).reshape(-1)[0]) ** 0.5
    return Answer(found["mu"], np.sqrt(np.maximum(found["var"], 0)), noise)


def gpboost_anisotropic(problem: Problem) -> Answer:
    """GPBoost with one range an axis."""
    return gpboost(problem, "matern_ard")


def gpboost_space_time(problem: Problem) -> Answer:
    """GPBoost's law of time and space; the first axis is time."""
    return gpboost(problem, "matern_space_time")


def gpboost_free_order(problem: Problem) -> Answer:
    """GPBoost that fits the order as well, whatever it was given."""
    return gpboost(problem.stating(noise_sd=problem.noise_sd, order=None))


def scikit_learn(problem: Problem) -> Answer:
    """Exact regression; parameters fitted to 800 data, all condition."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    level, y = problem.values.mean(), problem.values - problem.values.mean()
    keep = np.random.default_rng(0).permutation(len(y))[:SUBSET]
    alpha = 1e-10 if problem.noise_sd is None else problem.noise_sd**2
    size, best = float(np.ptp(problem.points)), None
    for order in ORDERS if problem.order is None else (problem.order,):
        kernel = ConstantKernel(y.var(), (1e-4 * y.var(), 1e4 * y.var())) * Matern(
            0.1 * size, (1e-3 * size, 1e2 * size), nu=order
        )
        if problem.noise_sd is None:
            kernel = kernel + WhiteKernel(0.1 * y.var(), (1e-6 * y.var(), 10 * y.var()))
        tried = GaussianProcessRegressor(kernel, alpha=alpha).fit(problem.points[keep], y[keep])
        if best is None or tried.log_marginal_likelihood_value_ > best.log_marginal_likelihood_value_:
            best = tried
    assert best is not None
    noise = best.kernel_.k2.noise_level if problem.noise_sd is None else 0.0
    all_data = GaussianProcessRegressor(best.kernel_, alpha=alpha, optimizer=None).fit(problem.points, y)
    parts = [all_data.predict(t, return_std=True) for t in _batches(problem.targets)]
    mean, sd = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Answer(mean + level, np.sqrt(np.maximum(sd**2 - noise, 0)), noise**0.5 or problem.noise_sd)


def gpytorch_exact(problem: Problem) -> Answer:
    """Exact regression by Cholesky, 50 steps of Adam as in its first tutorial."""
    import gpytorch
    import torch

    torch.set_num_threads(1)
    X, y = torch.from_numpy(problem.points), torch.from_numpy(problem.values)
    shift, size, scale = X.mean(0), float(np.ptp(problem.points)), float(y.std())
    X, y = (X - shift) / size, (y - y.mean()) / scale
    best: Any = (-np.inf, None, None)
    with gpytorch.settings.max_cholesky_size(10**6):
        for order in ORDERS if problem.order is None else (problem.order,):
            tried = _gpytorch_fitted(X, y, order, None if problem.noise_sd is None else problem.noise_sd / scale)
            best = tried if tried[0] > best[0] else best
        _, model, likelihood = best
        model.eval()
        mean, variance = [], []
        with torch.no_grad():
            for batch in _batches(problem.targets, 1000):
                found = model((torch.from_numpy(batch) - shift) / size)
                mean.append(found.mean.numpy())
                variance.append(found.variance.numpy())
    noise = problem.noise_sd or float(likelihood.noise) ** 0.5 * scale
    level = float(problem.values.mean())
    return Answer(np.concatenate(mean) * scale + level, np.sqrt(np.concatenate(variance)) * scale, noise)


def _gpytorch_fitted(X: Any, y: Any, order: float, noise_sd: float | None) -> tuple[float, Any, Any]:
    import gpytorch
    import torch

    class Exact(gpytorch.models.ExactGP):
        def __init__(self, likelihood: Any) -> None:
            super().__init__(X, y, likelihood)
            self.mean_module = gpytorch.means.ConstantMean()
            self.covar_module = gpytorch.kernels.ScaleKernel(gpytorch.kernels.MaternKernel(nu=order))
            self.covar_module.base_kernel.lengthscale = 0.1

        def forward(self, x: Any) -> Any:
            return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))

    if noise_sd is None:
        likelihood = gpytorch.likelihoods.GaussianLikelihood()
    else:
        likelihood = gpytorch.likelihoods.FixedNoiseGaussianLikelihood(torch.full_like(y, noise_sd**2))
    model = Exact(likelihood).double()
    likelihood.double()
    evidence = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
    optimizer, last = torch.optim.Adam(model.parameters(), lr=0.1), -np.inf
    for _ in range(50):
        optimizer.zero_grad()
        loss = -evidence(model(X), y)
        loss.backward()
        optimizer.step()
        last = -loss.item()
    return last, model, likelihood


def _variogram(problem: Problem) -> Any:
    """GSTools' Matern kernel, fitted to the empirical variogram of a tenth of the extent of all pairs."""
    import gstools as gs

    reach = 0.5 * float(np.ptp(problem.points, axis=0).min())
    edges = np.linspace(0, reach, 31)
    places = [problem.points[:, a] for a in range(problem.points.shape[1])]
    found, values = gs.vario_estimate(places, problem.values, edges, sampling_size=2000, sampling_seed=0)
    fixed: dict[str, Any] = {}
    if problem.order is not None:
        fixed["nu"] = False
    if problem.noise_sd is not None:
        fixed["nugget"] = problem.noise_sd**2
    model = gs.Matern(dim=problem.points.shape[1], nu=problem.order or 1.0, len_scale=0.2 * reach)
    model.fit_variogram(found, values, max_eval=100_000, **fixed)
    return model


def pykrige(problem: Problem, neighbours: int | None = None) -> Answer:
    """Ordinary (universal for a linear drift) kriging under GSTools' fitted variogram, data with errors."""
    from pykrige.ok import OrdinaryKriging
    from pykrige.uk import UniversalKriging

    model = _variogram(problem)
    x, y = problem.points.T
    common = {"variogram_model": model, "exact_values": False}
    if problem.drift == "linear" and neighbours is None:
        kriging = UniversalKriging(x, y, problem.values, drift_terms=["regional_linear"], **common)
    else:
        kriging = OrdinaryKriging(x, y, problem.values, **common)
    how = {} if neighbours is None else {"n_closest_points": neighbours}
    parts = [kriging.execute("points", *t.T, backend="loop" if how else "vectorized", **how)
             for t in _batches(problem.targets, 4000)]  # fmt: skip
    mean, variance = (np.concatenate([np.asarray(a) for a in part]) for part in zip(*parts, strict=True))
    return Answer(mean, np.sqrt(np.maximum(variance - model.nugget, 0)), model.nugget**0.5)


def pykrige_near(problem: Problem) -> Answer:
    """PyKrige's moving window of 32 neighbours."""
    return pykrige(problem, 32)


def gstools_ordinary(problem: Problem) -> Answer:
    """GSTools' ordinary kriging, its nugget as the data's error."""
    import gstools as gs

    model = _variogram(problem)
    kriging = gs.krige.Ordinary(model, problem.points.T, problem.values, exact=False)
    mean, variance = kriging(problem.targets.T, mesh_type="unstructured", chunk_size=2000)
    return Answer(np.asarray(mean), np.sqrt(np.maximum(np.asarray(variance) - model.nugget, 0)), model.nugget**0.5)


def _drift(problem: Problem, places: Array) -> Array:
    return np.column_stack([np.ones(len(places)), places] if problem.drift == "linear" else [np.ones(len(places))])


def _batches(places: Array, size: int = 2000) -> list[Array]:
    return [places[start : start + size] for start in range(0, len(places), size)]


PEERS = {
    "gpboost": Peer("GPBoost, Vecchia 30", "gpboost", ("gpboost",), gpboost),
    "gpboost-anisotropic": Peer("GPBoost, a range an axis", "gpboost", ("gpboost",), gpboost_anisotropic),
    "gpboost-space-time": Peer("GPBoost, time and space", "gpboost", ("gpboost",), gpboost_space_time),
    "gpboost-free-order": Peer("GPBoost, order free", "gpboost", ("gpboost",), gpboost_free_order),
    "scikit-learn": Peer("scikit-learn, fit on 800", "scikit-learn", ("sklearn.gaussian_process",), scikit_learn),
    "gpytorch": Peer("GPyTorch, exact", "gpytorch", ("gpytorch", "torch"), gpytorch_exact, truths=1),
    "pykrige": Peer("PyKrige, all data", "pykrige", ("pykrige", "gstools"), pykrige, truths=2),
    "pykrige-32": Peer("PyKrige, 32 neighbours", "pykrige", ("pykrige", "gstools"), pykrige_near),
    "gstools": Peer("GSTools, ordinary", "gstools", ("gstools",), gstools_ordinary, truths=1),
}
