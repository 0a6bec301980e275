"""The intermediate of all readers: transforms on odd sizes, cropping, whitening, targets, coils that do not match."""

import numpy as np
import pytest
import torch
from examples.kspace_examples import COILS, PSI, ROOT, head, white

from infield import InfieldError
from infield.core.grid import Grid
from infield.datasets.mri.coil_maps import coil_maps
from infield.datasets.mri.kspace import (
    KSpace,
    cholesky,
    fourier,
    inverse_fourier,
    minimum_variance_unbiased,
    remove_oversampling,
    root_sum_of_squares,
)
from infield.datasets.mri.map_sources import normalised
from infield.physics.operators.registry import build_operator

SIZES = [(8, 6), (9, 6), (8, 7), (9, 7), (213, 5), (1, 3)]


@pytest.mark.parametrize("shape", SIZES)
def test_the_transform_is_unitary_and_centred(shape):
    """<F x, y> = <x, F^-1 y>, |F x| = |x|, F^-1 F = 1, and the formula itself, for odd sizes as for even ones."""
    rng = np.random.default_rng(0)
    x, y = white(rng, 2, *shape), white(rng, 2, *shape)
    assert np.vdot(y, fourier(x)) == pytest.approx(np.vdot(inverse_fourier(y), x), rel=1e-12)
    assert np.linalg.norm(fourier(x)) == pytest.approx(np.linalg.norm(x), rel=1e-13)
    np.testing.assert_allclose(inverse_fourier(fourier(x)), x, atol=1e-13)
    matrices = []
    for n in shape:
        k = np.arange(n) - n // 2
        matrices.append(np.exp(-2j * np.pi * np.outer(k, k) / n) / np.sqrt(n))
    np.testing.assert_allclose(fourier(x), matrices[0] @ x @ matrices[1].T, atol=1e-12)


@pytest.mark.parametrize("shape", [(8, 6), (9, 7)])
def test_shifts_in_the_wrong_order_are_right_for_even_sizes_only(shape):
    """Negative control: fftshift before and ifftshift after, as some published code has it."""
    x = white(np.random.default_rng(1), *shape)
    wrong = np.fft.ifftshift(np.fft.fft2(np.fft.fftshift(x), norm="ortho"))
    assert np.allclose(wrong, fourier(x)) == (shape == (8, 6))


@pytest.mark.parametrize("shape", [(9, 7), (12, 7), (12, 10)])
def test_the_operator_has_the_same_transform(shape):
    image, maps = head(shape)
    description = {"name": "multicoil-mri", "arrays": {"coil_maps": "coil_maps", "mask": "mask"}}
    arrays = {"coil_maps": maps, "mask": np.ones(shape, dtype=bool)}
    operator = build_operator(description, arrays, Grid.regular(shape), 2)
    found = operator.A(torch.from_numpy(np.stack([image.real, image.imag]))[None])[0].numpy()
    np.testing.assert_allclose(found[0] + 1j * found[1], fourier(maps * image), atol=1e-12)


