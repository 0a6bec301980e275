"""Pictures drawn from a prior that the projectors of a set-up can show, and the compensation of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from infield.core.json_text import to_json
from infield.datasets.formats.posterior import open_posterior
from infield.datasets.projection_mapping.images import Picture, eight_bits, fit_to, read_picture, write_png
from infield.physics.measurement import Measurement
from infield.physics.projection_mapping.gamut_measurement import Guides, gamut_measurement
from infield.physics.projection_mapping.setup import Setup
from infield.pipelines.commands.reconstruct import reconstruct
from infield.pipelines.projection_mapping.compensation import exposure_or_default, project_picture
from infield.pipelines.run.samplers import make_sampler


def cooperative_measurement(
    setup: Setup,
    *,
    exposure: float,
    tolerance: float,
    every: int = 1,
    edges: float = 0.0,
    depth: float = 0.0,
    like: tuple[Path, float] | None = None,
) -> Measurement:
    """The gamut and guides as a measurement of a picture.

    Arguments:
        setup: The set-up.
        exposure: Camera light of the picture's white.
        tolerance: s, in linear camera light.
        every: Takes every Nth camera pixel.
        edges, depth: Weights.
        like: An image file and its weight; it is cropped to the camera's aspect.

    Raises:
        InfieldError: The image is none, or a guide lacks what it needs.
    """
    picture = None
    if like is not None:
        picture = fit_to(read_picture(like[0]), setup.shape).code[:, ::every, ::every]
    guides = Guides(edges, depth, 0.0 if like is None else like[1], picture)
    return gamut_measurement(setup, exposure, tolerance, every, guides)


def project_samples(
    setup: Setup,
    prior: str,
    folder: Path,
    *,
    samples: int,
    sampler: str = "diffpir",
    settings: list[str] | None = None,
    exposure: float | None = None,
    tolerance: float = 0.01,
    every: int = 1,
    edges: float = 0.0,
    depth: float = 0.0,
    like: tuple[Path, float] | None = None,
    seed: int = 0,
    quiet: bool = True,
    **choices: Any,
) -> dict[str, Any]:
    """Draw pictures that the projectors can show, and compensate for each.

    The folder gets `posterior.zarr` and a folder for each sample, as `project` writes it, with the sample beside.

    Arguments:
        setup: The set-up.
        prior: As `infield reconstruct --prior` takes it.
        folder: Where the results go; it exists.
        samples: Their number.
        sampler, settings: Name, and `PARAMETER=VALUE` of it.
        exposure: Camera light of the pictures' white.
        tolerance, every, edges, depth, like: As of `cooperative_measurement`.
        seed: Of the samples and the dither.
        quiet: Whether nothing is said meanwhile.
        choices: As of `compensate`, but for the seed.

    Returns:
        The report, in JSON types.
    """
    exposure = exposure_or_default(setup, exposure)
    measurement = cooperative_measurement(
        setup, exposure=exposure, tolerance=tolerance, every=every, edges=edges, depth=depth, like=like
    )
    drawn = reconstruct(
        measurement,
        folder / "posterior.zarr",
        prior=prior,
        sampler=make_sampler(sampler, settings or []),
        samples=samples,
        seed=seed,
        quiet=quiet,
    )
    with open_posterior(folder / "posterior.zarr") as posterior:
        fields = np.asarray(posterior["samples"].values, np.float64)
    each = []
    for i, field in enumerate(fields):
        own = folder / f"sample_{i:03d}"
        own.mkdir()
        figures = project_sample(
            setup, np.clip(field, 0, 1), every, f"sample {i}", own, exposure=exposure, seed=seed, **choices
        )
        each.append({"sample": i, **{k: figures[k] for k in ("outside", "mean_distance", "psnr", "delta_e_2000")}})
    facts = {
        "samples": samples,
        "prior": drawn["prior"],
        "sampler": drawn["sampler"],
        **({"caveat": drawn["caveat"]} if "caveat" in drawn else {}),
        "exposure": exposure,
        "tolerance": tolerance,
        "every": every,
        "guides": {"edges": edges, "depth": depth, "like": 0.0 if like is None else like[1]},
        **{k: float(np.mean([row[k] for row in each])) for k in ("outside", "mean_distance", "psnr", "delta_e_2000")},
        "largest_exposure": figures["largest_exposure"],
        "choices": {**choices, "seed": seed},
    }
    (folder / "report.json").write_text(to_json({**facts, "each": each}, indent=1) + "\n", encoding="utf-8")
    return facts


def project_sample(
    setup: Setup, picture: np.ndarray, every: int, name: str, folder: Path, **choices: Any
) -> dict[str, Any]:
    """Compensate for one drawn picture on every Nth camera pixel, which is written beside as `sample.png`.

    Arguments:
        setup: The set-up.
        picture: sRGB code from 0 to 1.
        every: N.
        name: Of the picture, in the report.
        folder: Where the results go; it exists.
        choices: As of `project_picture`.

    Returns:
        The report of `project_picture`.
    """
    code = to_camera(picture, setup.shape, every)
    write_png(folder / "sample.png", eight_bits(code))
    return project_picture(setup, Picture(code), name, folder, **choices)


def to_camera(picture: np.ndarray, shape: tuple[int, int], every: int) -> np.ndarray:
    """A picture on every Nth camera pixel, linearly between them, on all; shape `(3, *shape)`."""
    if every == 1:
        return picture
    at = np.meshgrid(*(np.arange(n) / every for n in shape), indexing="ij")
    between = [ndimage.map_coordinates(channel, at, order=1, mode="nearest") for channel in picture]
    return np.asarray(np.stack(between))
