"""k-space as people's own files hold it: each file is made here, each right value worked out without the code."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from examples.kspace_examples import (
    COILS,
    fourier,
    head,
    inverse,
    kspace,
    white,
    write_cfl,
    write_fastmri,
    write_mat_73,
    write_mrd,
    xml,
)

from infield import InfieldError
from infield.datasets.mri.coil_noise import estimated_covariance
from infield.datasets.mri.convert import convert_mri, measurement_of
from infield.datasets.mri.kspace import KSpace
from infield.datasets.mri.readers.common import ArrayLayout
from infield.datasets.mri.readers.open import open_kspace

pytestmark = pytest.mark.field
SHAPE = (64, 54)


def read(path, number=0, **layout):
    with open_kspace(path, ArrayLayout(**layout)) as file:
        return file.slice(number)


def array(samples, **more):
    mask = (samples != 0).any(0)
    return KSpace(samples=samples.astype(complex), mask=mask, **more)


def refused(samples, words, **settings):
    with pytest.raises(InfieldError, match=words) as caught:
        measurement_of(array(samples), name="x", **settings)
    assert "\n" not in str(caught.value)
    return caught.value


ky, kx = np.meshgrid(*(np.arange(n) - n // 2 for n in SHAPE), indexing="ij")
PATTERNS = {
    "partial echo": (ky >= -20) & (kx >= -18),
    "ellipse": (ky / 32) ** 2 + (kx / 27) ** 2 <= 1,
    "corners": np.abs(ky) + np.abs(kx) < 50,
    "a hole": (np.abs(ky - 22) > 3) | (np.abs(kx) > 6),
}


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("kind", ["fastMRI", "MRD", "npy", "cfl"])
def test_zeros_are_no_data_in_any_format(tmp_path, kind, pattern):
    """The mask is that of the zeros, point by point, though the oversampled readout could be cropped."""
    kept, k = PATTERNS[pattern], kspace(SHAPE, field=2.0)
    data = (k * kept).astype(np.complex64)
    path = {
        "fastMRI": lambda: write_fastmri(tmp_path / "k.h5", data[None], header=xml(64, 54, 32)),
        "MRD": lambda: write_mrd(
            tmp_path / "k.h5",
            xml(54, 64, 27),
            [{"data": data[:, j], "kspace_encode_step_1": j} for j in range(64)],
        ),
        "npy": lambda: np.save(tmp_path / "k.npy", data) or tmp_path / "k.npy",
        "cfl": lambda: write_cfl(tmp_path / "k.cfl", data, (0, 1)),
    }[kind]()
    found = read(path)
    np.testing.assert_array_equal(found.mask, kept)
    np.testing.assert_allclose(found.samples, data, rtol=1e-6)


def test_a_mask_that_calls_zeros_measured_is_refused(tmp_path):
    k = kspace(SHAPE) * PATTERNS["partial echo"]
    np.savez(tmp_path / "k.npz", kspace=k, mask=np.ones(SHAPE))
    share = 1 - PATTERNS["partial echo"].mean()
    with pytest.raises(InfieldError, match=f"found {share:.0%} zeros among samples that the mask marks as measured"):
        read(tmp_path / "k.npz")
    np.savez(tmp_path / "k.npz", kspace=k)  # the remedy
    assert read(tmp_path / "k.npz").mask.mean() == pytest.approx(1 - share)


def test_rounding_is_no_data_and_its_noise_unknown(tmp_path):
    """Interpolated data: the transform of a padded block leaves rounding errors where nothing was measured."""
    block = np.zeros((COILS, 96, 96), complex)
    block[:, 16:80, 21:75] = kspace(SHAPE)
    np.save(tmp_path / "k.npy", fourier(inverse(block).astype(np.complex64)).astype(np.complex64))
    found = read(tmp_path / "k.npy")
    assert found.mask[16:80, 21:75].all() and found.mask.sum() < 1.01 * 64 * 54
    with pytest.raises(InfieldError, match="interpolated data, whose noise is unknown"):
        convert_mri(tmp_path / "k.npy")
    m = convert_mri(tmp_path / "k.npy", noise=2e-3)  # the remedy
    variance = m.measurement.noise.variance.flatten() * m.scale**2
    assert variance.numel() == COILS and any("noise as given" in step for step in m.steps)


IMAGE, MAPS = head(SHAPE)
K = kspace(SHAPE)
FLAT = fourier(MAPS * (np.hypot(*np.meshgrid(np.linspace(-1, 1, 54) / 0.8, np.linspace(-1, 1, 64) / 0.9)) < 1))


def spoke(angle):
    """Samples along a line through the centre `(coil, samples)`."""
    r = np.linspace(-1, 1, 54)
    return FLAT[:, 32 + np.rint(30 * np.cos(angle) * r).astype(int), 27 + np.rint(25 * np.sin(angle) * r).astype(int)]


NO_KSPACE = {
    "half transformed": np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(FLAT, -1), axis=-1, norm="ortho"), -1),
    "half transformed, the other way": np.fft.fftshift(
        np.fft.ifft(np.fft.ifftshift(FLAT, -2), axis=-2, norm="ortho"), -2
    ),
    "an image": MAPS * IMAGE + 0.01,
    "spokes": np.stack([spoke(angle) for angle in np.linspace(0, 3, 40)], axis=1),
}


@pytest.mark.parametrize("kind", NO_KSPACE)
def test_arrays_that_are_no_kspace_are_refused(kind):
    refused(NO_KSPACE[kind], "times the mean energy, expected k-space")


def test_the_option_overrides_and_is_written(tmp_path):
    np.save(tmp_path / "k.npy", NO_KSPACE["half transformed"])
    converted = convert_mri(tmp_path / "k.npy", coils_from="espirit", unchecked=True, noise=0.1)
    assert any("neither checked to be k-space" in step for step in converted.steps)


@pytest.mark.parametrize("shape", [(64, 54), (24, 30), (200, 40)])
def test_kspace_passes(shape):
    measurement_of(array(kspace(shape)), name="x")


@pytest.mark.parametrize("shift", [(4, 0), (0, -8), (12, 3), (1, 0)])
def test_kspace_off_its_centre_is_moved_back(shift):
    """Moved back by what it lay off, and said; lines that would come from outside are not measured."""
    K = fourier(MAPS * np.abs(IMAGE)) + 1e-3 * white(np.random.default_rng(0), COILS, *SHAPE)
    moved = np.roll(K, shift, (1, 2))
    m = measurement_of(array(moved), name="x")
    if max(map(abs, shift)) <= 2:
        assert not m.warnings
        return
    assert f"{shift[0]} lines along ky and {shift[1]} along kx" in m.warnings[0]
    y = torch.view_as_complex(m.measurement.y[0].movedim(0, -1).contiguous()).numpy() * m.scale
    mask = m.measurement.arrays["mask"]
    assert mask.sum() == (64 - abs(shift[0])) * (54 - abs(shift[1]))
    np.testing.assert_allclose(y[:, mask], K[:, mask])


WRONG = {
    "conjugated": lambda s: s.conj(),
    "reordered": lambda s: s[[1, 0, 3, 2]],
    "flipped": lambda s: s[:, ::-1],
    "shifted": lambda s: np.roll(s, 16, 2),
}


def local_maps():
    """Coils that each see their own quarter of the head, of unit power."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    angles = [0.2, 1.9, 3.3, 4.6]
    maps = np.stack([np.exp(-1.2 * ((y - np.cos(a)) ** 2 + (x - np.sin(a)) ** 2) + 1j * (a + 2 * y)) for a in angles])
    return maps / np.sqrt((np.abs(maps) ** 2).sum(0))


