r"""Grey and white matter of a T1-weighted MRI in MNI152: expectation maximisation with a field of sensitivity.

Wells, Grimson, Kikinis & Jolesz (1996), "Adaptive segmentation of MRI data", IEEE Trans. Med. Imaging 15, 429, with the
template's tissue maps as prior probabilities (Ashburner & Friston 1997, NeuroImage 6, 209). The logarithm Y of the
intensity of a voxel is, in tissue k of fluid, grey and white matter,

.. math:: Y_i \sim N(\mu_k + \beta_i,\ \psi_k), \qquad \beta_i = \sum_j a_j\, \phi_j(r_i),

with smooth functions :math:`\phi` of the place, polynomials to the second degree.

=====================  ==========================
paper                  here
=====================  ==========================
:math:`W_{ij}`         `p`, probability of a tissue
:math:`\mu_j, \psi_j`  `mu`, `psi`
:math:`\beta`          `phi @ a`
:math:`\bar R_i`       `residual`, equation 16
=====================  ==========================
"""

from __future__ import annotations

import numpy as np

from infield.core.errors import InfieldError

STEPS = 25

FLOOR = 0.01
"""Least prior probability of a tissue inside the brain: heads differ from the template."""

MOST = 200_000
"""Voxels from which the parameters are estimated."""

TISSUES = ("fluid", "grey matter", "white matter")


def segment(values: np.ndarray, places: np.ndarray, tissues: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of grey and of white matter, each of the shape of `values`, 0 outside the template's brain.

    Arguments:
        values: Intensities of a T1-weighted image, any shape, in any unit.
        places: Their places, mm of MNI152, `(*shape, 3)`.
        tissues: The template's grey matter, white matter and brain there, `(3, *shape)`.

    Raises:
        InfieldError: The tissues do not rise from fluid to white matter as those of a T1-weighted image.
    """
    brain = tissues[2] > 0.5
    inside = brain & (values > 0)
    y = np.log(values[inside])
    prior = np.stack([1 - tissues[0][inside] - tissues[1][inside], tissues[0][inside], tissues[1][inside]])
    prior = prior.clip(FLOOR)
    prior /= prior.sum(0)
    phi = _polynomials(places[inside])
    some = slice(None, None, -(-len(y) // MOST))
    mu, psi, a = _estimate(y[some], prior[:, some], phi[some])
    if not mu[0] < mu[1] < mu[2]:
        means = ", ".join(f"{name} {np.exp(m):.4g}" for name, m in zip(TISSUES, mu, strict=True))
        raise InfieldError(
            where="MRI",
            found=f"mean intensities {means}",
            expected="a T1-weighted image, which rises from fluid to white matter",
            remedy="is it another contrast, or not in MNI152?",
        )
    p = _probabilities(y, prior, phi @ a, mu, psi)
    found = np.zeros((2, *values.shape))
    found[:, inside] = p[1:] * tissues[2][inside].clip(0, 1)
    return found[0], found[1]


def _estimate(y: np.ndarray, prior: np.ndarray, phi: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """mu, psi and a by expectation maximisation, from the template's probabilities."""
    p, a = prior, np.zeros(phi.shape[1])
    mu = psi = np.zeros(3)
    for _ in range(STEPS):
        flat = y - phi @ a
        weight = p.sum(1)
        mu = p @ flat / weight  # equations 18 to 20: the M-step of tissues
        psi = (p * (flat - mu[:, None]) ** 2).sum(1) / weight + 1e-6 * y.var()
        residual = (p * (y - mu[:, None]) / psi[:, None]).sum(0)  # (16)
        precision = (p / psi[:, None]).sum(0)  # (17)
        a = np.linalg.solve((phi * precision[:, None]).T @ phi, phi.T @ residual)
        p = _probabilities(y, prior, phi @ a, mu, psi)
    return mu, psi, a


def _probabilities(y: np.ndarray, prior: np.ndarray, beta: np.ndarray, mu: np.ndarray, psi: np.ndarray) -> np.ndarray:
    """The E-step: `(tissue, voxel)`."""
    log = np.log(prior) - (y - beta - mu[:, None]) ** 2 / (2 * psi[:, None]) - np.log(psi[:, None]) / 2
    log -= log.max(0)
    p = np.exp(log)
    return np.asarray(p / p.sum(0))


def without_trend(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Rows `(n, voxel)` less their polynomials of degree 0 to 2 of the places `(voxel, 3)`."""
    phi = _polynomials(places)
    phi = np.concatenate([np.ones((len(phi), 1)), phi], 1)
    return np.asarray(values - np.linalg.solve(phi.T @ phi, phi.T @ values.T).T @ phi.T)


def _polynomials(places: np.ndarray) -> np.ndarray:
    """Polynomials of degree 1 and 2 of the places, each of mean 0 and spread 1, `(voxel, 9)`."""
    unit = (places - places.mean(0)) / places.std(0).clip(1e-6)
    x, y, z = unit.T
    phi = np.stack([x, y, z, x * x, y * y, z * z, x * y, x * z, y * z], 1)
    return np.asarray((phi - phi.mean(0)) / phi.std(0).clip(1e-6))
