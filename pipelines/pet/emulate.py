"""Follow-ups of amyloid PET drawn from a bridge: a baseline in MNI152, years, and what may come.

A draw is what a scan would measure at the follow-up: means over 26 regions, SUVR, and, where the bridge has a law of
voxels, an image with these means. The file holds all draws, their mean, intervals of 90 % by order statistics and how
often the change is larger than the test-retest band. A prior that was
trained on synthetic data takes other files only with --accept-synthetic, and every output states it. Not for
diagnosis.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from infield.core.errors import InfieldError
from infield.core.json_text import to_json
from infield.core.randomness import sample_generator
from infield.datasets.formats.zarr_group import write_group
from infield.datasets.pet.baseline import Baseline, read_baseline
from infield.pipelines.pet.emulate_images import (
    check_new_nifti,
    draw_images,
    missing_for_images,
    nifti_files,
    write_nifti,
)
from infield.pipelines.pet.prediction import Prediction
from infield.pipelines.pet.report import write_prediction_report
from infield.pipelines.report import check_new_report
from infield.pipelines.run.blocks import check_run
from infield.pipelines.run.console import table
from infield.pipelines.run.options import check_positive
from infield.posterior.pet.regions import regional_changes
from infield.priors.bridges.region_bridge import RegionBridge
from infield.priors.storage.checkpoint import load_checkpoint

FORMAT, VERSION = "pet-prediction", 1
COMPOSITE = "composite"
LEVEL, BAND = 0.9, 0.03

FAR = 6.0
"""Standard deviations of the training's baselines beyond which a region is out of range."""

SYNTHETIC = "trained on synthetic data"
CAUTION = "not for diagnosis"


def run(arguments: argparse.Namespace) -> int:
    for name in ("workers", "scheduler", "steps"):
        if getattr(arguments, name) is not None:
            raise InfieldError(where=f"--{name}", found="a bridge of regional means", expected="none: it takes seconds")
    if arguments.device not in ("auto", "cpu"):
        raise InfieldError(where="--device", found=arguments.device, expected="cpu, on which regional means are drawn")
    summary = predict(
        load_checkpoint(arguments.prior, "bridge"),
        read_baseline(
            arguments.baseline,
            index=arguments.index,
            mri=arguments.mri,
            grey_matter=arguments.grey_matter,
            units=arguments.units,
        ),
        arguments.output,
        name=arguments.prior.stem,
        years=arguments.years,
        samples=arguments.samples,
        seed=arguments.seed,
        band=BAND if arguments.band is None else arguments.band,
        accept_synthetic=arguments.accept_synthetic,
        extrapolate=arguments.extrapolate,
        regions_only=arguments.regions_only,
        nifti=arguments.nifti,
        report=arguments.report,
        overwrite=arguments.overwrite,
    )
    if arguments.json:
        print(to_json(summary))
        return 0
    name = list(summary["regions"])[-1]  # the composite where there is one
    shown = summary["regions"][name]
    rows = {
        "from": f"{summary['from']}, over {summary['years']:.3g} years",
        f"{name}, SUVR": f"{shown['baseline']:.3f} at baseline",
        "its change": f"{shown['change']:+.3f}, {100 * shown['level']:.0f} % in "
        f"{shown['low']:+.3f} to {shown['high']:+.3f}",
        f"beyond {100 * summary['band']:g} %": f"probability {shown['exceeds']:.2f}",
        "draws": f"{summary['samples']}, {'; '.join(summary['cautions'])}",
        "images": summary["images"],
    }
    table(str(arguments.output), rows)
    return 0