@pytest.mark.parametrize("wrong", WRONG)
def test_maps_that_do_not_fit_are_refused(wrong):
    maps = local_maps()
    k = fourier(maps * IMAGE) + 1e-3 * white(np.random.default_rng(0), COILS, *SHAPE)
    assert measurement_of(array(k, coil_maps=maps), name="x").unexplained < 0.01
    with pytest.raises(InfieldError, match=r"leave \d+% of the calibration block's energy unexplained"):
        measurement_of(array(k, coil_maps=WRONG[wrong](maps)), name="x")


def test_maps_that_fit_leave_next_to_nothing():
    assert measurement_of(array(K, coil_maps=MAPS), name="x").unexplained < 0.01
    espirit = measurement_of(array(K), name="x")
    assert espirit.unexplained < 0.03 and any("unexplained" in step for step in espirit.steps)


def shepp_logan(n=96):
    """Ellipses of Shepp and Logan's head (modified contrast), sharp edges and all."""
    table = [(1, .69, .92, 0, 0, 0), (-.8, .6624, .874, 0, -.0184, 0), (-.2, .11, .31, .22, 0, -18),
             (-.2, .16, .41, -.22, 0, 18), (.1, .21, .25, 0, .35, 0), (.1, .046, .046, 0, .1, 0)]  # fmt: skip
    y, x = np.meshgrid(*(np.linspace(-1, 1, n),) * 2, indexing="ij")
    image = np.zeros((n, n))
    for value, a, b, x0, y0, angle in table:
        c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        u, v = c * (x - x0) + s * (y - y0), -s * (x - x0) + c * (y - y0)
        image[(u / a) ** 2 + (v / b) ** 2 <= 1] += value
    return image


