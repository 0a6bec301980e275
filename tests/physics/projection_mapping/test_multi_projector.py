"""Light of projectors: exact adjoint, the model in plain loops, and drive signals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from infield.core.errors import InfieldError
from infield.core.grid import Grid
from infield.physics.operators.registry import build_operator
from infield.physics.projection_mapping.response import drive_of_light
from infield.testing import check_operator

N, SHAPE, RASTER = 2, (9, 11), (8, 7)
GRID = Grid.regular((N, *RASTER), names=("projector", "v", "u"))


def arrays(seed=0, **without):
    rng = np.random.default_rng(seed)
    v, u = np.meshgrid(np.linspace(-1, 8.5, SHAPE[0]), np.linspace(-0.5, 6.7, SHAPE[1]), indexing="ij")
    warp = np.stack([np.stack([v + 0.3 * p, u - 0.2 * p]) for p in range(N)])
    found = {
        "warp": warp,
        "mixing": rng.uniform(0.01, 0.3, (N, 3, 3, *SHAPE)),
        "background": rng.uniform(0, 0.05, (3, *SHAPE)),
        "response": np.broadcast_to(np.linspace(0, 1, 65) ** 1.7, (N, 3, 65)),
        "reflectance": rng.uniform(0.2, 0.9, (3, *SHAPE)),
        "form_factors": rng.uniform(0, 0.1, (6, 6)),
    }
    return {k: a for k, a in found.items() if without.get(k, True)}


def described(given):
    return {"name": "multi-projector", "arrays": {k: k for k in given},
            "parameters": {"defocus": [0.8, 0.0], "patches": [2, 3], "black": [0.02, 0.01]}}  # fmt: skip


def built(**without):
    given = arrays(**without)
    return build_operator(described(given), given, GRID, 3), given


@pytest.mark.parametrize("indirect", [True, False])
def test_the_adjoint_is_exact_in_both_precisions(indirect):
    A, given = built(background=False, response=False, reflectance=indirect, form_factors=indirect)
    linear = A.operators[-1]
    for kind, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        operator = linear.to(dtype=kind)
        g = torch.Generator().manual_seed(0)
        x, y = (torch.randn(2, *s, generator=g, dtype=torch.float64).to(kind) for s in ((3, N, *RASTER), (3, *SHAPE)))
        forward, backward = (operator.A(x) * y).sum(), (x * operator.A_adjoint(y)).sum()
        assert abs(forward - backward) < tolerance * operator.A(x.abs()).abs().sum()
    described_linear = described({k: given[k] for k in given}) | {"parameters": {"defocus": 0.8, "patches": [2, 3]}}
    check_operator(build_operator(described_linear, given, GRID, 3))


def test_the_battery_on_drive_signals():
    A, _ = built()
    g = torch.Generator().manual_seed(0)
    check_operator(A, torch.rand(2, 3, N, *RASTER, generator=g, dtype=torch.float64), jacobian_tolerance=1e-3)


def test_one_pixel_by_hand():
    """No defocus, no indirect light: bilinear light of each projector through its mixing, and black levels."""
    A, given = built(reflectance=False, form_factors=False)
    drive = torch.rand(1, 3, N, *RASTER, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    drive[:, :, 0] = 0
    y, x, black = 4, 5, (0.02, 0.01)
    v, u = given["warp"][1, :, y, x]
    e = black[1] + (1 - black[1]) * np.interp(drive[0, :, 1].numpy(), np.linspace(0, 1, 65), given["response"][1, 0])
    i, j, a, b = int(v), int(u), v % 1, u % 1
    light = (1 - a) * (1 - b) * e[:, i, j] + a * (1 - b) * e[:, i + 1, j]
    light = light + (1 - a) * b * e[:, i, j + 1] + a * b * e[:, i + 1, j + 1]
    dark = given["mixing"][0, :, :, y, x] @ np.full(3, black[0])
    expected = given["background"][:, y, x] + given["mixing"][1, :, :, y, x] @ light + dark
    np.testing.assert_allclose(A.A(drive)[0, :, y, x].numpy(), expected, rtol=2e-2)  # blurred black at the border
    assert abs(A.A(drive)[0, 0, y, x] - expected[0] - 0.1) > 0.05


def test_pixels_that_see_no_projector_have_the_background():
    A, given = built(reflectance=False, form_factors=False)
    white = A.A(torch.ones(1, 3, N, *RASTER, dtype=torch.float64))
    np.testing.assert_allclose(white[0, :, 0, 0].numpy(), given["background"][:, 0, 0])
    assert (white[0, :, 4, 5].numpy() > given["background"][:, 4, 5]).all()


def test_drives_are_the_inverse_of_the_response():
    A, given = built()
    drive = torch.rand(3, N, *RASTER, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    light = A.operators[-1].A(drive[None])[0].numpy()
    np.testing.assert_allclose(drive_of_light(given["response"], light), drive.numpy(), atol=1e-9)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"response": np.linspace(1, 0, 5) * np.ones((N, 3, 1))}, "monotone"),
        ({"warp": np.zeros((1, 2, *SHAPE))}, "warp of shape"),
        ({"mixing": np.zeros((N, 3, *SHAPE))}, "mixing of shape"),
    ],
)
def test_wrong_arrays_are_refused(wrong, words):
    given = arrays() | wrong
    with pytest.raises(InfieldError, match=words):
        build_operator(described(given), given, GRID, 3)


@pytest.mark.parametrize("defocus", [[1.2, 0.0], [0.0, 0.5]])
def test_a_point_of_light_is_a_gaussian_where_its_projector_is_out_of_focus(defocus):
    """Seen pixel by pixel: exp(-r^2 / (2 sigma^2)) over its sum along each axis; what leaves the raster is lost."""
    v, u = np.mgrid[: RASTER[0], : RASTER[1]].astype(float)
    given = {"warp": np.stack([np.stack([v, u])] * N), "mixing": np.zeros((N, 3, 3, *RASTER))}
    given["mixing"] += np.eye(3)[None, :, :, None, None]
    description = {"name": "multi-projector", "arrays": {k: k for k in given}, "parameters": {"defocus": defocus}}
    operator = build_operator(description, given, GRID, 3)
    for p, sigma in enumerate(defocus):
        light = torch.zeros(1, 3, N, *RASTER, dtype=torch.float64)
        light[0, 1, p, 5, 2] = 1.0
        found = operator.A(light)[0].numpy()
        assert not found[[0, 2]].any()
        if sigma == 0:
            assert np.array_equal(found[1], light[0, 1, p].numpy())
            continue
        offsets = np.arange(-40, 41)
        total = np.exp(-0.5 * (offsets / sigma) ** 2).sum()
        expected = np.exp(-0.5 * ((v - 5) ** 2 + (u - 2) ** 2) / sigma**2) / total**2
        assert found[1] == pytest.approx(expected, abs=3e-4)
        assert (found[1].sum() < 1 - 1e-3) == (sigma > 1)
