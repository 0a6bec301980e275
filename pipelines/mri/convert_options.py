"""K-space of an MR scanner to a measurement.

    infield convert mri KSPACE.npy -o brain.zarr
    infield convert mri file1000000.h5 -o brain.zarr --slice 8 --acceleration 4
    infield convert mri scan.mrd -o brain --slice all
    infield convert mri file1000000.h5 -o volume.zarr --slice 4-11 --volume

A slice of complex k-space to a measurement, from numpy (.npy, .npz: coil, ky, kx, zeros where nothing was sampled),
fastMRI (.h5), ISMRMRD (.h5, .mrd), BART (.cfl with .hdr) and MATLAB (.mat). Coil maps (ESPIRiT) and noise are estimated
from the data if the file does not state them; --acceleration leaves samples of a complete slice out. Several slices
(--slice all, --slice 3-12) become a folder with a measurement for each, one after the other; or with --volume one
measurement of a volume (z, y, x), for `infield reconstruct --slices`.
"""

from __future__ import annotations

from pathlib import Path

from infield.pipelines.run.options import Parser, add_json
from infield.pipelines.run.subcommand import deferred

AXES, CHOSEN, AVERAGED = ("slice", "coil", "ky", "kx"), ("time", "echo"), "average"
MASKS = ("random", "equispaced", "equispaced-fraction", "magic", "magic-fraction", "poisson")
"""Names in `datasets.mri.readers.arrays` and `datasets.mri.masks`, which are heavy."""


def add_arguments(parser: Parser) -> None:
    parser.add_argument("source", type=Path, metavar="FILE", help="the raw data")
    parser.add_argument("--output", type=Path, required=True, metavar="MEASUREMENT.zarr",
                        help="the measurement, or a folder of them, new")  # fmt: skip
    parser.add_argument("--hold-out", type=float, default=0.0, metavar="FRACTION",
                        help="fraction of the samples to set aside, to test predictions on (default 0)")  # fmt: skip
    parser.add_argument("--seed", type=int, metavar="N",
                        help="seed of what is held out and of the mask (default 0)")  # fmt: skip
    parser.add_argument("--slice", metavar="N|A-B|all", help="which slices, of a file with several, from 0")
    parser.add_argument(
        "--volume", action="store_true", help="the slices (default: all) become one measurement of a volume"
    )
    parser.add_argument("--resolution", type=float, metavar="MM",
                        help="coarsen the image to about this pixel size in mm by cropping k-space, to match the "
                        "prior's spacing (default: as it is)")  # fmt: skip
    parser.add_argument("--coils-from", metavar="espirit|file|uniform|PATH",
                        help="coil maps: by ESPIRiT, those of the file, one uniform coil, or those of another file "
                        "(default: the file's own; uniform for one coil; else ESPIRiT)")  # fmt: skip
    parser.add_argument("--crop", type=float, metavar="SHARE",
                        help="ESPIRiT's crop: eigenvalue, a fraction of 1, below which maps are 0; lower keeps "
                        "darker tissue (default 0.95)")  # fmt: skip
    parser.add_argument("--noise", type=float, metavar="SD",
                        help="sd of the noise of the real and of the imaginary part of each coil, in units of the file "
                        "(default: noise lines, or estimated)")  # fmt: skip
    parser.add_argument("--noise-from", type=Path, metavar="FILE.npy",
                        help="noise alone (coil, samples), complex, or its covariance (coil, coil)")  # fmt: skip
    parser.add_argument(
        "--unchecked",
        action="store_true",
        help="accept what looks like no k-space, and maps that do not fit; the file records it",
    )
    thinning = parser.add_argument_group("leave samples of a complete slice out, and keep its image as the truth")
    thinning.add_argument("--acceleration", type=float, metavar="R", help="all samples over those kept, e.g. 4 or 8")
    thinning.add_argument("--mask", choices=MASKS, help="as fastMRI defines them (default random); or Poisson-disc")
    thinning.add_argument("--centre-fraction", type=float, metavar="FRACTION",
                          help="fraction of the lines that is kept in the middle (default 0.32 / R)")  # fmt: skip
    thinning.add_argument("--mask-seed", metavar="N|name",
                          help="seed of the mask; name: fastMRI's from the file's name (default --seed)")  # fmt: skip
    thinning.add_argument("--along", choices=["ky", "kx"], help="leave out lines of this axis (default: the phases)")
    array = parser.add_argument_group("a plain array (.npy, .npz, .mat, .cfl, .h5), where it leaves them open")
    array.add_argument("--variable", metavar="NAME", help="its name; or that of one scan in an MRD file")
    axes = ", ".join((*AXES, *CHOSEN, AVERAGED))
    array.add_argument("--order", type=lambda text: tuple(text.split(",")), metavar="AXES",
                       help=f"its axes of {axes}, as its shape is printed, e.g. ky,kx,coil")  # fmt: skip
    array.add_argument("--at", metavar="AXIS=N,...", help="which time and echo, of axes with several, e.g. echo=0")
    array.add_argument("--voxel", type=float, nargs=2, metavar="MM", help="size of a point along y and x, in mm")
    array.add_argument("--image", action="store_true", help="it holds complex images; their k-space is computed")
    parser.rename("--accelerate", "--acceleration")
    parser.rename("--center-fraction", "--centre-fraction")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    add_json(parser)


run = deferred("infield.pipelines.mri.convert:run")