def textured(n=96):
    rng = np.random.default_rng(4)
    return shepp_logan(n) * (1 + 0.5 * rng.standard_normal((n, n)))


@pytest.mark.parametrize("picture", [shepp_logan, textured])
@pytest.mark.parametrize("lines", ["all", "every third"])
def test_noise_is_found_under_sharp_and_textured_heads(picture, lines):
    """Within 20 % of the truth for every coil, at a noise far below what the outermost samples hold of signal."""
    image, maps = picture(), head((96, 96))[1]
    sd = np.array([1.0, 1.5, 2.0, 0.7]) * 1e-3
    k = fourier(maps * image) + sd[:, None, None] * white(np.random.default_rng(0), COILS, 96, 96)
    mask = np.ones((96, 96), bool)
    if lines != "all":
        mask[np.arange(96) % 3 != 0] = False
        mask[36:60] = True
    psi, _ = estimated_covariance(k * mask, mask)
    np.testing.assert_allclose(np.sqrt(np.diag(psi).real), sd, rtol=0.2)


def test_noise_is_given_by_a_number_or_a_file(tmp_path):
    sd = 0.02
    n = np.sqrt(2) * sd * white(np.random.default_rng(3), COILS, 5000)
    np.save(tmp_path / "n.npy", n)
    np.save(tmp_path / "psi.npy", 2 * sd**2 * np.eye(COILS))
    for given in ({"noise": sd}, {"noise_from": tmp_path / "n.npy"}, {"noise_from": tmp_path / "psi.npy"}):
        m = measurement_of(array(K, coil_maps=MAPS), name="x", **given)
        np.testing.assert_allclose(m.measurement.noise.variance.flatten() * m.scale**2, sd**2, rtol=0.1)
    with pytest.raises(InfieldError, match=r"expected finite noise \(4 coils, samples\)"):
        np.save(tmp_path / "n.npy", n[:3])
        measurement_of(array(K), name="x", noise_from=tmp_path / "n.npy")


def test_the_crop_is_told_and_can_be_lowered():
    """A faint half of the anatomy is cut by ESPIRiT's crop; without a crop nothing is."""
    y = np.linspace(-1, 1, 64)[:, None]
    faint = IMAGE * np.where(y > 0, 1, 0.04)
    k = fourier(MAPS * faint) + 2e-3 * white(np.random.default_rng(0), COILS, *SHAPE)
    cut = measurement_of(array(k), name="x")
    whole = measurement_of(array(k), name="x", crop=0.0)
    lost = ~cut.measurement.arrays["coil_maps"].any(0) & (np.abs(faint) > 0.01)
    assert lost.sum() > 100 and cut.outside > 0
    assert any("outside the maps' support" in step for step in cut.steps)
    assert not whole.outside and not whole.warnings and whole.measurement.arrays["coil_maps"].any(0).all()


