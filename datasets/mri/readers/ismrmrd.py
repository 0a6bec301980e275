"""Raw data in the ISMRMRD format (Inati et al. 2017, doi:10.1002/mrm.26089; files .h5 or .mrd): Cartesian 2-D scans.

Lines are put where their counters say: the readout's sample j at kx = j - center_sample, the line at ky =
kspace_encode_step_1 - center of the encoding limits, so that partial Fourier and partial echoes leave holes in the mask
and nothing else. Lines that were read in reverse are turned round first; `center_sample` then counts along rising kx.

* Noise lines give the covariance of the coils, in the bandwidth of the imaging lines: dwell times scale it, and the
  header's `relativeReceiverNoiseBandwidth`.
* Lines for calibration only go into `calibration`, those for both into both.
* Lines of navigators, phase correction, dummies and the like are left out, and so are all but the first contrast,
  phase, repetition and set.
* A line that was measured n times is averaged, and the noise variance is divided by n; where n differs from line to
  line the first of each counts.
* An oversampled readout is cropped in image space, unless a partial echo leaves samples out: cropping would mix them
  with the measured ones, so that the wide image is kept.

Scans of volumes (two phase encodings) and other trajectories are refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from infield.core.errors import InfieldError
from infield.datasets.mri.kspace import KSpace, remove_oversampling
from infield.datasets.mri.readers.common import KSpaceFile

_NEEDED = "a group with 'xml' and 'data' (ISMRMRD), or an array 'kspace' (fastMRI)"
_FIRST_OF = ("contrast", "phase", "repetition", "set")
_OTHER_PURPOSES = (
    "ACQ_IS_NAVIGATION_DATA",
    "ACQ_IS_PHASECORR_DATA",
    "ACQ_IS_HPFEEDBACK_DATA",
    "ACQ_IS_DUMMYSCAN_DATA",
    "ACQ_IS_RTFEEDBACK_DATA",
    "ACQ_IS_SURFACECOILCORRECTIONSCAN_DATA",
    "ACQ_IS_PHASE_STABILIZATION_REFERENCE",
    "ACQ_IS_PHASE_STABILIZATION",
)


def open_ismrmrd(path: Path, file: h5py.File) -> KSpaceFile:
    """Wrap an open file: its header and the headers of its lines are read, the lines themselves slice by slice.

    Raises:
        InfieldError: It is no Cartesian 2-D scan, or the package ismrmrd is missing.
    """
    groups = [name for name, item in file.items() if isinstance(item, h5py.Group) and {"xml", "data"} <= set(item)]
    if not groups:
        raise InfieldError(where=path, found=", ".join(map(repr, file)) or "nothing", expected=_NEEDED)
    try:
        import ismrmrd
    except ModuleNotFoundError:
        raise InfieldError(
            where=path, found="an ISMRMRD file, which needs the package ismrmrd", remedy="pip install 'infield[mri]'"
        ) from None
    scan = _Scan(path, file[groups[0]], ismrmrd)
    return KSpaceFile(path=path, format="ISMRMRD", slices=len(scan.slices), read=scan.read)


class _Scan:
    def __init__(self, path: Path, group: h5py.Group, ismrmrd: Any) -> None:
        self.path, self.data = path, group["data"]
        try:
            header = ismrmrd.xsd.CreateFromDocument(group["xml"][0])
            encoding = header.encoding[0]
            trajectory = str(getattr(encoding.trajectory, "value", encoding.trajectory))
            encoded, recon = encoding.encodedSpace, encoding.reconSpace
            self.nx, self.ny = int(encoded.matrixSize.x), int(encoded.matrixSize.y)
            self.recon_x = int(recon.matrixSize.x)
            extent = float(encoded.fieldOfView_mm.y), float(encoded.fieldOfView_mm.x)
        except Exception as error:  # the parser passes on whatever it meets
            reason = " ".join(str(error).split())[:200]
            raise InfieldError(
                where=f"{path}: 'xml'", found=f"no header of an MRD file ({reason})", expected="one"
            ) from error
        if trajectory != "cartesian":
            raise InfieldError(where=path, found=f"a {trajectory} trajectory", expected="a cartesian one")
        self.voxel = (extent[0] / self.ny, extent[1] / self.nx) if min(extent) > 0 else None
        limits = getattr(encoding.encodingLimits, "kspace_encoding_step_1", None)
        self.centre = self.ny // 2 if limits is None else int(limits.center)
        system = header.acquisitionSystemInformation
        ratio = None if system is None else system.relativeReceiverNoiseBandwidth
        self.bandwidth_ratio = 1.0 if ratio is None else float(ratio)
        self.heads = self.data["head"]
        self._sort(ismrmrd)

    def _sort(self, ismrmrd: Any) -> None:
        """Which line serves what."""
        flags, idx = self.heads["flags"], self.heads["idx"]

        def flagged(*names: str) -> np.ndarray:
            bits = sum(1 << (int(getattr(ismrmrd, name)) - 1) for name in names)
            return (flags & np.uint64(bits)) != 0

        self.noise_lines = np.flatnonzero(flagged("ACQ_IS_NOISE_MEASUREMENT"))
        self.reverse = flagged("ACQ_IS_REVERSE")
        lines = ~flagged("ACQ_IS_NOISE_MEASUREMENT", *_OTHER_PURPOSES) & (self.heads["encoding_space_ref"] == 0)
        self.notes = []
        for counter in _FIRST_OF:
            if lines.any() and np.ptp(idx[counter][lines]):
                first = int(idx[counter][lines].min())
                self.notes.append(f"{counter} {first} alone")
                lines &= idx[counter] == first
        both = flagged("ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING")
        calibrates = flagged("ACQ_IS_PARALLEL_CALIBRATION")
        self.imaging, self.calibrating = lines & (both | ~calibrates), lines & (both | calibrates)
        if not self.imaging.any():
            raise InfieldError(where=self.path, found=f"{len(flags)} lines and none for imaging", expected="some")
        if np.ptp(idx["kspace_encode_step_2"][self.imaging]):
            count = len(np.unique(idx["kspace_encode_step_2"][self.imaging]))
            raise InfieldError(
                where=self.path, found=f"a volume with {count} steps of a second phase encoding", expected="slices"
            )
        coils = np.unique(self.heads["active_channels"][lines | flagged("ACQ_IS_NOISE_MEASUREMENT")])
        if len(coils) > 1:
            raise InfieldError(
                where=self.path,
                found=f"lines of {' and of '.join(map(str, coils))} coils",
                expected="the same for all",
                remedy="coils do not match",
            )
        self.coils = int(coils[0])
        self.slices = np.unique(idx["slice"][self.imaging])

    def read(self, number: int) -> KSpace:
        own = self.heads["idx"]["slice"] == self.slices[number]
        sums, counts = self._place(np.flatnonzero(self.imaging & own))
        history = [f"{self.path.name}, slice {number} of {len(self.slices)}", *self.notes]
        sampled = counts[0] > 0
        psi = self._noise(float(self.heads["sample_time_us"][self.imaging][0]))
        times = np.unique(counts[0][sampled])
        if len(times) > 1:
            history.append(f"lines were measured {times[0]} to {times[-1]} times: the first of each is taken")
            sums, counts = self._place(np.flatnonzero(self.imaging & own), first=True)
        elif times[0] > 1:
            history.append(f"mean of {times[0]} measurements")
            psi = None if psi is None else psi / times[0]
        samples = sums / np.maximum(counts, 1)
        calibration = None
        if (self.calibrating & own).any():
            total, count = self._place(np.flatnonzero(self.calibrating & own))
            calibration = total / np.maximum(count, 1)
        every = sampled[sampled.any(1)]
        if self.recon_x < self.nx and every.all():
            samples = remove_oversampling(samples, -1, self.recon_x)
            calibration = None if calibration is None else self._cropped(calibration)
            sampled = np.broadcast_to(sampled.any(1)[:, None], samples.shape[1:]).copy()
            history.append(f"readout of {self.nx} samples cropped to {self.recon_x} in image space")
        elif self.recon_x < self.nx:
            history.append("partial echo: the oversampled readout is kept, the image is wider than its subject")
        samples = np.where(sampled, samples, 0)
        if psi is not None:
            history.append(f"noise of the coils from {len(self.noise_lines)} noise lines")
        return KSpace(
            samples=samples,
            mask=sampled,
            calibration=calibration,
            noise_covariance=psi,
            voxel=self.voxel,
            history=tuple(history),
        )

    def _cropped(self, calibration: np.ndarray) -> np.ndarray:
        lines = (calibration != 0).any((0, 2))
        return remove_oversampling(calibration, -1, self.recon_x) * lines[:, None]

    def _place(self, numbers: np.ndarray, *, first: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Sums of the samples of these lines `(coil, ky, kx)`, and how many each is the sum of, `(1, ky, kx)`."""
        sums = np.zeros((self.coils, self.ny, self.nx), dtype=np.complex128)
        counts = np.zeros((1, self.ny, self.nx), dtype=int)
        for number, (head, samples) in zip(numbers, self._lines(numbers), strict=True):
            discard = [int(head["discard_pre"]), int(head["discard_post"])]
            before, after = discard[::-1] if self.reverse[number] else discard
            ky = int(head["idx"]["kspace_encode_step_1"]) - self.centre + self.ny // 2
            keep = slice(before, samples.shape[1] - after)
            start = self.nx // 2 - int(head["center_sample"]) + keep.start
            kx = slice(start, start + samples[:, keep].shape[1])
            if not (0 <= ky < self.ny and 0 <= kx.start and kx.stop <= self.nx):
                raise InfieldError(
                    found=f"a line at ky {ky} with kx {kx.start} to {kx.stop}",
                    expected=f"it inside the encoded {self.ny} x {self.nx}",
                )
            if first and counts[0, ky, kx].any():
                continue
            sums[:, ky, kx] += samples[:, keep]
            counts[0, ky, kx] += 1
        return sums, counts

    def _lines(self, numbers: np.ndarray) -> list[tuple[Any, np.ndarray]]:
        """Headers and samples `(coil, samples)` of some lines, along rising kx."""
        found = []
        for number, record in zip(numbers, self.data[numbers], strict=True):
            head = record["head"]
            samples = record["data"].view(np.complex64).reshape(self.coils, int(head["number_of_samples"]))
            if not np.isfinite(samples).all():
                raise InfieldError(found=f"NaN or infinity in line {number}", expected="finite values")
            found.append((head, samples[:, ::-1] if self.reverse[number] else samples))
        return found

    def _noise(self, dwell: float) -> np.ndarray | None:
        """Covariance of the coils in the bandwidth of lines of that dwell time, us."""
        if not len(self.noise_lines):
            return None
        lines = self._lines(self.noise_lines)
        noise = np.concatenate([samples for _, samples in lines], axis=1).astype(np.complex128)
        if noise.shape[1] < 4 * self.coils:
            raise InfieldError(
                found=f"{noise.shape[1]} noise samples of {self.coils} coils", expected=f"at least {4 * self.coils}"
            )
        of_noise = float(lines[0][0]["sample_time_us"])
        scale = of_noise / dwell / self.bandwidth_ratio if of_noise > 0 and dwell > 0 else 1.0
        return noise @ noise.conj().T / noise.shape[1] * scale