def predict(
    bridge: RegionBridge,
    baseline: Baseline,
    output: Path,
    *,
    name: str,
    years: float | None = None,
    samples: int = 64,
    seed: int = 0,
    band: float = BAND,
    accept_synthetic: bool = False,
    extrapolate: bool = False,
    regions_only: bool = False,
    nifti: Path | None = None,
    report: Path | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """The command as a function; returns a summary in plain JSON types.

    Raises:
        InfieldError: An error in the input that the user can fix; no incomplete file is left at `output`.
    """
    start = time.perf_counter()
    check_positive(band=band)
    check_run(samples, seed, None, output=output, overwrite=overwrite)
    if report is not None:
        check_new_report(report, overwrite)
    if nifti is not None:
        check_new_nifti(nifti, overwrite)
    missing = "not asked for" if regions_only else missing_for_images(bridge, baseline)
    if missing is not None and nifti is not None:
        raise InfieldError(where="{nifti}", found=missing, expected="images to write", parameters=["nifti"])
    years = _interval(baseline, years)
    beyond = _check(bridge, baseline, years, accept_synthetic, extrapolate)
    x_b, streams = baseline.values.float()[None], [sample_generator(seed, i) for i in range(samples)]
    draws = torch.cat([bridge.sample(x_b, years, 1, g, extrapolate=extrapolate)[0] for g in streams]).double()
    images = None if missing is not None else draw_images(bridge, baseline, draws, streams, LEVEL)
    composite = np.array([region in bridge.provenance.get(COMPOSITE, ()) for region in bridge.regions])
    before = dict(zip(bridge.regions, baseline.values[:, None], strict=True))
    after = dict(zip(bridge.regions, draws.T, strict=True))
    if composite.any():
        before[COMPOSITE] = baseline.values[composite].mean()[None]
        after[COMPOSITE] = draws[:, composite].mean(1)
    changes = regional_changes(before, after, band=band, level=LEVEL)
    cautions = ((SYNTHETIC,) if bridge.synthetic else ()) + (CAUTION, *beyond)
    line = bridge.provenance.get("synthetic_centiloid")
    prediction = Prediction(
        baseline, years, draws, changes, composite, cautions, None if line is None else (line[0], line[1]), name, images
    )
    write_group(output, _dataset(prediction, bridge, band, seed), overwrite=overwrite)
    if nifti is not None and images is not None:
        write_nifti(nifti, baseline, images, "; ".join(cautions[:2]))
    if report is not None:
        write_prediction_report(report, prediction, band)
    return {
        "output": str(output),
        "prior": name,
        "sha256": bridge.sha256,
        "from": baseline.source,
        "years": years,
        "samples": samples,
        "seed": seed,
        "band": band,
        "synthetic": bridge.synthetic,
        "cautions": list(cautions),
        "regions": {c.region: {k: v for k, v in vars(c).items() if k != "region"} for c in changes},
        "images": f"none: {missing}" if images is None else f"{len(draws)} of {' x '.join(map(str, images.low.shape))}",
        "nifti": None if nifti is None else [str(path) for path in nifti_files(nifti)],
        "seconds": time.perf_counter() - start,
    }


def _interval(baseline: Baseline, years: float | None) -> float:
    years = baseline.years if years is None else years
    if years is None:
        raise InfieldError(
            where=baseline.source,
            found="no follow-up and so no interval",
            expected="years to predict over",
            remedy="give them ({years})",
            parameters=["years"],
        )
    return years


def _check(
    bridge: RegionBridge, baseline: Baseline, years: float, accept_synthetic: bool, extrapolate: bool
) -> tuple[str, ...]:
    """Refuse what the bridge was not trained for; return warnings about what is out of range by request."""
    if len(bridge.regions) != len(baseline.values):
        raise InfieldError(
            where="prior", found=f"a bridge of {len(bridge.regions)} regions", expected=f"{len(baseline.values)}"
        )
    if bridge.synthetic and not baseline.synthetic and not accept_synthetic:
        raise InfieldError(
            where=baseline.source,
            found=f"a prior {SYNTHETIC}",
            expected="a file of `infield simulate pet`",
            remedy="insist by {accept_synthetic}; it is no evidence about a patient",
            parameters=["accept_synthetic"],
        )
    trained = bridge.provenance.get("tracer")
    if None not in (trained, baseline.tracer) and str(trained).lower() != str(baseline.tracer).lower():
        raise InfieldError(where=baseline.source, found=f"tracer {baseline.tracer}", expected=f"{trained}, as trained")
    change = bridge.denoiser.change
    away = ((baseline.values - change.centre) / change.scale).abs()
    beyond = tuple(
        f"{region}: SUVR {value:.3g}, training {centre:.3g} +- {scale:.2g}"
        for region, value, centre, scale, z in zip(
            bridge.regions, baseline.values, change.centre, change.scale, away, strict=True
        )
        if z > FAR
    )
    if beyond and not extrapolate:
        raise InfieldError(
            where=baseline.source,
            found=beyond[0],
            expected=f"within {FAR:g} standard deviations",
            remedy="insist by {extrapolate}",
            parameters=["extrapolate"],
        )
    low, high = bridge.years
    if not low <= years <= high:  # drawing refuses it otherwise
        beyond += (f"extrapolated beyond {low:.3g} to {high:.3g} years",)
    return beyond


def _dataset(prediction: Prediction, bridge: RegionBridge, band: float, seed: int) -> xr.Dataset:
    baseline, changes = prediction.baseline, prediction.changes[: len(bridge.regions)]

    def of_changes(name: str, words: str) -> tuple[Any, ...]:
        return ("region", np.array([getattr(c, name) for c in changes]), {"long_name": words, "units": "1"})

    level = f"{100 * changes[0].level:.4g} %"
    variables: dict[str, Any] = {
        "follow_up": (
            ("sample", "region"),
            prediction.draws.numpy(),
            {"long_name": "draws of the SUVR that a scan at the follow-up would measure", "units": "1"},
        ),
        "baseline": ("region", baseline.values.numpy(), {"long_name": "SUVR at baseline", "units": "1"}),
        "change": of_changes("change", "mean change of SUVR"),
        "change_low": of_changes("low", f"lower end of the interval of {level}, by order statistics"),
        "change_high": of_changes("high", f"upper end of the interval of {level}, by order statistics"),
        "exceeds": of_changes("exceeds", f"probability that the change exceeds {band:g} of the baseline"),
    }
    if baseline.follow_up is not None:
        words = {"long_name": "measured SUVR at the follow-up, which the prediction did not use", "units": "1"}
        variables["follow_up_measured"] = ("region", baseline.follow_up.numpy(), words)
    attributes: dict[str, Any] = {
        "infield_format": FORMAT,
        "infield_version": VERSION,
        "title": "Predicted follow-up of regional amyloid PET",
        "years": prediction.years,
        "from": baseline.source,
        "prior": prediction.prior,
        "prior_sha256": bridge.sha256,
        "seed": seed,
        "band": band,
        "synthetic": int(bridge.synthetic),
        "warning": "; ".join(prediction.cautions),
        "history": f"{len(prediction.draws)} draws of the bridge {prediction.prior}; equations: priors.bridges.bridge",
    }
    if prediction.centiloid is not None:
        attributes["synthetic_centiloid"] = json.dumps(prediction.centiloid)
    variables |= _image_variables(prediction)
    coordinates: dict[str, Any] = {
        "region": ("region", np.array(bridge.regions, dtype=object)),
        "sample": ("sample", np.arange(len(prediction.draws))),
        "in_composite": ("region", prediction.composite.astype(np.int8)),
    }
    if prediction.images is not None:
        coordinates |= {axis: baseline.image.dataset()[axis].variable for axis in "zyx"}
    return xr.Dataset(variables, coordinates, attributes)


def _image_variables(prediction: Prediction) -> dict[str, Any]:
    """Draws of the image with mean and interval, and the baseline; nothing where there are none."""
    images, space = prediction.images, ("z", "y", "x")
    if images is None:
        return {}
    level = f"{100 * images.level:.4g} %"

    def variable(values: np.ndarray, words: str) -> tuple[Any, ...]:
        return (space, values.astype(np.float32), {"long_name": words, "units": "1"})

    words = {"long_name": "draws of the image that a scan at the follow-up would give, SUVR", "units": "1"}
    return {
        "follow_up_image": (("sample", *space), images.draws, words),
        "follow_up_image_mean": variable(images.mean, "mean of the draws, SUVR"),
        "follow_up_image_low": variable(images.low, f"lower end of the interval of {level}, by order statistics"),
        "follow_up_image_high": variable(images.high, f"upper end of the interval of {level}, by order statistics"),
        "baseline_image": variable(prediction.baseline.image.values, "baseline, SUVR"),
    }