@pytest.mark.parametrize("convention", ["N - 1 - c", "N - c", "c"])
@pytest.mark.parametrize("c", [20, 27])
def test_reversed_partial_echoes_are_placed_by_their_peak(tmp_path, convention, c):
    """Every second line was read backwards; whichever way the file counts, the image is that of lines all forwards."""
    n, k = 46, kspace((64, 54), noise=0.01).astype(np.complex64)
    first = 27 - c if c <= 27 else 0  # kx index of sample 0 in forward lines, frequency zero at 27
    lines = []
    for j in range(64):
        data, line = k[:, j, first : first + n], {"kspace_encode_step_1": j, "center_sample": c}
        if j % 2:
            # the sample at kx = 0 is at index c of the line turned round
            told = {"N - 1 - c": n - 1 - c, "N - c": n - c, "c": c}[convention]
            line = {"kspace_encode_step_1": j, "center_sample": told, "flags": (22,)}
            data = data[:, ::-1]
        lines.append({**line, "data": data})
    found = read(write_mrd(tmp_path / "k.h5", xml(54, 64, 54), lines))
    np.testing.assert_allclose(found.samples, k * found.mask, rtol=1e-6)
    assert found.mask.sum() == 64 * n


@pytest.mark.parametrize("kind", ["MRD", "fastMRI"])
def test_a_coarser_image_of_the_same_field_of_view_is_not_cropped(tmp_path, kind):
    header = xml(54, 64, 27) if kind == "MRD" else xml(64, 54, 32)
    wide = 220 * 2
    same = header.replace("<x>220</x>", f"<x>{wide}</x>")
    k = kspace(SHAPE).astype(np.complex64)

    def write(text):
        if kind == "fastMRI":
            return read(write_fastmri(tmp_path / "k.h5", k[None], header=text))
        lines = [{"data": k[:, j], "kspace_encode_step_1": j} for j in range(64)]
        return read(write_mrd(tmp_path / "k.mrd", text, lines))

    axis = 0 if kind == "fastMRI" else 1
    found = write(same)
    assert found.mask.shape == SHAPE and found.mask.shape[axis] * found.voxel[axis] == pytest.approx(wide)
    np.testing.assert_array_equal(found.samples, k)
    (tmp_path / "k.mrd").unlink(missing_ok=True)
    found = write(header)
    assert found.mask.shape[axis] == SHAPE[axis] // 2


def test_dead_coils_are_dropped_and_said():
    dead = K.copy()
    dead[2] = 0
    m = measurement_of(array(dead), name="x")
    assert m.measurement.y.shape[2] == COILS - 1 and any("empty coils dropped: 2" in step for step in m.steps)
    m = measurement_of(array(dead, coil_maps=MAPS), name="x", unchecked=True)
    assert m.measurement.arrays["coil_maps"].shape[0] == COILS - 1


@pytest.mark.parametrize("copy", [lambda k: k[1], lambda k: 2j * k[0], lambda k: k[0] - 0.5 * k[2]])
def test_dependent_coils_are_refused(copy):
    twice = np.concatenate([K, copy(K)[None]])
    refused(twice, "are two coils the same")


def test_structs_of_matlab_with_two_parts(tmp_path):
    k = kspace((20, 15)).astype(np.complex64)
    with h5py.File(tmp_path / "k.mat", "w", userblock_size=512) as file:
        group = file.create_group("kspace")
        group["real"], group["imag"] = k.transpose(1, 2, 0).real.T, k.transpose(1, 2, 0).imag.T
    np.testing.assert_array_equal(read(tmp_path / "k.mat").samples, k)


@pytest.mark.parametrize("name", ["k", "k.hdr", "k.cfl"])
def test_base_names_of_bart(tmp_path, name):
    k = kspace((20, 15)).astype(np.complex64)
    write_cfl(tmp_path / "k.cfl", k, (0, 1))
    np.testing.assert_array_equal(read(tmp_path / name).samples, k)


