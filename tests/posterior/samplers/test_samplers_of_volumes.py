"""DDS and DiffusionMBIR step by step beside their papers, in the papers' variables, with the same random numbers.

The reference knows nothing of the product but the root L of the source's covariance, so that both colour the same white
numbers: all else is dense matrices. The prior of a slice is N(0, C), whose denoiser is a matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch

from infield.core.grid import Grid
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise
from infield.physics.operators.registry import build_operator
from infield.posterior.samplers.dds import DDS
from infield.posterior.samplers.diffusion_mbir import DiffusionMBIR
from infield.priors.flows.slices import SlicePrior
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.prior import gaussian_prior

DEPTH, PLANE, VOLUMES = 4, (3, 4), 2
POINTS = DEPTH * 12


def rng(seed):
    return torch.Generator().manual_seed(seed)


@dataclass
class Case:
    """A problem for the product, and the same in matrices: root L, covariance C, A, variances R and data y."""

    prior: SlicePrior
    measurement: Measurement
    L: np.ndarray
    C: np.ndarray
    A: np.ndarray
    R: np.ndarray
    y: np.ndarray


@pytest.fixture(scope="module")
def case():
    plane = Grid.regular(PLANE, 1.0, periodic=True)
    grid = Grid((Grid.regular((DEPTH,), 1.0, names=("z",)).axes[0], *plane.axes))
    slices = gaussian_prior(Matern(1.5, 0.4), plane, source=Matern(0.5, 0.15))
    prior = SlicePrior(slices=slices, depth=DEPTH)
    mask = torch.rand(grid.shape, generator=rng(1)) < 0.6
    operator = build_operator({"name": "mask", "arrays": {"mask": "mask"}}, {"mask": mask.numpy()}, grid, 1)
    variance = 0.05 + 0.5 * torch.rand((1, *grid.shape), generator=rng(2), dtype=torch.float64)
    y = torch.where(mask, 2 * torch.randn((1, 1, *grid.shape), generator=rng(3), dtype=torch.float64), 0.0)
    measurement = Measurement(y=y, operator=operator, noise=GaussianNoise(variance), grid=grid)

    unit = torch.eye(12, dtype=torch.float64).reshape(12, 1, *PLANE)
    L = slices.source.colour(unit, unit.new_zeros((12, 0))).flatten(1).numpy().T
    C = slices.covariance.apply(unit).flatten(1).numpy()
    seen = mask.flatten().numpy()
    np.testing.assert_allclose(L @ L.T, slices.source.apply(unit).flatten(1).numpy(), atol=1e-12)
    of_all = np.kron(np.eye(DEPTH), L), np.kron(np.eye(DEPTH), C)
    return Case(prior, measurement, *of_all, np.eye(POINTS)[seen], variance.flatten().numpy()[seen], y.flatten()[seen])


def white(generator):
    """White numbers of two volumes, a volume a row."""
    shape = (VOLUMES, 1, DEPTH, *PLANE)
    return torch.randn(shape, generator=generator, dtype=torch.float64).flatten(1).numpy()


@dataclass
class Admm:
    """The papers' inner problem, |y - A x|^2_R / 2 + |x - c|^2 / (2 v) + lambda |D_z x|_1, of one volume."""

    case: Case
    tv: float
    penalty: float

    def __post_init__(self):
        self.D = np.kron(np.eye(DEPTH, k=1)[:-1] - np.eye(DEPTH)[:-1], np.eye(12))
        self.d = self.w = np.zeros(len(self.D))
        self.H = self.case.A.T @ np.diag(1 / self.case.R) @ self.case.A
        self.b = self.case.A.T @ (np.asarray(self.case.y) / self.case.R)

    def sweep(self, x, steps, anchor=None, variance=1.0):
        H, b = self.H, self.b
        if self.tv:
            H = H + self.penalty * self.D.T @ self.D
            b = b + self.penalty * self.D.T @ (self.d - self.w)
        if anchor is not None:
            H, b = H + np.eye(POINTS) / variance, b + anchor / variance
        r = b - H @ x
        p = r
        for _ in range(steps):  # conjugate gradients as in any textbook
            alpha = (r @ r) / (p @ H @ p)
            x, r_next = x + alpha * p, r - alpha * H @ p
            p = r_next + (r_next @ r_next) / (r @ r) * p
            r = r_next
        if self.tv:
            s = self.D @ x + self.w
            self.d = np.sign(s) * np.maximum(np.abs(s) - self.tv / self.penalty, 0)
            self.w = s - self.d
        return x


