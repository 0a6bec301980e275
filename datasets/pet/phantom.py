"""A synthetic longitudinal cohort of amyloid PET: `infield simulate pet`. No patient's data went into it.

Anatomy: grey and white matter of the MNI152 template, scaled and moved a little from subject to subject; it is the same
in both scans. Amyloid: the law of `amyloid_law` in the grey matter of 26 regions of Infield's own (`brain_regions`);
white matter takes up 1.3 SUVR, spread 8 % from subject to subject, cerebrospinal fluid 0.3. Scans: `scanner`, and a
relative error of the reference region for each scan, by which its whole image is multiplied. What is not in it: motion,
atrophy, off-target binding, scatter, spill from other organs, errors of registration and of the attenuation map.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Generator, Tensor

from infield.core.errors import InfieldError
from infield.core.grid import Axis, Grid
from infield.datasets.anatomy.brain_template import load_template
from infield.datasets.formats.simulation import Variable
from infield.datasets.pet.amyloid_law import AmyloidLaw
from infield.datasets.pet.brain_regions import GROUPS, NAMES, RegionWeights, nearest_region, volume_places
from infield.datasets.pet.scanner import Scanner

CENTRE = (-18.0, 0.0)
"""y and x of the middle of the slices, mm of MNI152."""

SLICES = tuple(-30.0 + 18 * i for i in range(5))
VOLUME = tuple(-44.0 + 4 * i for i in range(29))

QUANTITIES = ("years", "age", "rate", "capacity", "uptake", "white_uptake", "ref_baseline", "ref_follow_up")
"""Of each subject: years between the scans, latents of the amyloid law, and the reference region's factors."""

WHITE, WHITE_SD, FLUID = 1.3, 0.08, 0.3


