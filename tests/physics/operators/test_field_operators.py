"""Operators as people name them in files: deepinv's classes that draw numbers or have wrong adjoints, wide kernels."""

from __future__ import annotations

import pickle
import random

import numpy as np
import pytest
import torch

from infield import InfieldError
from infield.core.grid import Axis, Grid
from infield.physics.operators.registry import build_operator

pytestmark = pytest.mark.field
PLANE = Grid.regular((8, 8))


def named(name, seed=None, channels=1, arrays=None, **parameters):
    parameters |= {} if seed is None else {"seed": seed}
    description = {"name": f"deepinv:{name}", "parameters": parameters, "arrays": {key: key for key in arrays or {}}}
    return build_operator(description, arrays or {}, PLANE, channels)


def states():
    return torch.random.get_rng_state().sum(), np.random.get_state()[1].sum(), random.getstate()  # noqa: NPY002


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("Inpainting", {"mask": 0.5}), ("RandomMask", None), ("SinglePixelCamera", {"m": 20})],
)
def test_numbers_drawn_at_construction(name, parameters, monkeypatch):
    """Refused without a seed; with one, the operator is the same wherever it is built, and no generator is moved."""
    from infield.core._deepinv import LinearPhysics, deepinv

    class RandomMask(LinearPhysics):  # numpy's generator in place of torch's: a sibling
        def __init__(self, img_size, **settings):
            super().__init__(**settings)
            self.register_buffer("weights", torch.from_numpy(np.random.standard_normal(img_size)))  # noqa: NPY002

        def A(self, x):
            return self.weights * x

        def A_adjoint(self, y):
            return self.weights * y

    monkeypatch.setattr(deepinv.physics, "RandomMask", RandomMask, raising=False)
    parameters = parameters or {}
    x = torch.randn(1, 1, 8, 8, dtype=torch.float64)
    before = states()
    if name == "RandomMask":  # the others have generators of their own, or Hadamard's matrix: the controls
        with pytest.raises(InfieldError, match=r"drawn anew.*'seed'"):
            named(name, **parameters)
    a, b, c = (named(name, seed, **parameters).A(x) for seed in (7, 7, 8))
    assert states() == before
    assert torch.equal(a, b)
    assert not torch.equal(a, c) or name == "SinglePixelCamera"
    if name == "Inpainting":
        assert torch.equal(pickle.loads(pickle.dumps(named(name, 7, **parameters))).A(x), a)
    with pytest.raises(InfieldError, match=r"seed -1, expected a whole number"):
        named(name, -1, **parameters)


def test_entropy_of_the_system_is_not_mended_by_a_seed(monkeypatch):
    from infield.core._deepinv import LinearPhysics, deepinv

    class Fresh(LinearPhysics):
        def __init__(self, **settings):
            super().__init__(**settings)
            self.weight = float(np.random.default_rng().standard_normal())

        def A(self, x):
            return self.weight * x

        def A_adjoint(self, y):
            return self.weight * y

    monkeypatch.setattr(deepinv.physics, "Fresh", Fresh, raising=False)
    for seed in (None, 3):
        with pytest.raises(InfieldError, match="drawn anew"):
            named("Fresh", seed)


@pytest.mark.parametrize("wrong", [0.0, 0.01, 1.0])
def test_an_adjoint_that_is_not_the_maps(wrong, monkeypatch):
    from infield.core._deepinv import LinearPhysics, deepinv

    class Wrong(LinearPhysics):
        def A(self, x):
            return x.cumsum(-1)

        def A_adjoint(self, y):
            right = y.flip(-1).cumsum(-1).flip(-1)
            return right + wrong * y.cumsum(-1)

    name = f"Wrong{wrong}"  # classes are kept by name
    monkeypatch.setattr(deepinv.physics, name, Wrong, raising=False)
    if not wrong:
        assert named(name).data_shape == (1, 8, 8)
        return
    with pytest.raises(InfieldError, match=r"adjoint in deepinv .* is not the one of its map"):
        named(name)


@pytest.mark.parametrize(
    ("name", "channels", "parameters", "words"),
    [
        ("Tomography", 1, {"angles": 10, "img_width": 8}, "'seed'"),  # its norm is estimated from a random start
        ("SinglePhotonLidar", 1, {}, "found an error of deepinv"),
        ("RandomPhaseRetrieval", 1, {"m": 40, "complex_field": True}, "an even number of channels"),
        ("SequentialMRI", 2, {}, "adjoint"),
        ("StackedPhysics", 1, {}, "physics_list"),
    ],
)
def test_classes_that_cannot_be_used_say_why(name, channels, parameters, words):
    with pytest.raises(InfieldError) as error:
        named(name, channels=channels, **parameters)
    assert words in str(error.value) and "\n" not in str(error.value), str(error.value)


def test_a_filter_before_downsampling(monkeypatch):
    """Conjugated buffers of deepinv are resolved on the way to another precision."""
    operator = named("Downsampling", factor=2, filter="gaussian")
    x, y = torch.randn(1, 1, 8, 8, dtype=torch.float64), torch.randn(1, 1, 4, 4, dtype=torch.float64)
    assert (operator.A(x) * y).sum().item() == pytest.approx((x * operator.A_adjoint(y)).sum().item(), rel=1e-9)
    assert operator.to(torch.float32).A(x.float()).dtype == torch.float32


def test_our_affine_has_observed():
    description = {"name": "affine", "arrays": {"scale": "a", "shift": "b"}}
    operator = build_operator(description, {"a": np.full((1, 1, 1), 2.0), "b": np.ones((1, 1, 1))}, PLANE, 1)
    assert operator.observed is None


@pytest.mark.parametrize("shape", [(7, 10), (6, 8), (5, 1)])
@pytest.mark.parametrize("width", [0.02, 0.2, 0.6])
def test_a_wide_gaussian_on_a_torus_is_wrapped(shape, width):
    """The response to a point is the sum over images of the Gaussian, to rounding, and symmetric."""
    grid = Grid(
        tuple(Axis(name, tuple(i / n for i in range(n)), "1", True) for name, n in zip("yx", shape, strict=True))
    )
    operator = build_operator({"name": "convolution", "parameters": {"gaussian_width": width}}, {}, grid, 1)
    point = torch.zeros(1, 1, *shape, dtype=torch.float64)
    point[0, 0, 0, 0] = 1
    found = operator.A(point)[0, 0].numpy()

    def wrapped(n):
        spacing = 1.0 if n == 1 else 1 / n  # of an axis of one point
        steps = spacing * (np.arange(n) + n * np.arange(-40, 41)[:, None])
        total = np.exp(-0.5 * (steps / width) ** 2).sum(0)
        return total / total.sum()

    np.testing.assert_allclose(found, np.outer(wrapped(shape[0]), wrapped(shape[1])), atol=1e-12)
    np.testing.assert_allclose(found[1:], found[:0:-1], atol=1e-12)
    np.testing.assert_allclose(found[:, 1:], found[:, :0:-1], atol=1e-12)
