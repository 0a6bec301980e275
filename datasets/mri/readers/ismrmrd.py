"""Raw data in the ISMRMRD format (Inati et al. 2017, doi:10.1002/mrm.26089; files .h5 or .mrd): Cartesian 2-D scans.

Lines are placed by their counters: the readout's sample j at kx = j - center_sample, the line at ky =
kspace_encode_step_1 - center of the encoding limits, so that partial Fourier and partial echoes leave holes in the mask
and nothing else. Lines that were read in reverse are turned round first; where their centre then lies the peak decides.

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
from infield.core.extras import require
from infield.datasets.mri.kspace import KSpace, remove_oversampling
from infield.datasets.mri.readers.common import KSpaceFile
from infield.datasets.mri.readers.mrd_header import read_header
from infield.datasets.mri.readers.sampled import measured

_NEEDED = "a group with 'xml' and 'data' (ISMRMRD), or an array 'kspace' (fastMRI)"
_FIRST_OF = ("contrast", "phase", "repetition", "set")
MOST_LINES = 256
"""Lines of a direction that are read to find its centre."""
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


def open_ismrmrd(path: Path, file: h5py.File, group: str | None = None) -> KSpaceFile:
    """Wrap an open file: its header and the headers of its lines are read, the lines themselves slice by slice.

    Arguments:
        path: The file.
        file: It, open.
        group: Which scan, of a file with several; None where there is one.

    Raises:
        InfieldError: It is no Cartesian 2-D scan, or the package ismrmrd is missing.
    """
    groups = [name for name, item in file.items() if isinstance(item, h5py.Group) and {"xml", "data"} <= set(item)]
    if not groups:
        raise InfieldError(where=path, found=", ".join(map(repr, file)) or "nothing", expected=_NEEDED)
    if group is None and len(groups) > 1:
        counts = ", ".join(f"{name} ({len(file[name]['data'])} lines)" for name in groups)
        raise InfieldError(
            where=path,
            found=f"{len(groups)} scans: {counts}",
            expected="one",
            remedy="name it ({variable})",
            parameters={"variable": groups[0]},
        )
    if group is not None and group not in groups:
        raise InfieldError(where=path, found=f"no scan '{group}'", expected=f"one of {', '.join(groups)}")
    ismrmrd = require("ismrmrd", "mri", where=path)
    scan = _Scan(path, file[group or groups[0]], ismrmrd)
    return KSpaceFile(path=path, format="ISMRMRD", slices=len(scan.slices), read=scan.read)


class _Scan:
    def __init__(self, path: Path, group: h5py.Group, ismrmrd: Any) -> None:
        self.path, self.data = path, group["data"]
        header = read_header(path, group["xml"][0])
        if header.trajectory != "cartesian":
            raise InfieldError(where=path, found=f"a {header.trajectory} trajectory", expected="a cartesian one")
        self.nx, self.ny, self.recon_x = header.nx, header.ny, header.recon_x
        self.voxel, self.centre, self.bandwidth_ratio = header.voxel, header.centre, header.bandwidth_ratio
        self.heads = self.data["head"]
        self.reversed_centres: dict[tuple[int, int], int] = {}
        self._sort(ismrmrd)

    def _sort(self, ismrmrd: Any) -> None:
        """The role of each line."""
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
                self.notes.append(f"{counter} {first} alone, of {len(np.unique(idx[counter][lines]))}")
                lines &= idx[counter] == first
        both = flagged("ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING")
        calibrates = flagged("ACQ_IS_PARALLEL_CALIBRATION")
        self.imaging, self.calibrating = lines & (both | ~calibrates), lines & (both | calibrates)
        if not self.imaging.any():
            raise InfieldError(where=self.path, found=f"{len(flags)} lines and none for imaging", expected="some")
        if np.ptp(idx["kspace_encode_step_2"][self.imaging]):
            count = len(np.unique(idx["kspace_encode_step_2"][self.imaging]))
            raise InfieldError(
                where=self.path,
                found=f"a volume with {count} steps of a second phase encoding",
                expected="slices",
                remedy="transform it along the second phase encoding, and give its slices as an array",
            )
        coils = np.unique(self.heads["active_channels"][lines | flagged("ACQ_IS_NOISE_MEASUREMENT")])
        if len(coils) > 1:
            raise InfieldError(
                where=self.path,
                found=f"lines of {' and of '.join(map(str, coils))} coils",
                expected="the same for all",
                remedy="coils do not match",
            )
        self.coils = int(coils[0]) or self._counted_coils()
        self.slices = np.unique(idx["slice"][self.imaging])

    def _counted_coils(self) -> int:
        """Coils of a file whose line headers leave them out, by the length of a line's data."""
        first = int(np.flatnonzero(self.imaging)[0])
        return len(self.data[first]["data"]) // (2 * int(self.heads["number_of_samples"][first]))

    def read(self, number: int) -> KSpace:
        own = self.heads["idx"]["slice"] == self.slices[number]
        sums, counts = self._place(np.flatnonzero(self.imaging & own))
        history = [f"{self.path.name}, slice {number} of {len(self.slices)}", *self.notes]
        found = measured(sums)
        sampled = found.mask & (counts[0] > 0)
        history += found.history
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
            history.append(
                "partial echo, or zeros within lines: the readout keeps its oversampling, the image is wider"
            )
        samples = np.where(sampled, samples, 0)
        if psi is not None:
            history.append(f"noise of the coils from {len(self.noise_lines)} noise lines")
        return KSpace(
            samples=samples,
            mask=sampled,
            rounded=found.rounded,
            calibration=calibration,
            noise_covariance=psi,
            voxel=self.voxel,
            history=tuple(history),
            warnings=tuple(self.notes),
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
            centre = int(head["center_sample"])
            if self.reverse[number]:
                centre = self._reversed_centre(samples, centre)
            start = self.nx // 2 - centre + keep.start
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

    def _reversed_centre(self, samples: np.ndarray, centre: int) -> int:
        """Index of kx = 0 in a line of this length that was turned round, by the peak of all such lines.

        With N samples MRD's text makes it N - 1 - center_sample, files of Siemens scanners N - center_sample, and
        others count along rising kx.
        """
        length = samples.shape[1]
        if (length, centre) not in self.reversed_centres:
            mine = [n for n in np.flatnonzero(self.imaging & self.reverse).tolist() if self._has(n, length, centre)]
            if not mine:
                return centre
            peak = _peak(self._lines(np.array(mine[:MOST_LINES])))
            onward = [
                n
                for n in np.flatnonzero(self.imaging & ~self.reverse)[:MOST_LINES].tolist()
                if self._has(n, length, centre)
            ]
            offset = _peak(self._lines(np.array(onward))) - centre if onward else 0
            ways = (centre, length - centre, length - 1 - centre)
            self.reversed_centres[length, centre] = min(ways, key=lambda way: abs(way + offset - peak))
        return self.reversed_centres[length, centre]

    def _has(self, number: int, length: int, centre: int) -> bool:
        head = self.heads[number]
        return int(head["number_of_samples"]) == length and int(head["center_sample"]) == centre

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


def _peak(lines: list[tuple[Any, np.ndarray]]) -> int:
    """Index of the strongest sample along lines of one length, all coils and lines together."""
    return int(sum((np.abs(samples) ** 2).sum(0) for _, samples in lines).argmax())  # type: ignore[attr-defined]
