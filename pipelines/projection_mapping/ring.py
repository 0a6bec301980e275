"""Pictures all around an object: views in turn, each drawn given what it shares with those before.

    views: [view_0.zarr, view_1.zarr, view_2.zarr]      # set-ups, in order from left to right
    overlap: 24                                         # camera columns that a view shares with the next
    closed: true                                        # the last view ends where the first begins

The right end of a view shows the same surface as the left end of the next, pixel by pixel (rectified views of a turning
camera). Each view is drawn under its own gamut, given the picture that the view before has at the shared columns
(Gaussian, 0.02 of the sRGB code), the last given the first view as well; then shared columns are cross-faded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from infield.core.errors import InfieldError
from infield.core.json_text import to_json
from infield.datasets.projection_mapping.images import eight_bits, write_png
from infield.datasets.projection_mapping.setup_file import open_setup
from infield.physics.projection_mapping.gamut_measurement import Guides, gamut_measurement
from infield.physics.projection_mapping.setup import Setup
from infield.pipelines.projection_mapping.compensation import exposure_or_default
from infield.pipelines.projection_mapping.cooperation import project_sample
from infield.pipelines.run.prior_choice import choose_prior
from infield.pipelines.run.samplers import make_sampler
from infield.posterior.samplers.base import Sampler


@dataclass(frozen=True)
class Ring:
    """Views around an object.

    Arguments:
        names: Of the views.
        setups: Of cameras of one size.
        overlap: Columns that a view shares with the next, at most a third of them.
        closed: Whether the last view shares as many with the first.
    """

    names: tuple[str, ...]
    setups: tuple[Setup, ...]
    overlap: int
    closed: bool = True


def open_ring(path: Path) -> Ring:
    """Read a description and its set-ups.

    Raises:
        InfieldError: It is none, views have cameras of several sizes, or the overlap is not possible.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise InfieldError(where=path, found=f"no description ({reason})", expected="YAML with views") from None
    views = content.get("views") if isinstance(content, dict) else None
    if not isinstance(views, list) or len(views) < 2 or set(content) - {"views", "overlap", "closed"}:
        raise InfieldError(where=path, found=f"{content!r}"[:80], expected="views (at least 2), overlap and closed")
    setups = tuple(open_setup(path.parent / str(view)) for view in views)
    shapes = {setup.shape for setup in setups}
    if len(shapes) > 1:
        raise InfieldError(where=path, found=f"cameras of {sorted(shapes)} pixels", expected="one size")
    overlap, width = content.get("overlap"), setups[0].shape[1]
    if type(overlap) is not int or not 1 <= overlap <= width // 3:
        raise InfieldError(where=path, found=f"overlap {overlap!r}", expected=f"columns, 1 to {width // 3}")
    return Ring(tuple(Path(str(v)).stem for v in views), setups, overlap, content.get("closed", True) is True)


