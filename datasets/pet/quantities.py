"""Units of PET images: activity, standardised uptake value (SUV) and its ratio to a reference region (SUVR)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infield.core.checks import is_positive
from infield.core.errors import InfieldError
from infield.datasets.pet.decay import half_life

ACTIVITY, SUV, SUVR, COUNTS = "Bq/mL", "g/mL", "1", "counts"
SPELLINGS = {
    "bq/ml": (ACTIVITY, 1.0),
    "bqml": (ACTIVITY, 1.0),
    "bq/cc": (ACTIVITY, 1.0),
    "kbq/ml": (ACTIVITY, 1e3),
    "kbqml": (ACTIVITY, 1e3),
    "mbq/ml": (ACTIVITY, 1e6),
    "gml": (SUV, 1.0),
    "g/ml": (SUV, 1.0),
    "suv": (SUV, 1.0),
    "suvr": (SUVR, 1.0),
    "1": (SUVR, 1.0),
    "cnts": (COUNTS, 1.0),
    "counts": (COUNTS, 1.0),
    "propcps": (COUNTS, 1.0),
}
"""Units as files spell them, in lower case: the quantity and the factor to its unit."""

BECQUEREL = {"bq": 1.0, "kbq": 1e3, "mbq": 1e6, "gbq": 1e9, "mci": 3.7e7, "uci": 3.7e4}
MOST_ACTIVITY = 1e9
"""Bq/mL above which an image was calibrated twice: a brain has some 1e4, a phantom up to 1e6."""


@dataclass(frozen=True)
class Dose:
    """What SUV needs beside an image.

    Arguments:
        becquerel: Injected activity at the time of injection.
        weight: Of the body, kg.
        injection: Time of injection, s.
        reference: Time to which the image is corrected for decay, s, on the same clock.
        radionuclide: For its half-life.
    """

    becquerel: float
    weight: float
    injection: float
    reference: float
    radionuclide: str

    @property
    def at_reference(self) -> float:
        """Activity in Bq at the time to which the image is corrected.

        Raises:
            InfieldError: The half-life of the radionuclide is not known.
        """
        half = half_life(self.radionuclide)
        if half is None:
            raise InfieldError(where="SUV", found=f"radionuclide '{self.radionuclide}'", expected="F18 or C11")
        return self.becquerel * 2 ** (-(self.reference - self.injection) / half)


def quantity(units: str) -> tuple[str, float]:
    """The quantity that units name, as its unit, and the factor of values to that unit.

    Raises:
        InfieldError: Nothing is known of them.
    """
    found = SPELLINGS.get(units.strip().lower().replace(" ", ""))
    if found is None:
        raise InfieldError(where="units", found=f"'{units}'", expected=f"one of {', '.join(SPELLINGS)}")
    return found


def becquerel(value: float, units: str) -> float:
    """An activity in Bq.

    Raises:
        InfieldError: The units are none of activity.
    """
    factor = BECQUEREL.get(units.strip().lower())
    if factor is None:
        raise InfieldError(where="injected activity", found=f"units '{units}'", expected="Bq, kBq, MBq, GBq or mCi")
    return value * factor


def to_suv(values: np.ndarray, units: str, dose: Dose | None) -> np.ndarray:
    """SUV = C [Bq/mL] weight [g] / dose [Bq], g/mL, the dose at the time to which C is corrected for decay.

    Raises:
        InfieldError: The values are no activity, or weight, dose or time are missing or not possible.
    """
    if units == SUV:
        return values
    if units != ACTIVITY:
        raise InfieldError(where="SUV", found=f"an image in '{units}'", expected=f"{ACTIVITY}, from which SUV follows")
    if dose is not None and not 0.3 <= dose.weight <= 500:
        raise InfieldError(where="SUV", found=f"a weight of {dose.weight:g} kg", expected="0.3 to 500 kg")
    if dose is None or not is_positive(dose.becquerel):
        raise InfieldError(
            where="SUV",
            found="no weight, no dose or no time of injection",
            expected="all three",
            remedy="add `weight` in kg to participants.tsv or give {weight}; dose and times are fields of the sidecar",
            parameters=["weight"],
        )
    return values * (1000 * dose.weight / dose.at_reference)


def to_suvr(values: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Values over their mean in the reference region.

    Arguments:
        values: An image, shape `(z, y, x)`, or draws of one, `(n, z, y, x)`: each is divided by its own mean.
        reference: Bool, shape `(z, y, x)`.

    Raises:
        InfieldError: The region is empty, of another shape, or its mean is not above zero.
    """
    if reference.shape != values.shape[-3:]:
        raise InfieldError(where="reference region", found=f"a mask of shape {reference.shape}",
                           expected=f"{values.shape[-3:]}, the grid of the image", remedy="resample it")  # fmt: skip
    if not reference.any():
        raise InfieldError(where="reference region", found="no voxel inside the image", expected="some")
    mean = values[..., reference].mean(-1)
    if not (mean > 0).all():
        raise InfieldError(where="reference region", found=f"a mean of {float(np.min(mean)):.4g}", expected="above 0")
    return values / mean[..., None, None, None]


def check_values(values: np.ndarray, units: str) -> None:
    """Refuse an image that is empty, not finite or of impossible activity.

    Raises:
        InfieldError: Naming what is wrong.
    """
    if not np.isfinite(values).all():
        raise InfieldError(where="image", found=f"{int((~np.isfinite(values)).sum())} NaN or Inf", expected="none")
    if not values.any():
        raise InfieldError(
            where="image", found="0 in every voxel", expected="an image", remedy="its data were not copied"
        )
    if units == ACTIVITY and values.max() > MOST_ACTIVITY:
        raise InfieldError(
            where="image",
            found=f"up to {values.max():.3g} Bq/mL",
            expected=f"at most {MOST_ACTIVITY:g}",
            remedy="it was calibrated twice, or its units are not Bq/mL",
        )
