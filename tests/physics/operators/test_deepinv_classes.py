"""Every class of deepinv in a measurement file: most are served, the others say in one line why not."""

from __future__ import annotations

import pickle
import threading
import warnings

import numpy as np
import pytest
import torch

import infield
from infield import InfieldError
from infield.core.grid import Grid
from infield.physics.operators.deepinv_classes import EXAMPLES, classes, table, try_class
from infield.physics.operators.registry import build_operator

PLANE = Grid.regular((8, 8))


def built(name):
    example = EXAMPLES[name]
    arrays = {key: key for key in example.arrays}
    description = {"name": f"deepinv:{name}", "parameters": dict(example.parameters), "arrays": arrays}
    return build_operator(description, example.arrays, PLANE, example.channels)


@pytest.mark.field
def test_most_classes_are_served_and_the_others_refused_in_one_line_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = table()
    assert {row.name for row in rows} == set(classes()) and set(EXAMPLES) <= set(classes())
    linear = [row for row in rows if row.linear]
    served = [row.name for row in linear if not row.refused]
    assert len(served) >= 0.6 * len(linear), served
    assert len([row for row in rows if not row.linear and not row.refused]) >= 3
    assert all("\n" not in row.refused and f"deepinv:{row.name}" in row.refused for row in rows if row.refused)


def test_complex_data_are_two_channels_with_the_adjoint_of_the_real_inner_product():
    operator, g = built("PtychographyLinearOperator"), torch.Generator().manual_seed(0)
    x = torch.randn(3, 2, 8, 8, generator=g).double()
    y = torch.randn(3, *operator.data_shape, generator=g).double()
    left, right = (operator.A(x) * y).sum(), (x * operator.A_adjoint(y)).sum()
    assert float(left) == pytest.approx(float(right), rel=1e-9)
    rotated = torch.cat([-x[:, 1:], x[:, :1]], 1)  # i x
    half = operator.data_shape[0] // 2
    a, b = operator.A(x), operator.A(rotated)
    torch.testing.assert_close(torch.cat([-a[:, half:], a[:, :half]], 1), b)
    again = pickle.loads(pickle.dumps(operator))
    assert torch.equal(again.A(x), operator.A(x))


@pytest.mark.parametrize("name", ["RandomPhaseRetrieval", "Scattering"])
def test_the_transposed_jacobian_of_a_nonlinear_one(name):
    operator, g = built(name), torch.Generator().manual_seed(0)
    shape = (1, operator.channels, 8, 8)
    x, d = (torch.rand(shape, generator=g).double() for _ in range(2))
    v = torch.randn(1, *operator.data_shape, generator=g).double()
    h = 1e-2  # the solver of Scattering stops at 1e-5
    slope = ((operator.A(x + h * d) - operator.A(x - h * d)) / (2 * h) * v).sum()
    assert float(slope) == pytest.approx(float((operator.A_vjp(x, v) * d).sum()), rel=2e-3)


def test_a_phase_retrieval_measurement_is_written_read_and_sampled(tmp_path):
    operator = infield.operator(
        "deepinv:RandomPhaseRetrieval", Grid.regular((4, 4)), channels=2, m=60, seed=1, complex_field=True
    )
    truth = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    m = infield.Measurement(
        operator.A(truth), operator=operator, noise=infield.noise.Gaussian(0.01), grid=Grid.regular((4, 4)),
        channels=("real", "imaginary"),
    )  # fmt: skip
    infield.write_measurement(tmp_path / "m.zarr", m)
    again = infield.open_measurement(tmp_path / "m.zarr")
    (tmp_path / "p.yaml").write_text("prior: gaussian\nlaw: {law: matern, nu: 1.5, length: 0.5}\n")
    found = infield.reconstruct(again, prior=tmp_path / "p.yaml", sampler="faps", samples=2, seed=0)
    assert np.isfinite(found["samples"].values).all()


def test_complex_fields_need_an_even_number_of_channels():
    with pytest.raises(InfieldError, match="even number of channels"):
        description = {"name": "deepinv:RandomPhaseRetrieval", "parameters": {"m": 9, "seed": 1, "complex_field": True}}
        build_operator(description, {}, PLANE, 1)
    assert try_class("Haze").refused


def test_a_dynamic_mri_that_holds_another_mask_while_it_is_called_takes_one_thread_at_a_time(monkeypatch):
    example = EXAMPLES["DynamicMRI"]
    description = {"name": "deepinv:DynamicMRI", "parameters": {}, "arrays": {"mask": "mask"}}
    operator = build_operator(description, example.arrays, Grid.regular(example.shape), example.channels)
    x = torch.randn(5, 2, *example.shape, generator=torch.Generator().manual_seed(0)).double()
    right, found, masks = operator.A(x), [], []
    asked = threading.Event()  # by the other thread: for the lock, or, were there none, answered
    other = threading.Thread(target=lambda: (found.append(operator.A(x[:3])), asked.set()))
    lock = threading.RLock()

    class Watched:
        def __enter__(self):
            if threading.current_thread() is other:
                asked.set()
            lock.acquire()

        def __exit__(self, *error):
            lock.release()

    inner = operator.im_to_kspace

    def meanwhile(*arguments, **settings):
        if other.ident is None:  # inside the first call
            masks.append(operator.mask.shape)
            other.start()
            asked.wait()
        return inner(*arguments, **settings)

    monkeypatch.setattr(operator, "im_to_kspace", meanwhile)
    monkeypatch.setattr(type(operator), "calls", Watched(), raising=False)
    first = operator.A(x)
    other.join()
    assert torch.equal(first, right) and len(found) == 1 and torch.equal(found[0], right[:3])
    assert masks[0] != operator.mask.shape  # what the other would have met
