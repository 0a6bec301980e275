"""A head seen by four coils, and writers of the real formats that k-space comes in."""

import h5py
import ismrmrd
import numpy as np

COILS = 4
ROOT = np.array([[3, 0, 0, 0], [1 + 1j, 2, 0, 0], [0, 0.5j, 2, 0], [0.3, 0, 0.4, 1]]) * 1e-2
PSI = ROOT @ ROOT.conj().T


def fourier(x, axes=(-2, -1)):
    return np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(x, axes), axes=axes, norm="ortho"), axes)


def inverse(k, axes=(-2, -1)):
    return np.fft.fftshift(np.fft.ifftn(np.fft.ifftshift(k, axes), axes=axes, norm="ortho"), axes)


def white(rng, *shape):
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)


def head(shape=(64, 54), field=1.0):
    """Image `(y, x)` and maps `(coil, y, x)` of unit power; rows span `field` times the head's own width."""
    y, x = np.meshgrid(field * np.linspace(-1, 1, shape[0]), np.linspace(-1, 1, shape[1]), indexing="ij")
    radius = np.hypot(y / 0.75, x / 0.7)
    image = (1 - radius**2).clip(0) ** 2 * (1 + 0.5 * np.cos(9 * y + 4 * x)) * np.exp(1j * (0.6 * y - x * y))
    angles = np.arange(COILS) * 2 * np.pi / COILS
    maps = np.stack([np.exp(-0.4 * ((y - np.cos(a)) ** 2 + (x - np.sin(a)) ** 2) + 1j * (a + y)) for a in angles])
    return image, maps / np.sqrt((np.abs(maps) ** 2).sum(0))


def kspace(shape=(64, 54), field=1.0, noise=0.1, seed=0):
    image, maps = head(shape, field)
    n = np.einsum("ab,bij->aij", ROOT, white(np.random.default_rng(seed), COILS, *shape))
    return fourier(maps * image) + noise * n


XML = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
  <acquisitionSystemInformation>
    <relativeReceiverNoiseBandwidth>{ratio}</relativeReceiverNoiseBandwidth>
  </acquisitionSystemInformation>
  <experimentalConditions><H1resonanceFrequency_Hz>63500000</H1resonanceFrequency_Hz></experimentalConditions>
  <encoding>
    <encodedSpace>
      <matrixSize><x>{nx}</x><y>{ny}</y><z>1</z></matrixSize>
      <fieldOfView_mm><x>{wide}</x><y>{high}</y><z>5</z></fieldOfView_mm>
    </encodedSpace>
    <reconSpace>
      <matrixSize><x>{rx}</x><y>{ry}</y><z>1</z></matrixSize>
      <fieldOfView_mm><x>220</x><y>{high}</y><z>5</z></fieldOfView_mm>
    </reconSpace>
    <encodingLimits>
      <kspace_encoding_step_1>
        <minimum>0</minimum><maximum>{last}</maximum><center>{centre}</center>
      </kspace_encoding_step_1>
    </encodingLimits>
    <trajectory>{trajectory}</trajectory>
  </encoding>
</ismrmrdHeader>"""


def xml(nx, ny, rx, *, ry=None, last=None, centre=None, trajectory="cartesian", ratio=1.0):
    last, centre = ny - 1 if last is None else last, ny // 2 if centre is None else centre
    return XML.format(nx=nx, ny=ny, rx=rx, ry=ry or ny, wide=220 * nx / rx, high=2.0 * ny, last=last, centre=centre,
                      trajectory=trajectory, ratio=ratio)  # fmt: skip


def write_fastmri(path, slices, *, header=None, mask=None, **targets):
    """`slices`: (slice, [coil,] rows, columns), complex; the layout of fastMRI's files."""
    with h5py.File(path, "w") as file:
        file.create_dataset("kspace", data=slices.astype(np.complex64), chunks=(1, *slices.shape[1:]))
        if header is not None:
            file.create_dataset("ismrmrd_header", data=header)
        if mask is not None:
            file["mask"] = mask
        for name, images in targets.items():
            file[name] = images.astype(np.float32)
            file.attrs["max"], file.attrs["norm"] = images.max(), np.linalg.norm(images)
        file.attrs["acquisition"], file.attrs["patient_id"] = "AXT2", "0" * 8
    return path


def write_mrd(path, header, lines):
    """`lines`: dictionaries of `data` (coil, samples) and of header fields, `flags` and counters."""
    with ismrmrd.Dataset(str(path), "dataset") as file:
        file.write_xml_header(header.encode())
        for number, line in enumerate(lines):
            line = dict(line)
            data = line.pop("data").astype(np.complex64)
            acquisition = ismrmrd.Acquisition.from_array(data)
            acquisition.scan_counter = number
            acquisition.center_sample = line.pop("center_sample", data.shape[1] // 2)
            for flag in line.pop("flags", ()):
                acquisition.set_flag(flag)
            for name, value in line.items():
                where = acquisition.idx if hasattr(acquisition.idx, name) else acquisition
                setattr(where, name, value)
            file.append_acquisition(acquisition)
    return path


def write_cfl(path, array, dims):
    """BART's pair: `array` ([slice,] coil, ky, kx); `dims`: positions of ky, kx among READ, PHS1, PHS2."""
    sizes = [1] * 16
    sizes[dims[0]], sizes[dims[1]], sizes[3] = array.shape[-2], array.shape[-1], array.shape[-3]
    order = {dims[0]: -2, dims[1]: -1, 3: -3}
    if array.ndim == 4:
        sizes[13], order[13] = array.shape[0], 0
    axes = [order[d] % array.ndim for d in sorted(order)]
    path.with_suffix(".hdr").write_text("# Dimensions\n" + " ".join(map(str, sizes)) + "\n# Command\nbart phantom\n")
    np.transpose(array, axes).astype("<c8").ravel(order="F").tofile(path)
    return path


def write_mat_73(path, **arrays):
    """MATLAB 7.3: HDF5 with a user block, axes in reverse, complex numbers as pairs of real and imag."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in arrays.items():
            values = np.ascontiguousarray(values.T)
            if values.dtype.kind == "c":
                part = values.real.dtype
                pairs = np.empty(values.shape, dtype=[("real", part), ("imag", part)])
                pairs["real"], pairs["imag"] = values.real, values.imag
                values = pairs
            file[name] = values
            file[name].attrs["MATLAB_class"] = np.bytes_("double")
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    return path
