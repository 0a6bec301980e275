"""The domains: one line each. A domain is a folder of this name in every room that needs one.

What it adds to the registry, e.g. its operators, is listed in `infield/<room>/<domain>/entries.py`.
"""

from __future__ import annotations

DOMAINS = {
    "cm21": "lightcones of the 21 cm line of hydrogen",
    "mri": "magnetic resonance imaging",
    "pet": "positron emission tomography",
    "projection_mapping": "pictures that projectors show on a surface",
    "wall_pressure": "pressure below turbulent flows",
}
