"""Images and counts of PET scanners.

    infield convert pet sub-01_pet.nii.gz -o suvr.nii.gz --to SUVR --reference cerebellum.nii.gz
    infield convert pet sub-01_ses-1_pet.nii.gz --followup sub-01_ses-2_pet.nii.gz -o pair.zarr --to SUV
    infield convert pet scan.l.hdr -o counts.zarr --slices 63 --field-of-view 300
    infield convert pet trans.npy --blank blank.npy --bin-width 3 -o transmission.zarr

Images: NIfTI with a BIDS sidecar, ECAT 7 (.v), Interfile (.hv) and DICOM series become one image, the mean of its
frames, on axes to the right, forwards and upwards, in Bq/mL, SUV or SUVR: NIfTI or zarr by the name of the output. Two
sessions become a pair with the years between them. Counts: Interfile sinograms (.hs), list mode of a Siemens mMR
(.l.hdr) and arrays (.npy, .mat) become a measurement for `infield reconstruct`. Nothing of it is for diagnosis.
"""

from __future__ import annotations

from pathlib import Path

from infield.pipelines.run.options import Parser, add_json
from infield.pipelines.run.subcommand import deferred

AXES = ("plane", "angle", "radial")


TARGETS = ("Bq/mL", "SUV", "SUVR")


def add_arguments(parser: Parser) -> None:
    parser.add_argument("source", type=Path, metavar="FILE", help="an image or counts; of DICOM a folder")
    parser.add_argument("--output", type=Path, required=True, metavar="OUTPUT", help="new: .zarr, or .nii.gz of images")
    images = parser.add_argument_group("images")
    images.add_argument(
        "--units", metavar="UNITS", help="units of the values, in place of those of the file or sidecar"
    )
    images.add_argument("--frames", metavar="N|A-B", help="frames to average, from 0 (default all)")
    images.add_argument("--to", choices=TARGETS, help="quantity of the output (default that of the file)")
    images.add_argument(
        "--weight", type=float, metavar="KG", help="body weight in kg (default that of participants.tsv)"
    )
    images.add_argument(
        "--reference", type=Path, metavar="MASK", help="mask of the reference region, on the image's grid"
    )
    images.add_argument("--reference-region", metavar="NAME", help="its name, e.g. whole-cerebellum")
    images.add_argument("--target", type=Path, metavar="MASK", help="mask whose mean SUVR and Centiloid are printed")
    images.add_argument("--pipeline", metavar="NAME", help="which made the image, for Centiloid: SPM8, Berkeley, ...")
    images.add_argument("--tracer", metavar="NAME", help="in place of the sidecar's TracerName")
    images.add_argument("--centiloid-line", nargs=3, metavar=("SLOPE", "INTERCEPT", "SOURCE"),
                        help="a line of your own, CL = slope SUVR + intercept, and its source")  # fmt: skip
    images.add_argument("--resolution", type=float, metavar="MM",
                        help="full width at half maximum to smooth to, in mm (default none)")  # fmt: skip
    images.add_argument("--own-resolution", type=float, nargs="+", metavar="MM",
                        help="that of the image in mm, and of the second session where it differs")  # fmt: skip
    images.add_argument("--followup", type=Path, metavar="FILE", help="a second session, on the grid of the first")
    images.add_argument("--years", type=float, metavar="YEARS",
                        help="years between the sessions (default by acq_time of scans.tsv, sessions.tsv)")  # fmt: skip
    counts = parser.add_argument_group("counts")
    counts.add_argument("--slices", metavar="N|A-B", help="planes, from 0: one for an image, several for a volume")
    counts.add_argument("--pixel", type=float, default=4.0, metavar="MM", help="size of a pixel in mm (default 4)")
    counts.add_argument("--field-of-view", type=float, metavar="MM", help="side of the image in mm (default: all bins)")
    counts.add_argument("--ring-difference", type=int, default=5, metavar="N",
                        help="largest difference of rings, of list mode (default 5)")  # fmt: skip
    counts.add_argument("--bin-width", type=float, metavar="MM", help="width of a bin of a plain array, in mm")
    counts.add_argument("--order", type=lambda text: tuple(text.split(",")), metavar="AXES",
                        help=f"axes of a plain array, of {', '.join(AXES)} (default angle,radial)")  # fmt: skip
    counts.add_argument("--blank", type=Path, metavar="FILE", help="counts without absorber: a transmission scan")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    add_json(parser)


run = deferred("infield.pipelines.pet.convert:run")