@pytest.mark.parametrize("shape", [(0, 4, 20, 15), (0, 20, 15)])
def test_an_empty_file_has_no_slices(tmp_path, shape):
    write_fastmri(tmp_path / "k.h5", np.zeros((1, 4, 20, 15)))
    with h5py.File(tmp_path / "k.h5", "w") as file:
        file["kspace"] = np.zeros(shape, np.complex64)
    with pytest.raises(InfieldError, match="found an empty array: no slices"):
        read(tmp_path / "k.h5")


def test_axes_of_hdf5_are_named(tmp_path):
    """Coils last are told in a sentence whose remedy works; echoes are chosen and averages averaged."""
    k = np.stack([kspace((20, 15), seed=s) for s in range(2)]).astype(np.complex64)
    write_fastmri(tmp_path / "k.h5", k.transpose(0, 2, 3, 1))
    with pytest.raises(InfieldError, match=r"expected fewer coils than samples.*name the axes"):
        read(tmp_path / "k.h5")
    found = read(tmp_path / "k.h5", 1, order=("slice", "ky", "kx", "coil"))
    np.testing.assert_array_equal(found.samples, k[1])
    np.save(tmp_path / "k.npy", np.stack([k, 2 * k]))
    order = ("echo", "average", "coil", "ky", "kx")
    with pytest.raises(InfieldError, match="found 2 along echo"):
        read(tmp_path / "k.npy", order=order)
    found = read(tmp_path / "k.npy", order=order, at=(("echo", 1),))
    np.testing.assert_allclose(found.samples, k[0] + k[1], rtol=1e-6)
    found = read(tmp_path / "k.npy", order=("time", "slice", "coil", "ky", "kx"), at=(("time", 1),))
    np.testing.assert_array_equal(found.samples, 2 * k[0])


def test_scans_of_one_file_are_listed(tmp_path):
    import ismrmrd

    k = kspace(SHAPE).astype(np.complex64)
    for group, factor in (("b", 1), ("a", 2)):
        with ismrmrd.Dataset(str(tmp_path / "k.h5"), group) as file:
            file.write_xml_header(xml(54, 64, 54).encode())
            for j in range(64):
                line = ismrmrd.Acquisition.from_array(factor * k[:, j])
                line.center_sample, line.idx.kspace_encode_step_1 = 27, j
                file.append_acquisition(line)
    with pytest.raises(InfieldError, match=r"found 2 scans: a \(64 lines\), b \(64 lines\), expected one; name it"):
        read(tmp_path / "k.h5")
    np.testing.assert_array_equal(read(tmp_path / "k.h5", variable="a").samples, 2 * k)


HEADERS = {
    "no recon space": lambda t: t[: t.index("<reconSpace>")] + t[t.index("</reconSpace>") + 13 :],
    "no limits": lambda t: t[: t.index("<encodingLimits>")] + t[t.index("</encodingLimits>") + 17 :],
    "no trajectory": lambda t: t.replace("<trajectory>cartesian</trajectory>", ""),
    "no frequency": lambda t: t[: t.index("<experi")] + t[t.index("</experimentalConditions>") + 25 :],
    "decimal sizes": lambda t: t.replace("<x>54</x>", "<x>54.0</x>"),
    "no namespace": lambda t: t.replace(' xmlns="http://www.ismrm.org/ISMRMRD"', ""),
    "capitals": lambda t: t.replace("cartesian", "Cartesian"),
    "field of view 0": lambda t: t.replace("<y>128.0</y>", "<y>0</y>"),
}


@pytest.mark.parametrize("odd", HEADERS)
def test_odd_headers_of_mrd_are_read(tmp_path, odd):
    k, text = kspace(SHAPE).astype(np.complex64), xml(54, 64, 54)
    assert HEADERS[odd](text) != text
    lines = [{"data": k[:, j], "kspace_encode_step_1": j} for j in range(64)]
    found = read(write_mrd(tmp_path / "k.h5", HEADERS[odd](text), lines))
    np.testing.assert_array_equal(found.samples, k)
    assert (found.voxel is None) == (odd == "field of view 0")


