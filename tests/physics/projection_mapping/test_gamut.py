"""The gamut beside bounded least squares of scipy, facets beside distances, derivatives beside differences."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import lsq_linear

from infield.physics.projection_mapping.gamut import (
    TIGHT,
    WORKING,
    curvature,
    largest_gain,
    margin,
    nearest,
    volume,
)


def pixels(projectors, count, seed=0, kind="full"):
    rng = np.random.default_rng(seed)
    hue = np.eye(3) + 0.2 * rng.random((3, 3))
    columns = (
        rng.uniform(0.1, 0.6, (count, projectors, 1, 1))
        * hue[None, None]
        * rng.uniform(0.5, 1, (count, projectors, 3, 3))
    )
    columns = columns.reshape(count, 3 * projectors, 3)
    if kind == "flat":  # the third camera channel is the mean of the others
        columns[..., 2] = columns[..., :2].mean(-1)
    elif kind == "line":
        columns = columns[..., :1] * np.array([0.5, 0.3, 0.2])
    elif kind == "point":
        columns = 0 * columns
    elif kind == "parallel":
        columns[:, 1] = 0.5 * columns[:, 0]
    b = rng.uniform(-0.1, 1.2, (count, 3)) * columns.sum(1).mean() / 1.5 if kind != "point" else rng.random((count, 3))
    return columns, b


def by_scipy(columns, b):
    return np.array(
        [
            np.sqrt(2 * lsq_linear(c.T, t, (0, 1), method="bvls", tol=1e-14).cost) if c.any() else np.linalg.norm(t)
            for c, t in zip(columns, b, strict=True)
        ]
    )


@pytest.mark.parametrize("projectors", [1, 2, 4, 8])
def test_distances_are_those_of_bounded_least_squares(projectors):
    columns, b = pixels(projectors, 150, projectors)
    reference = by_scipy(columns, b)
    assert 0.2 < (reference > 1e-4).mean() < 1
    found = nearest(columns, b, stages=TIGHT)
    assert np.abs(found.distance - reference).max() < 1e-6
    assert np.abs(nearest(columns, b, stages=WORKING).distance - reference).max() < 3e-4
    assert found.drives.min() >= 0 and found.drives.max() <= 1
    np.testing.assert_allclose(found.residual, b - np.einsum("pjc,pj->pc", columns, found.drives), atol=1e-12)
    clipped = np.clip(np.einsum("pjc,pc->pj", np.linalg.pinv(columns.transpose(0, 2, 1)), b), 0, 1)
    wrong = np.linalg.norm(b - np.einsum("pjc,pj->pc", columns, clipped), axis=1)
    assert (wrong - reference).max() > 1e-3  # the negative control: least squares, then clipped


@pytest.mark.parametrize("kind", ["full", "parallel"])
def test_no_pixel_of_many_is_left_unfinished(kind):
    """The dual bounds the error from above: d - min d <= 2 sum (max(y, 0) - s y) / d with y = V^T r."""
    columns, b = pixels(8, 10_000, 5, kind)
    found = nearest(columns, b, stages=WORKING)
    d = found.distance

    def bound(s, r):
        y = np.einsum("pjc,pc->pj", columns, r)
        return np.minimum(np.linalg.norm(r, axis=1), 2 * (np.maximum(y, 0) - s * y).sum(1) / np.maximum(d, 1e-12))

    loose = bound(found.drives, found.residual) > 2e-4
    assert loose.mean() < 0.01
    assert np.abs(d[loose] - by_scipy(columns[loose], b[loose])).max(initial=0) < 2e-4
    assert bound(0.99 * found.drives, b - np.einsum("pjc,pj->pc", columns, 0.99 * found.drives)).max() > 1e-2


@pytest.mark.parametrize("kind", ["flat", "line", "point", "parallel"])
def test_degenerate_gamuts(kind):
    columns, b = pixels(2, 60, 1, kind)
    found = nearest(columns, b, stages=TIGHT)
    assert np.abs(found.distance - by_scipy(columns, b)).max() < 1e-6
    assert np.isnan(margin(columns, b)).all() == (kind != "parallel")


def test_weights_of_zero_leave_a_column_out():
    columns, b = pixels(2, 40, 2)
    weights = np.ones((40, 6))
    weights[:, 3:] = 0
    both, one = nearest(columns, b, weights, stages=TIGHT), nearest(columns[:, :3], b, stages=TIGHT)
    assert (both.drives[:, 3:] == 0).all()
    np.testing.assert_allclose(both.distance, one.distance, atol=1e-6)


def test_facets_agree_with_distances():
    columns, b = pixels(3, 400, 3)
    outside, d = margin(columns, b), nearest(columns, b, stages=TIGHT).distance
    assert ((outside > 1e-6) == (d > 1e-6)).all() and 0.1 < (d > 1e-6).mean() < 0.9
    assert (np.maximum(outside, 0) <= d + 1e-6).all()  # a distance to a plane is at most that to the body


@pytest.mark.parametrize("kind", ["full", "flat"])
def test_the_largest_gain_ends_on_the_boundary(kind):
    columns, _ = pixels(2, 50, 4, kind)
    target = columns.sum(1) * np.array([0.9, 0.7, 0.4])
    if kind == "flat":
        target[:, 2] = target[:, :2].mean(1)
    gain = largest_gain(columns, target)
    for factor, inside in ((0.999, True), (1.001, False)):
        d = nearest(columns, factor * gain[:, None] * target, stages=TIGHT).distance
        assert ((d < 1e-5) == inside).all()
    assert np.isinf(largest_gain(columns, 0 * target)).all()


def test_gradient_and_curvature_beside_differences():
    columns, b = pixels(2, 60, 5)
    found = nearest(columns, b, stages=TIGHT)
    hessian, step = curvature(columns, found.drives), 1e-4
    half = lambda c: 0.5 * nearest(columns, c, stages=(*TIGHT, 1e-10)).distance ** 2  # noqa: E731
    for i in range(3):
        e = step * np.eye(3)[i]
        np.testing.assert_allclose((half(b + e) - half(b - e)) / (2 * step), found.residual[:, i], atol=2e-5)
        slopes = [nearest(columns, b + k * e, stages=(*TIGHT, 1e-10)).residual for k in (1, -1)]
        off = np.abs((slopes[0] - slopes[1]) / (2 * step) - hessian[:, :, i]).max(1)
        assert np.quantile(off, 0.9) < 1e-3  # but where the active set changes within the step
    counts = np.round(np.trace(hessian, axis1=1, axis2=2)).astype(int)
    assert set(counts) >= {0, 1, 2}  # interior, facets, edges


def test_the_volume_of_a_box_and_of_a_split_box():
    box = np.diag([0.5, 0.4, 0.3])[None]
    assert np.isclose(volume(box)[0], 0.06)
    assert np.isclose(volume(np.concatenate([box / 2, box / 2], 1))[0], 0.06)