def draw_ring(
    ring: Ring,
    prior: Any,
    sampler: Sampler,
    *,
    exposure: float,
    tolerance: float,
    every: int = 1,
    edges: float = 0.0,
    depth: float = 0.0,
    seed: int = 0,
    sample: int = 0,
    joined: bool = True,
) -> list[np.ndarray]:
    """One picture for each view, shape `(3, y, x)`, sRGB codes on every Nth pixel.

    Arguments:
        ring: The views.
        prior: As `infield reconstruct` takes it, or a prior in memory.
        sampler: Its sampler.
        exposure, tolerance, every, edges, depth: As of `gamut_measurement` and `Guides`.
        seed, sample: Name the random numbers.
        joined: Whether views know of each other; without, they are drawn alone.
    """
    shared = ring.overlap // every
    drawn: list[np.ndarray] = []
    for v, setup in enumerate(ring.setups):
        shape = tuple(-(-n // every) for n in setup.shape)
        known = np.full((3, *shape), np.nan)
        if joined and v:
            known[..., :shared] = drawn[-1][..., -shared:]
        if joined and ring.closed and v == len(ring.setups) - 1:
            known[..., -shared:] = drawn[0][..., :shared]
        guides = Guides(edges, depth, known=known)
        measurement = gamut_measurement(setup, exposure, tolerance, every, guides)
        numbers = np.random.SeedSequence([seed, sample, v]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(numbers[0] >> np.uint64(1)))
        chosen = choose_prior(prior, measurement).prior
        samples = sampler(chosen, measurement, 1, generator).samples
        drawn.append(np.clip(samples[0].double().numpy(), 0, 1))
    return drawn


def cross_faded(views: list[np.ndarray], shared: int, closed: bool) -> list[np.ndarray]:
    """The same with one picture at shared columns, which goes over linearly from the one view to the next."""
    views = [view.copy() for view in views]
    share = (np.arange(shared) + 0.5) / shared
    for v in range(len(views) if closed else len(views) - 1):
        left, right = views[v], views[(v + 1) % len(views)]
        both = (1 - share) * left[..., -shared:] + share * right[..., :shared]
        left[..., -shared:] = right[..., :shared] = both
    return views


def panorama(views: list[np.ndarray], shared: int, closed: bool) -> np.ndarray:
    """All around, each column once: those of the later view where two share one."""
    parts = [view[..., :-shared] for view in views]
    return np.concatenate(parts if closed else [*parts[:-1], views[-1]], -1)


def seams(views: list[np.ndarray], shared: int, closed: bool) -> dict[str, float]:
    """How well views agree, in sRGB codes.

    Returns:
        `overlap`, the root mean square difference at shared columns, and `step`, the mean difference of neighbours
        across a seam over that of neighbours within views.
    """
    pairs = [(v, (v + 1) % len(views)) for v in range(len(views) if closed else len(views) - 1)]
    apart = [views[a][..., -shared:] - views[b][..., :shared] for a, b in pairs]
    across = [np.abs(views[a][..., -shared - 1] - views[b][..., 0]).mean() for a, b in pairs]
    within = [np.abs(np.diff(view, axis=-1)).mean() for view in views]
    return {
        "overlap": float(np.sqrt(np.mean(np.square(apart)))),
        "step": float(np.mean(across) / max(float(np.mean(within)), 1e-12)),
    }


def project_ring(
    ring: Ring,
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
    seed: int = 0,
    **choices: Any,
) -> dict[str, Any]:
    """Draw pictures all around, and compensate for each view.

    The folder gets `sample_NNN/panorama.png` and `sample_NNN/VIEW/`, each as of one target.

    Arguments:
        ring: The views.
        prior, samples, sampler, settings, exposure, tolerance, every, edges, depth, seed: As of `project_samples`;
            the default exposure is the least of the views'.
        folder: Where the results go; it exists.
        choices: As of `compensate`, but for the seed.

    Returns:
        The report, in JSON types.

    Raises:
        InfieldError: The overlap is no multiple of every Nth column.
    """
    if ring.overlap % every or ring.setups[0].shape[1] % every:
        raise InfieldError(
            where=f"--every {every}",
            found=f"an overlap of {ring.overlap} of {ring.setups[0].shape[1]} columns",
            expected="multiples of it",
        )
    exposure = min(exposure_or_default(setup, exposure) for setup in ring.setups)
    made = make_sampler(sampler, settings or [])
    shared, each = ring.overlap // every, []
    for i in range(samples):
        drawn = draw_ring(
            ring, prior, made, exposure=exposure, tolerance=tolerance, every=every, edges=edges, depth=depth,
            seed=seed, sample=i,
        )  # fmt: skip
        faded = cross_faded(drawn, shared, ring.closed)
        own = folder / f"sample_{i:03d}"
        own.mkdir()
        whole = panorama(faded, shared, ring.closed)
        write_png(own / "panorama.png", eight_bits(whole))
        figures = {"sample": i, "as_drawn": seams(drawn, shared, ring.closed), **seams(faded, shared, ring.closed)}
        rows = []
        for name, setup, view in zip(ring.names, ring.setups, faded, strict=True):
            (own / name).mkdir()
            rows.append(project_sample(setup, view, every, name, own / name, exposure=exposure, seed=seed, **choices))
        figures |= {k: float(np.mean([row[k] for row in rows])) for k in ("outside", "mean_distance", "psnr")}
        each.append(figures)
    facts = {
        "samples": samples,
        "views": len(ring.setups),
        "sampler": made.method,
        **({"caveat": made.caveat} if made.caveat else {}),
        "exposure": exposure,
        "tolerance": tolerance,
        "every": every,
        **{
            k: float(np.mean([row[k] for row in each])) for k in ("overlap", "step", "outside", "mean_distance", "psnr")
        },
        "largest_exposure": min(row["largest_exposure"] for row in rows),
        "choices": {**choices, "seed": seed},
    }
    (folder / "report.json").write_text(to_json({**facts, "each": each}, indent=1) + "\n", encoding="utf-8")
    return facts
