"""Entries of PET in the registry; see `core.registry`."""

from __future__ import annotations

from infield.core.registry import Entry

GEOMETRY = (
    "`angles`: a number of them over half a turn, `bins`, `bin_width` in mm, `centre` (y, x) in mm (middle of the "
    "image), `psf_fwhm` in mm (none)"
)
RAYS = "`angles` in radians and `positions` in mm, in place of the parameters"

ENTRIES = {
    "operators": {
        "beer-lambert": Entry(
            "infield.physics.pet.beer_lambert:build_beer_lambert",
            "transmission through an absorber, b exp(-P mu)",
            facts={
                "parameters": f"{GEOMETRY}, `blank`, `background`: numbers, or arrays",
                "arrays (role: shape)": "`blank`, `background`: (angles, bins), of a volume also (z, angles, bins); "
                f"{RAYS}",
                "output S": "(C, [z,] angles, bins): blank · exp(−P x) + background; the field in 1/mm",
            },
        ),
        "projection": Entry(
            "infield.physics.pet.projection:build_projection",
            "parallel-beam projections of emission",
            facts={
                "parameters": f"{GEOMETRY}, `seconds` (1), `randoms`, `scatter`: numbers, or arrays",
                "arrays (role: shape)": "`attenuation` (factors), `normalisation`, `randoms`, `scatter`: (angles, "
                f"bins), of a volume also (z, angles, bins); `attenuation_map` in 1/mm: (*space*); {RAYS}",
                "output S": "(C, [z,] angles, bins): seconds · normalisation · attenuation · P H x + randoms + scatter",
            },
        ),
    },
}