def dds_of_the_paper(case, sampler, generator, steps=None):
    """Algorithm of arXiv 2303.05754 in its variables, abar_t from 0 (noise) to 1, with DDIM's share eta of fresh noise.

    x = sqrt(abar) x_0 + sqrt(1 - abar) eps is our x_t divided by sqrt(t^2 + (1 - t)^2).
    """
    C, C_0 = case.C, case.L @ case.L.T
    admm = [Admm(case, sampler.tv, sampler.penalty) for _ in range(VOLUMES)]
    t = np.arange(sampler.levels + 1) / sampler.levels
    abar = t**2 / (t**2 + (1 - t) ** 2)
    x = white(generator) @ case.L.T
    for a, a_next in pairwise(abar):
        gain = np.sqrt(a) * C @ np.linalg.inv(a * C + (1 - a) * C_0)
        x_0 = x @ gain.T
        eps = (x - np.sqrt(a) * x_0) / np.sqrt(1 - a)
        anchored = sampler.spread is not None
        variance = sampler.spread**2 * (1 - a) if anchored else 1.0  # r_t^2 of PiGDM, for data of variance spread^2
        x_0 = np.stack(
            [
                problem.sweep(c, steps or sampler.steps_of_cg, c if anchored else None, variance)
                for problem, c in zip(admm, x_0, strict=True)
            ]
        )
        if a_next < 1:
            fresh, eta = white(generator) @ case.L.T, sampler.eta
            x = np.sqrt(a_next) * x_0 + np.sqrt(1 - a_next) * (eta * fresh + np.sqrt(1 - eta**2) * eps)
    return x_0


def mbir_of_the_paper(case, sampler, generator, corrector=2.0, predictor=0.5):
    """Algorithms of arXiv 2211.10655 and 2011.13456 for u = L^{-1} x, where the noise is white as in the papers."""
    back = np.linalg.inv(case.L)
    C = back @ case.C @ back.T
    right = case.A.T @ (np.asarray(case.y) / case.R)
    seen = case.A @ right
    curvature = (seen**2 / case.R).sum() / (right @ right)
    admm = [Admm(case, curvature * sampler.tv, curvature * sampler.penalty) for _ in range(VOLUMES)]
    sigmas = np.geomspace(sampler.sigma_max, sampler.sigma_min, sampler.levels)

    def score(u, sigma):
        return -u @ np.linalg.inv(C + sigma**2 * np.eye(POINTS))

    u = sigmas[0] * white(generator)
    for sigma, sigma_next in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
        u = u + (sigma**2 - sigma_next**2) * score(u, sigma)
        if sigma_next > 0:
            u = u + (sigma**2 - sigma_next**2) ** predictor * white(generator)
            z, g = white(generator), score(u, sigma_next)
            ratio = np.linalg.norm(z, axis=1, keepdims=True) / np.linalg.norm(g, axis=1, keepdims=True)
            step = corrector * (sampler.snr * ratio) ** 2
            u = u + step * g + np.sqrt(2 * step) * z
        x = np.stack([problem.sweep(x, 1) for problem, x in zip(admm, u @ case.L.T, strict=True)])
        u = x @ back.T
    return x


def drawn(sampler, case):
    return sampler.draw(case.prior, case.measurement, VOLUMES, rng(7)).fields.flatten(1).numpy()


def off(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


DDS_CASES = [
    DDS(levels=5, steps_of_cg=3, tv=1.5, penalty=4.0, spread=0.7),
    DDS(levels=4, steps_of_cg=2, eta=0.3, tv=0.0, spread=1.3),
    DDS(levels=6, steps_of_cg=1, eta=0.6, tv=0.5, penalty=2.0, spread=None),
]


@pytest.mark.parametrize("sampler", DDS_CASES, ids=["anchored", "no total variation", "no anchor"])
def test_dds_is_that_of_the_paper_step_by_step(case, sampler):
    found = drawn(sampler, case)
    assert off(found, dds_of_the_paper(case, sampler, rng(7))) < 1e-9
    changes = [{"eta": 1 - sampler.eta}, {"penalty": 2 * sampler.penalty}, {"tv": sampler.tv + 1.0}]
    changes += [{"spread": 2 * sampler.spread}] if sampler.spread else []
    for change in changes:  # negative controls: none of its constants is without effect, except where there is no tv
        if "penalty" in change and not sampler.tv:
            continue
        other = type(sampler)(**{**sampler.__dict__, **change})
        assert off(found, dds_of_the_paper(case, other, rng(7))) > 1e-3, change
    assert off(found, dds_of_the_paper(case, sampler, rng(7), steps=sampler.steps_of_cg + 1)) > 1e-4


@pytest.mark.parametrize("tv", [0.3, 0.0])
def test_diffusion_mbir_is_that_of_the_paper_step_by_step(case, tv):
    sampler = DiffusionMBIR(levels=7, sigma_max=6.0, sigma_min=0.2, snr=0.2, tv=tv, penalty=0.4)
    found = drawn(sampler, case)
    assert off(found, mbir_of_the_paper(case, sampler, rng(7))) < 1e-9
    for wrong in ({"corrector": 1.0}, {"predictor": 1.0}):  # negative controls
        assert off(found, mbir_of_the_paper(case, sampler, rng(7), **wrong)) > 1e-3
    other = type(sampler)(**{**sampler.__dict__, "tv": 0.1, "snr": sampler.snr})
    assert off(found, mbir_of_the_paper(case, other, rng(7))) > 1e-3


def test_the_last_level_of_dds_is_the_data_step_at_the_estimate_of_the_level_before(case):
    """One level: the estimate of pure noise is the prior's mean 0, fitted to the data by so many steps."""
    sampler = DDS(levels=1, steps_of_cg=40, tv=0.0, spread=1.0)
    H = Admm(case, 0.0, 1.0)
    exact = np.linalg.solve(H.H + np.eye(POINTS), H.b)  # v_0 = spread^2
    assert off(drawn(sampler, case), np.stack([exact, exact])) < 1e-6
