"""The same seed gives the same samples on every machine, to rounding.

Eigenvectors have signs, and within repeated eigenvalues bases, which LAPACK chooses by the processor. `MKL_CBWR` picks
the code path that other processors take; and a stand-in for LAPACK chooses otherwise on purpose.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from examples import draws
from torch import Tensor

from infield.core.eigenvectors import canonical_basis, first_largest, orthonormal, with_fixed_signs
from infield.posterior.interop.deepinv import fixed_svd

TOLERANCE = 1e-6
"""Of the largest value of a draw. Rounding of 1e-15 grows through conjugate gradients that stop at a tolerance of
1e-8, and fits that stop where the evidence is flat; another choice of vectors changes draws by their own size."""


def far_apart(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> dict[str, float]:
    """Draws that differ by more than the tolerance, with the difference over the largest value."""
    distances = {name: float(np.abs(one[name] - other[name]).max() / np.abs(one[name]).max()) for name in one}
    assert all(np.isfinite(list(distances.values())))
    return {name: distance for name, distance in distances.items() if distance > TOLERANCE}


def in_a_process(path: Path, **environment: str) -> dict[str, np.ndarray]:
    """All draws, and those of the control, by an interpreter of its own."""
    inherited = {name: value for name, value in os.environ.items() if name != "MKL_CBWR"}
    command = [sys.executable, draws.__file__, str(path)]
    subprocess.run(command, check=True, env={**inherited, "OMP_NUM_THREADS": "1", **environment})
    with np.load(path) as stored:
        return dict(stored)


def test_draws_are_the_same_by_the_code_path_of_another_processor(tmp_path):
    here = in_a_process(tmp_path / "here.npz")
    there = in_a_process(tmp_path / "there.npz", MKL_CBWR="COMPATIBLE")
    control = set(draws.raw())
    assert len(here) > 25 and not set(far_apart(here, there)) - control
    digests, others = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("here", "there"))
    assert digests["today"] == others["today"] and len(set(digests["today"].values())) == len(draws.priors())
    assert digests["former"] != others["former"]  # negative control: that of all bytes


def turned(vectors: Tensor, values: Tensor, generator: torch.Generator) -> Tensor:
    """The rotation by which columns are mixed: signs, and a rotation within each group of repeated values."""
    n = vectors.shape[-1]
    Q = torch.zeros(n, n, dtype=vectors.dtype)
    same = 1e-9 * values.abs().max()
    edges = [0, *((values[:-1] - values[1:]).abs() > same).nonzero()[:, 0].add(1).tolist(), n]
    for a, b in pairwise(edges):
        block = torch.randn(b - a, b - a, generator=generator, dtype=torch.float64)
        Q[a:b, a:b] = torch.from_numpy(np.linalg.qr(block.numpy())[0]).to(vectors.dtype)
    return Q


@pytest.fixture
def another_lapack(monkeypatch):
    """Flip signs and rotate repeated groups in all that torch.linalg decomposes."""
    eigh, svd, qr, generator = torch.linalg.eigh, torch.linalg.svd, torch.linalg.qr, torch.Generator().manual_seed(1)
    made = {"eigh": 0, "svd": 0, "qr": 0}

    def other_eigh(A: Tensor, *args, **kwargs):
        made["eigh"] += 1
        values, V = eigh(A, *args, **kwargs)
        if V.ndim > 2:
            return values, V * torch.where(torch.rand(values.shape, generator=generator) < 0.5, -1.0, 1.0)[..., None, :]
        return values, V @ turned(V, values, generator)

    def other_svd(A: Tensor, full_matrices: bool = True, **kwargs):
        made["svd"] += 1
        U, s, Vh = svd(A, full_matrices, **kwargs)
        k = len(s)
        Q = turned(U[:, :k], s, generator)
        U, Vh = U.clone(), Vh.clone()
        U[:, :k], Vh[:k] = U[:, :k] @ Q, Q.mT @ Vh[:k]
        if len(Vh) > k:
            rest = Vh[k:]
            Vh[k:] = turned(rest.mT, torch.zeros(len(rest)), generator).mT @ rest
        return U, s, Vh

    def other_qr(A: Tensor, *args, **kwargs):
        made["qr"] += 1
        Q, R = qr(A, *args, **kwargs)
        signs = torch.where(torch.rand(Q.shape[-1], generator=generator) < 0.5, -1.0, 1.0).to(Q)
        return torch.return_types.linalg_qr((Q * signs, R * signs[: R.shape[-2], None]))

    monkeypatch.setattr(torch.linalg, "eigh", other_eigh)
    monkeypatch.setattr(torch.linalg, "svd", other_svd)
    monkeypatch.setattr(torch.linalg, "qr", other_qr)
    return made


@pytest.fixture(scope="module")
def plain():
    return draws.everything(), draws.everything(control=True)


def test_draws_depend_on_no_sign_order_or_basis_of_eigenvectors(plain, another_lapack):
    expected, control = plain
    found = draws.everything()
    assert min(another_lapack.values()) > 0  # the stand-in was asked
    assert not far_apart(expected, found)
    assert set(far_apart(control, draws.everything(control=True))) == {"raw eigenvectors"}  # negative control


def test_a_tie_of_pivots_is_not_decided_by_rounding():
    values = torch.tensor([0.5, 1.0 - 1e-13, 1.0, 1.0 + 1e-13, 0.2], dtype=torch.float64)
    assert first_largest(values) == 1 != int(values.argmax())
    assert first_largest(torch.tensor([1.0, 1.1])) == 1


def test_gram_schmidt_has_no_signs_left(another_lapack):
    columns = torch.randn(7, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    Q = orthonormal(columns)
    assert ((Q.mT @ columns).diagonal() > 0).all() and torch.equal(orthonormal(columns), Q)
    torch.testing.assert_close(Q.mT @ Q, torch.eye(3, dtype=torch.float64))


def test_the_canonical_basis_belongs_to_the_span():
    generator = torch.Generator().manual_seed(0)
    V = torch.linalg.qr(torch.randn(9, 4, generator=generator, dtype=torch.float64)).Q
    Q = torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64)).Q
    B = canonical_basis(V)
    torch.testing.assert_close(B.mT @ B, torch.eye(4, dtype=torch.float64))
    torch.testing.assert_close(B @ B.mT, V @ V.mT)
    torch.testing.assert_close(canonical_basis(V @ Q), B)
    signed = with_fixed_signs(V)
    torch.testing.assert_close(with_fixed_signs(-V), signed)
    assert not torch.allclose(with_fixed_signs(V @ Q), signed)  # signs do not suffice within a span


def test_the_fixed_decomposition_is_one_of_the_matrix():
    """Of a matrix with repeated singular values, a null space and fewer rows than columns."""
    generator = torch.Generator().manual_seed(2)
    left, right = (torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64)).Q for n in (5, 8))
    matrix = (left * torch.tensor([3.0, 3.0, 3.0, 1.0, 0.0], dtype=torch.float64)) @ right[:5]
    U, s, V = fixed_svd(matrix)
    torch.testing.assert_close((U * s) @ V[:, :5].mT, matrix)
    torch.testing.assert_close(V.mT @ V, torch.eye(8, dtype=torch.float64))
    torch.testing.assert_close(U[:, :4].mT @ U[:, :4], torch.eye(4, dtype=torch.float64))