@dataclass(frozen=True)
class AmyloidPhantom:
    """The law of a subject's scans.

    Arguments:
        law: Of amyloid; its `groups` are those of the regions, its `reg` is not used: the counts give that error.
        scanner: Of both scans.
        years: Least and most years between the scans.
        heights: z of the slices, mm of MNI152, equally spaced.
        template: Folder of the template's files; empty for that of the package nilearn.
    """

    stored_name: ClassVar[str] = "AmyloidPhantom"

    law: AmyloidLaw = field(default_factory=lambda: AmyloidLaw(groups=GROUPS))
    scanner: Scanner = field(default_factory=Scanner)
    years: tuple[float, float] = (0.5, 5.0)
    heights: tuple[float, ...] = SLICES
    template: str = ""

    def __post_init__(self) -> None:
        if self.law.groups != GROUPS:
            raise InfieldError(where="phantom: law", found="other groups of regions", expected="those of its regions")
        if not 0 < self.years[0] <= self.years[1] <= 30:
            raise InfieldError(
                where="phantom: years", found=f"{self.years!r}", expected="a range above 0, to 30 at most"
            )

    @classmethod
    def second_cohort(cls, template: str = "") -> AmyloidPhantom:
        """Another cohort, for tests and never trained on: weaker tracer, wider blur, half the counts, slower growth."""
        law = AmyloidLaw(groups=GROUPS, capacity=0.7, rate=0.8, accumulators=0.5)
        return cls(law=law, scanner=replace(Scanner(), psf=6.5, counts=1.5e5), template=template)

    @property
    def grid(self) -> Grid:
        """Grid of the images, mm of MNI152, from the lowest slice, the back and the left."""
        y, x = self.scanner.coordinates()
        axes = (("z", self.heights), ("y", tuple(y + CENTRE[0])), ("x", tuple(x + CENTRE[1])))
        return Grid(tuple(Axis(name, values, "mm") for name, values in axes))

    @property
    def parameters(self) -> dict[str, Any]:
        """Everything that the samples depend on beside the seed, in JSON types."""
        parts = {"law": asdict(self.law), "scanner": asdict(self.scanner)}
        return {"name": self.stored_name, **parts, "years": list(self.years), "heights": list(self.heights)}

    @property
    def variables(self) -> tuple[Variable, ...]:
        """What the file holds of each subject."""
        regions, quantities = (("region", len(NAMES)),), (("quantity", len(QUANTITIES)),)
        words = {"baseline": "baseline", "follow_up": "follow-up"}
        found = []
        for name, text in words.items():
            found += [
                Variable(name, f"synthetic amyloid PET, {text}, SUVR"),
                Variable(f"{name}_noise_free", f"reconstruction of noise-free data, {text}, SUVR"),
                Variable(f"{name}_regions", f"means over regions, {text}, SUVR", axes=regions),
                Variable(f"{name}_regions_noise_free", f"means over regions of noise-free data, {text}", axes=regions),
                Variable(f"{name}_regions_law", f"SUVR of the law of amyloid, {text}", axes=regions),
            ]
        return (
            *found,
            Variable("grey", "share of grey matter"),
            Variable("white", "share of white matter"),
            Variable("onset", "onset of each region, amyloid years", axes=regions),
            Variable("subject", f"one number each: {', '.join(QUANTITIES)}", axes=quantities),
        )

    @cached_property
    def region_weights(self) -> RegionWeights:
        """Weights of regional means on the grid of the images, of the template's anatomy."""
        places = volume_places(*(np.array(axis.coordinates) for axis in self.grid.axes))
        return RegionWeights.from_grey_matter(load_template(self.template).at(places[None])[0, 0], places)

    def subject(self, seed: int, index: int) -> dict[str, Tensor]:
        """All variables of one subject; they depend on the seed and its index alone."""
        key = np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0]
        generator = Generator().manual_seed(int(key >> 1))
        latents = self.law.subjects(1, generator)
        normal = torch.randn(10, generator=generator, dtype=torch.float64)
        years = self.years[0] + (self.years[1] - self.years[0]) * float(torch.special.ndtr(normal[0]))
        white = WHITE * float(torch.exp(WHITE_SD * normal[1]))
        ref = torch.exp(self.law.ref * normal[2:4])
        grey, wm, fluid, head, region = self._anatomy(self._places(normal[4:], fine=True))
        attenuation = self.scanner.attenuation(head)
        found: dict[str, Tensor] = {}
        for name, time, factor in (("baseline", 0.0, ref[0]), ("follow_up", years, ref[1])):
            suvr = latents.suvr(time, self.law.accumulates)[0]
            activity = grey * suvr[region] + white * wm + FLUID * fluid
            image, noise_free = self.scanner.scan(activity, attenuation, generator)
            for kind, values in (("", factor * image), ("_noise_free", noise_free)):
                found[name + kind] = values
                found[f"{name}_regions{kind}"] = self.region_weights.mean(values[None])[0]
            found[f"{name}_regions_law"] = suvr
        found["grey"], found["white"], *_ = self._anatomy(self._places(normal[4:], fine=False))
        found["onset"] = latents.onset[0]
        own = [latents.age[0], latents.rate[0], latents.capacity[0], latents.uptake[0]]
        found["subject"] = torch.tensor([years, *map(float, own), white, *ref.tolist()], dtype=torch.float64)
        return found

    def _places(self, normal: Tensor, fine: bool) -> Tensor:
        """Where each point of the images is in the template, `(z, y, x, 3)`: scaled by 2 %, moved by 1.5 mm."""
        y, x = self.scanner.coordinates(fine)
        places = volume_places(np.array(self.heights), y + CENTRE[0], x + CENTRE[1])
        return places * torch.exp(0.02 * normal[:3]) + 1.5 * normal[3:6]

    def _anatomy(self, places: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Shares of grey and white matter, of fluid, of the head's water, and the region of each place."""
        grey, white, brain, distance = load_template(self.template).at(places[None])[:, 0]
        fluid = (brain - grey - white).clamp_min(0)
        head = torch.sigmoid((12 - distance) / 1.0)  # skull and scalp reach 12 mm beyond the brain
        return grey, white, fluid, head, nearest_region(places)
