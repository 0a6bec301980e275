"""Raw k-space to a measurement: on a simulated head with known maps and noise, on a real slice, and on bad input."""

import dataclasses
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from infield import InfieldError
from infield.datasets.formats.measurement import open_measurement
from infield.datasets.mri import convert
from infield.datasets.mri.coil_maps import calibration_width, coil_maps
from infield.datasets.mri.coil_noise import coil_covariance, outer_samples
from infield.datasets.mri.convert import convert_mri
from infield.datasets.mri.converted import open_held_out
from infield.physics.mri.noise import CoilGaussianNoise

COILS = 4
ROOT = np.array([[3, 0, 0, 0], [1 + 1j, 2, 0, 0], [0, 0.5j, 2, 0], [0.3, 0, 0.4, 1]]) * 1e-2
PSI = ROOT @ ROOT.conj().T


def fourier(x):
    axes = (-2, -1)
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(x, axes), axes=axes, norm="ortho"), axes)


def white(rng, *shape):
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)


def head(shape=(64, 54), seed=0, centre=20):
    """A smooth complex head seen by four coils: k-space (coil, ky, kx), its image and its normalised maps."""
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    radius = np.hypot(y / 0.75, x / 0.7)
    image = (1 - radius**2).clip(0) ** 2 * (1 + 0.5 * np.cos(9 * y + 4 * x)) * np.exp(1j * (0.6 * y - x * y))
    angles = np.arange(COILS) * 2 * np.pi / COILS
    maps = np.stack([np.exp(-0.4 * ((y - np.cos(a)) ** 2 + (x - np.sin(a)) ** 2) + 1j * (a + y)) for a in angles])
    maps /= np.sqrt((np.abs(maps) ** 2).sum(0))
    sampled = rng.random(shape) < 0.45
    middle = tuple(slice(n // 2 - centre // 2, n // 2 - centre // 2 + centre) for n in shape)
    sampled[middle] = True
    noise = np.einsum("ab,bij->aij", ROOT, white(rng, COILS, *shape))
    return (fourier(maps * image) + noise) * sampled, image, maps


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    path = tmp_path_factory.mktemp("mri") / "head.npy"
    kspace, image, maps = head()
    np.save(path, kspace)
    return convert_mri(path, hold_out=0.1, seed=1), kspace, image, maps


def _chi_square_of_truth(measurement, scale, image, maps):
    """Reduced chi-square of the true image, in the gauge (phase and support) of the estimated maps."""
    estimated = measurement.arrays["coil_maps"]
    truth = (estimated.conj() * maps).sum(0) * image / scale
    return measurement.chi_square(torch.from_numpy(np.stack([truth.real, truth.imag]))[None]).item()


def test_true_image_explains_the_data_of_a_simulated_head(simulated):
    """Maps, noise and operator together: the true image leaves nothing but noise."""
    converted, _, image, maps = simulated
    measurement = converted.measurement
    assert measurement.linear_gaussian and measurement.channels == ("real", "imag")
    assert 0.9 < _chi_square_of_truth(measurement, converted.scale, image, maps) < 1.15
    overlap = np.abs((measurement.arrays["coil_maps"].conj() * maps).sum(0))
    assert overlap[np.abs(image) > 0.3].min() > 0.99


def test_wrong_maps_or_noise_do_not(simulated):
    """Negative control: coils in another order, half the noise."""
    converted, _, image, maps = simulated
    assert _chi_square_of_truth(converted.measurement, converted.scale, image, maps[::-1]) > 10
    quarter = CoilGaussianNoise(converted.measurement.noise.covariance / 4)
    overconfident = dataclasses.replace(converted.measurement, noise=quarter)
    assert _chi_square_of_truth(overconfident, converted.scale, image, maps) > 3.5


def test_noise_of_a_simulated_head(simulated):
    """Psi within 20 % of its known value, from 160 samples of 4 coils (sampling error alone is about 8 %)."""
    converted, *_ = simulated
    estimate = converted.measurement.noise.covariance.numpy() * converted.scale**2
    assert np.linalg.norm(estimate - PSI) < 0.2 * np.linalg.norm(PSI)
    assert np.linalg.norm(estimate - np.diag(np.diag(PSI))) > 0.3 * np.linalg.norm(PSI)  # correlations are seen


def test_scale_and_layout(simulated):
    converted, kspace, *_ = simulated
    measurement = converted.measurement
    zero_filled = measurement.operator.A_adjoint(measurement.y)[0]
    assert np.quantile(zero_filled.norm(dim=0), 0.99) == pytest.approx(1, rel=1e-12)
    together = (measurement.y + converted.held_out_y)[0].numpy() * converted.scale
    np.testing.assert_allclose(together[0] + 1j * together[1], kspace, atol=1e-14)
    power = (np.abs(measurement.arrays["coil_maps"]) ** 2).sum(0)
    assert np.all((np.abs(power - 1) < 1e-12) | (power == 0))


def test_held_out_samples(simulated, tmp_path):
    """A tenth of the samples, none of them in the calibration block or in the data; another seed, others."""
    converted, kspace, *_ = simulated
    sampled, held_out = (kspace != 0).any(0), converted.held_out_mask.numpy()
    assert held_out.sum() == round(0.1 * sampled.sum()) and not (held_out & ~sampled).any()
    assert converted.calibration_width == 20 and not held_out[22:42, 17:37].any()
    assert (converted.measurement.y[0, :, :, held_out] == 0).all()
    assert converted.measurement.count == 2 * COILS * (sampled.sum() - held_out.sum())
    np.save(tmp_path / "head.npy", kspace)
    same, other = (convert_mri(tmp_path / "head.npy", hold_out=0.1, seed=s).held_out_mask for s in (1, 2))
    assert torch.equal(same, converted.held_out_mask) and not torch.equal(other, converted.held_out_mask)


def test_written_and_read(simulated, tmp_path):
    converted, *_ = simulated
    converted.write(tmp_path / "m.zarr")
    read = open_measurement(tmp_path / "m.zarr")
    assert torch.equal(read.y, converted.measurement.y) and read.count == converted.measurement.count
    assert torch.equal(read.noise.covariance, converted.measurement.noise.covariance)
    mask, y = open_held_out(tmp_path / "m.zarr")
    assert torch.equal(mask, converted.held_out_mask) and torch.equal(y, converted.held_out_y)
    with pytest.raises(InfieldError, match="existing"):
        converted.write(tmp_path / "m.zarr")


def test_nothing_held_out(tmp_path):
    np.save(tmp_path / "head.npy", head()[0].astype(np.complex64))
    converted = convert_mri(tmp_path / "head.npy")
    assert not converted.held_out_mask.any()
    converted.write(tmp_path / "m.zarr")
    assert open_held_out(tmp_path / "m.zarr") is None


def test_covariance_of_pure_noise():
    """Within sampling error of the truth: 4000 samples, 4 coils."""
    samples = ROOT @ white(np.random.default_rng(0), COILS, 4000)
    estimate = coil_covariance(samples)
    assert np.linalg.norm(estimate - PSI) < 0.05 * np.linalg.norm(PSI)
    np.testing.assert_array_equal(estimate, estimate.conj().T)


def test_covariance_bears_outliers():
    """Two in a hundred samples with a signal ten times the noise; the plain second moment does not bear them."""
    rng = np.random.default_rng(1)
    samples = ROOT @ white(rng, COILS, 4000)
    samples[:, :80] += 0.25 * white(rng, COILS, 80)
    plain = samples @ samples.conj().T / samples.shape[1]
    assert np.linalg.norm(coil_covariance(samples) - PSI) < 0.12 * np.linalg.norm(PSI)
    assert np.linalg.norm(plain - PSI) > 0.5 * np.linalg.norm(PSI)


def test_covariance_needs_samples():
    with pytest.raises(InfieldError, match="found 15 outer k-space samples, expected at least 16"):
        coil_covariance(white(np.random.default_rng(0), COILS, 15))


def test_outer_samples_are_the_outermost():
    kspace = np.zeros((1, 9, 8), dtype=complex)
    y, x = np.meshgrid((np.arange(9) - 4) / 4.5, (np.arange(8) - 4) / 4, indexing="ij")
    kspace[0] = np.hypot(y, x)
    outer = outer_samples(kspace, kspace[0] != 0, 0.25)
    inner = np.setdiff1d(kspace[kspace != 0].real, outer.real)
    assert 15 <= outer.size <= 20 and outer.real.min() > inner.max()


@pytest.mark.parametrize(("shape", "width"), [((40, 41), 24), ((31, 18), 18), ((40, 40), 13), ((9, 40), 0)])
def test_calibration_width(shape, width):
    sampled = np.zeros(shape, dtype=bool)
    block = [slice(n // 2 - width // 2, n // 2 - width // 2 + width) for n in shape]
    sampled[tuple(block)] = True
    assert calibration_width(sampled) == width
    assert calibration_width(np.ones(shape, dtype=bool)) == min(24, *shape)


def test_maps_of_one_coil_are_a_phase():
    kspace = head()[0][:1]
    power = np.abs(coil_maps(kspace, 20)) ** 2
    assert np.all((np.abs(power - 1) < 1e-12) | (power == 0))


def _change(function):
    def spoil(path):
        np.save(path, function(head()[0]))

    return spoil


def _nan(kspace):
    kspace[0, 3, 3] = np.nan
    return kspace


def _sparse(kspace):
    kspace[:, 27, 27] = 0
    return kspace


BAD = {
    "missing": (lambda p: None, "found no such file"),
    "text": (lambda p: p.write_text("hello"), "found no readable NumPy file"),
    "cut": (lambda p: (np.save(p, head()[0]), p.write_bytes(p.read_bytes()[:1000])), "found no readable NumPy file"),
    "objects": (lambda p: np.save(p, np.array([{}], dtype=object)), "found no readable NumPy file"),
    "one coil without its axis": (
        _change(lambda k: k[0]),
        "found an array of shape (64, 54), expected complex",
    ),
    "real": (_change(np.abs), "found values of type float64 of shape (4, 64, 54), expected complex k-space"),
    "NaN": (_change(_nan), "found NaN or infinity in 1 of 13824 values"),
    "zeros": (_change(np.zeros_like), "found 0 everywhere"),
    "not centred": (_change(lambda k: np.fft.ifftshift(k, (1, 2))), "numpy.fft.fftshift does it"),
    "no centre": (_change(_sparse), "found a fully sampled centre of"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_kspace_is_refused_in_one_line(tmp_path, case):
    spoil, expected = BAD[case]
    path = tmp_path / "kspace.npy"
    spoil(path)
    with pytest.raises(InfieldError) as caught:
        convert_mri(path)
    assert expected in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_other_formats_are_named(tmp_path):
    (tmp_path / "k.dat").write_bytes(b"")
    with pytest.raises(InfieldError, match=r"found a '\.dat' file.*\.npy, \.npz, \.h5.*siemens_to_ismrmrd"):
        convert_mri(tmp_path / "k.dat")


@pytest.mark.parametrize("share", [-0.1, 0.9, 1.0, float("nan")])
def test_odd_share_to_hold_out(tmp_path, share):
    np.save(tmp_path / "k.npy", head()[0])
    with pytest.raises(InfieldError, match="hold-out: found"):
        convert_mri(tmp_path / "k.npy", hold_out=share)


def test_real_slice(tmp_path):
    """The 8-channel brain slice of sigpy's tutorial."""
    if "INFIELD_DATA" not in os.environ:
        pytest.skip("INFIELD_DATA does not name the folder of the real data")
    source = Path(os.environ["INFIELD_DATA"]) / "mri" / "sigpy_cartesian_ksp.npy"
    if not source.exists():
        pytest.skip(f"{source} is not there")
    converted = convert_mri(source, hold_out=0.1)
    measurement, kspace = converted.measurement, np.load(source)
    assert converted.calibration_width == 24 and converted.held_out_mask.sum() == 515
    assert measurement.y.shape == (1, 2, 8, 230, 180) and measurement.count == 2 * 8 * (5148 - 515)
    support = (np.abs(measurement.arrays["coil_maps"]) > 0).any(0).mean()
    assert 0.65 < support < 0.78
    # two other estimates from other samples: what the noise is must not hang on the choice of the shell
    estimate = np.sqrt(np.diag(measurement.noise.covariance.numpy()).real) * converted.scale
    for fraction in (0.025, 0.2):
        shell = outer_samples(kspace.astype(complex), (kspace != 0).any(0), fraction)
        np.testing.assert_allclose(estimate, np.sqrt((np.abs(shell) ** 2).mean(1)), rtol=0.12)
    converted.write(tmp_path / "brain.zarr")
    assert torch.equal(open_measurement(tmp_path / "brain.zarr").y, measurement.y)


@pytest.mark.parametrize(("fine", "coarse"), [((9, 12), (4, 7)), ((8, 7), (8, 3)), ((6, 6), (3, 4))])
def test_what_is_held_out_is_left_out_of_the_outer_samples_at_its_frequencies(monkeypatch, fine, coarse):
    monkeypatch.setattr(convert, "outer_samples", lambda samples, mask: mask)
    rng = np.random.default_rng(0)
    mask, held_out = rng.random(fine) < 0.8, rng.random(coarse) < 0.5

    def frequencies(shape):
        axes = (np.fft.fftshift(np.fft.fftfreq(n, 1 / n)).astype(int) for n in shape)
        return list(zip(*(axis.flat for axis in np.meshgrid(*axes, indexing="ij")), strict=True))

    gone = {at for at, out in zip(frequencies(coarse), held_out.flat, strict=True) if out}
    expected = [bool(seen) and at not in gone for at, seen in zip(frequencies(fine), mask.flat, strict=True)]
    found = convert._outer(SimpleNamespace(mask=mask, samples=None), held_out)
    assert found.ravel().tolist() == expected and 0 < sum(expected) < mask.sum()