@pytest.mark.parametrize(("n", "size"), [(16, 8), (17, 8), (16, 9), (17, 9), (640, 320)])
def test_cropping_keeps_the_middle_of_the_image_and_white_noise(n, size):
    rng = np.random.default_rng(2)
    image = white(rng, 3, n)
    cropped = remove_oversampling(fourier(image), -1, size)
    np.testing.assert_allclose(
        inverse_fourier(cropped), image[:, n // 2 - size // 2 : n // 2 - size // 2 + size], atol=1e-12
    )
    turned = remove_oversampling(np.swapaxes(fourier(image), -2, -1), -2, size)
    np.testing.assert_allclose(turned, np.swapaxes(cropped, -2, -1), atol=1e-12)
    rows = remove_oversampling(np.eye(n), -1, size)  # its rows are the crop's matrix, transposed
    np.testing.assert_allclose(rows.conj().T @ rows, np.eye(size), atol=1e-12)  # noise keeps covariance 1


@pytest.mark.parametrize(("shape", "few"), [((24, 20), (12, 10)), ((25, 21), (13, 10)), ((24, 21), (11, 21))])
def test_a_lower_resolution_is_the_same_image_at_fewer_points(shape, few):
    """A band-limited image has the same values at the points that both grids have, but for the transform's norm."""
    small = white(np.random.default_rng(0), 2, *few)
    middle = tuple(slice(n // 2 - m // 2, n // 2 - m // 2 + m) for n, m in zip(shape, few, strict=True))
    samples = np.zeros((2, *shape), dtype=complex)
    samples[:, *middle] = small
    full = KSpace(samples=samples, mask=np.ones(shape, dtype=bool), voxel=(1.0, 2.0))
    cropped = full.cropped(few)
    np.testing.assert_array_equal(cropped.samples, small)
    assert cropped.voxel == (shape[0] / few[0], 2 * shape[1] / few[1])
    gain = np.sqrt(np.prod(few) / np.prod(shape))
    of_centre = [inverse_fourier(k)[..., k.shape[-2] // 2, k.shape[-1] // 2] for k in (samples, small)]
    np.testing.assert_allclose(of_centre[1] * gain, of_centre[0], atol=1e-12)


def test_every_second_sample_is_no_crop():
    """Negative control: leaving out every second sample folds the outside into the image."""
    image = np.zeros((1, 16), dtype=complex)
    image[0, 1] = 1  # outside the middle 8
    assert np.abs(remove_oversampling(fourier(image), -1, 8)).max() < 1e-15
    assert np.abs(inverse_fourier(fourier(image)[:, ::2])).max() > 0.5


def noisy(n=4000, seed=3):
    samples = np.einsum("ab,bij->aij", ROOT, white(np.random.default_rng(seed), COILS, n // 50, 50))
    return KSpace(samples=samples, mask=np.ones((n // 50, 50), dtype=bool), noise_covariance=PSI)


def test_pre_whitened_noise_has_identity_covariance():
    """4000 samples: every entry within 4.5 standard errors of the identity; before, it is far from it."""
    raw = noisy()
    white_noise = raw.whitened().samples.reshape(COILS, -1)
    error = np.abs(white_noise @ white_noise.conj().T / 4000 - np.eye(COILS)) * np.sqrt(4000)
    assert error.max() < 4.5
    mixed = raw.samples.reshape(COILS, -1) / np.sqrt(np.diag(PSI).real)[:, None]  # control: every coil scaled alone
    assert np.abs(mixed @ mixed.conj().T / 4000 - np.eye(COILS)).max() * np.sqrt(4000) > 20


def test_whitening_is_the_inverse_root():
    root = cholesky(PSI)
    np.testing.assert_allclose(root @ root.conj().T, PSI, atol=1e-18)
    inverse_root = np.linalg.inv(root)
    np.testing.assert_allclose(inverse_root @ PSI @ inverse_root.conj().T, np.eye(COILS), atol=1e-12)
    wrong = inverse_root.conj().T  # negative control
    assert np.abs(wrong @ PSI @ wrong.conj().T - np.eye(COILS)).max() > 0.1
    assert noisy().whitened().noise_covariance == pytest.approx(np.eye(COILS))


def test_whitening_changes_no_estimate():
    """The MVUE of whitened data under whitened maps is that of the data under their covariance."""
    image, maps = head((16, 14))
    n = np.einsum("ab,bij->aij", ROOT, white(np.random.default_rng(4), COILS, 16, 14))
    raw = KSpace(
        samples=fourier(maps * image) + fourier(n),
        mask=np.ones((16, 14), dtype=bool),
        noise_covariance=PSI,
        coil_maps=maps,
    )
    made_white = raw.whitened()
    expected = minimum_variance_unbiased(inverse_fourier(raw.samples), maps, PSI)
    found = minimum_variance_unbiased(inverse_fourier(made_white.samples), made_white.coil_maps)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_mvue_is_unbiased_and_of_least_variance():
    image, maps = head((12, 10))
    np.testing.assert_allclose(minimum_variance_unbiased(maps * image, maps, PSI), image, atol=1e-13)
    noise = np.einsum("ab,bnij->naij", ROOT, white(np.random.default_rng(5), COILS, 4000, 12, 10))
    weighted = np.array([minimum_variance_unbiased(n, maps, PSI) for n in noise])
    plain = np.array([minimum_variance_unbiased(n, maps) for n in noise])
    bound = 1 / np.einsum("aij,ab,bij->ij", maps.conj(), np.linalg.inv(PSI), maps).real
    ratio = (np.abs(weighted) ** 2).mean(0) / bound  # an exponential mean of 4000
    assert np.abs(ratio - 1).max() < 4.5 / np.sqrt(4000)
    assert ((np.abs(plain) ** 2).mean(0) / bound).mean() > 1.2  # negative control: coils weighed alike
    outside = maps * (np.arange(10) > 4)
    assert (minimum_variance_unbiased(outside, outside)[:, :5] == 0).all()


def test_root_of_the_sum_of_squares_by_hand():
    images = np.array([[[3.0, 1j]], [[4.0j, 0]]])
    np.testing.assert_array_equal(root_sum_of_squares(images), [[5, 1]])


@pytest.mark.parametrize("shape", [(40, 36), (41, 37)])
def test_espirit_maps_have_unit_power_where_there_is_signal(shape):
    """sum |s|^2 is 1 or 0, 1 wherever the head is, and the maps are the true ones up to a phase: odd sizes too."""
    image, maps = head(shape)
    found = coil_maps(fourier(maps * image), 24)
    power = (np.abs(found) ** 2).sum(0)
    inside = np.abs(image) > 0.1 * np.abs(image).max()
    assert np.all((np.abs(power - 1) < 1e-12) | (power == 0)) and np.all(power[inside] > 0.5)
    assert np.abs((found.conj() * maps).sum(0))[inside].min() > 0.99
    assert np.abs((found.conj() * maps[::-1]).sum(0))[inside].min() < 0.9  # negative control: coils in another order


def test_maps_of_a_file_are_normalised():
    _, maps = head((12, 10))
    scaled = maps * (1 + np.arange(10))
    scaled[:, :, 0] = 0
    power = (np.abs(normalised(scaled)) ** 2).sum(0)
    np.testing.assert_allclose(power, np.broadcast_to(np.arange(10) > 0, power.shape), atol=1e-14)


@pytest.mark.parametrize(
    ("lines", "complete"),
    [
        (slice(None), True),
        (slice(3, 11), True),
        (slice(0, 8), True),
        (slice(None, None, 2), False),
        ([0, 1, 2, 5], False),
    ],
)
def test_what_is_complete(lines, complete):
    mask = np.zeros((6, 12), dtype=bool)
    mask[:, lines] = True
    assert KSpace(samples=np.zeros((1, 6, 12)), mask=mask).complete is complete
    mask[2] = False
    assert not KSpace(samples=np.zeros((1, 6, 12)), mask=mask).complete


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"mask": np.ones((6, 7), dtype=bool)}, r"found mask of shape \(6, 7\), expected \(6, 8\)"),
        (
            {"coil_maps": np.ones((3, 6, 8))},
            r"found coil maps of shape \(3, 6, 8\), expected \(2, 6, 8\).*do not match",
        ),
        ({"noise_covariance": np.eye(3)}, r"found noise covariance of shape \(3, 3\), expected \(2, 2\)"),
        ({"calibration": np.ones((2, 6, 4))}, "found calibration lines of shape"),
    ],
)
def test_coils_and_sizes_that_do_not_match(wrong, words):
    right = {"samples": np.ones((2, 6, 8), dtype=complex), "mask": np.ones((6, 8), dtype=bool)}
    with pytest.raises(InfieldError, match=words):
        KSpace(**{**right, **wrong})


@pytest.mark.parametrize("psi", [np.array([[1, 1], [1, 1.0]]), np.array([[1, 2], [0, 1.0]]), np.diag([1.0, 0])])
def test_a_covariance_that_is_none(psi):
    with pytest.raises(InfieldError, match="found a noise covariance that is no covariance"):
        cholesky(psi)
    with pytest.raises(InfieldError, match="found no noise covariance"):
        KSpace(samples=np.ones((2, 6, 8)), mask=np.ones((6, 8), dtype=bool)).whitened()