def test_a_header_in_the_alphabet_of_windows():
    from infield.datasets.mri.readers.mrd_header import read_header

    text = xml(54, 64, 54).replace(
        "</ismrmrdHeader>", "<studyInformation>Köln, 3 µm</studyInformation></ismrmrdHeader>"
    )
    for declared in ("", '<?xml version="1.0" encoding="UTF-8"?>\n'):
        text = declared + text[text.index("<ismrmrdHeader") :]
        assert read_header(Path("k.h5"), text.encode("cp1252")) == read_header(Path("k.h5"), text.encode())


@pytest.mark.parametrize("name", ["", "fid", "rawdata.job0", "acqp", "2dseq"])
def test_scans_of_bruker_are_called_by_their_name(tmp_path, name):
    """Neither truncated nor damaged; the control is a file of that name elsewhere."""
    scan = tmp_path / "5"
    scan.mkdir()
    for file in {"acqp", "method", name} - {""}:
        (scan / file).write_bytes(b"##TITLE=Parameter List, ParaVision 6.0.1\n##JCAMPDX=4.24\n")
    with pytest.raises(InfieldError, match=r"a raw scan of Bruker's ParaVision.*bruker_to_ismrmrd") as caught:
        read(scan / name)
    assert "\n" not in str(caught.value) and "truncated" not in str(caught.value)
    (scan / "method").unlink()
    with pytest.raises(InfieldError, match=r"found a '(.job0)?' file"):
        read(scan / name)


@pytest.mark.parametrize("kind", ["MRD", "cfl"])
def test_volumes_of_two_phase_encodings_are_refused_in_one_line(tmp_path, kind):
    if kind == "cfl":
        np.zeros(8 * 8 * 8 * 2, "<c8").tofile(tmp_path / "k.cfl")
        (tmp_path / "k.hdr").write_text("# Dimensions\n8 8 8 2\n")
        path, words = tmp_path / "k.cfl", "found 3 of READ, PHS1, PHS2 longer than 1"
    else:
        lines = [{"data": K[:, j], "kspace_encode_step_1": j, "kspace_encode_step_2": j % 2} for j in range(64)]
        path, words = write_mrd(tmp_path / "k.h5", xml(54, 64, 54), lines), "a volume with 2 steps of a second phase"
    with pytest.raises(InfieldError, match=words) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_a_matlab_pair_stays_what_it_was(tmp_path):
    k = kspace((20, 15)).astype(np.complex64)
    write_mat_73(tmp_path / "k.mat", kspace=k.transpose(1, 2, 0))
    np.testing.assert_array_equal(read(tmp_path / "k.mat").samples, k)


DAMAGED = {
    "k.npy": lambda p, k: np.save(p, k),
    "k.npz": lambda p, k: np.savez(p, kspace=k),
    "k.cfl": lambda p, k: write_cfl(p, k, (0, 1)),
    "k.mat": lambda p, k: write_mat_73(p, kspace=k.transpose(1, 2, 0)),
    "k.h5": lambda p, k: write_fastmri(p, k[None], header=xml(20, 15, 20)),
    "k.mrd": lambda p, k: write_mrd(
        p, xml(15, 20, 15), [{"data": k[:, j], "kspace_encode_step_1": j} for j in range(20)]
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_are_read_or_refused(tmp_path, name):
    """Two hundred copies with some bytes changed, or cut: each is read, or refused in one line."""
    DAMAGED[name](tmp_path / name, kspace((20, 15)).astype(np.complex64))
    target = tmp_path / ("k.hdr" if name == "k.cfl" else name)
    whole, rng, refusals = target.read_bytes(), np.random.default_rng(0), 0
    for _ in range(200):
        damaged = bytearray(whole)
        if rng.random() < 0.2:
            damaged = damaged[: int(rng.integers(len(whole)))]
        for place in rng.integers(min(len(damaged), 4000), size=int(rng.integers(1, 9))) if damaged else ():
            damaged[place] = int(rng.integers(256))
        target.write_bytes(damaged)
        try:
            read(tmp_path / name)
        except InfieldError as error:
            refusals += 1
            assert "\n" not in str(error)
    assert refusals > 20
