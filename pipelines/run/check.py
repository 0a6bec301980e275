"""Checks a posterior by the data of its measurement; its options are in `commands.check`."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
import zarr
from torch import Generator, Tensor

from infield.core import registry
from infield.core.errors import InfieldError
from infield.core.json_text import to_json
from infield.core.randomness import SampleStreams
from infield.datasets.formats.measurement import digest_in_memory, open_measurement
from infield.datasets.formats.posterior import open_posterior
from infield.datasets.formats.zarr_group import json_attribute, refusal
from infield.physics.measurement import Measurement
from infield.pipelines.package_data import checkpoint_path
from infield.pipelines.run.calibrate import WRONG, choose_all
from infield.pipelines.run.console import say, table
from infield.pipelines.run.devices import device_named
from infield.pipelines.run.options import check_at_least
from infield.pipelines.run.prior_choice import BUILT_IN
from infield.pipelines.run.process import one_thread
from infield.pipelines.run.samplers import adapted, make_sampler
from infield.posterior.calibration.checked import Checked
from infield.posterior.calibration.evidence import judge, whitened_data
from infield.posterior.calibration.operator_errors import operator_test
from infield.posterior.calibration.predictive import predict_split
from infield.posterior.calibration.splitting import split_data
from infield.posterior.samplers.base import Sampler

MIN_DRAWS = 99
"""Fewer could not alarm: the p-value is no less than 1 / (draws + 1)."""


def run(arguments: argparse.Namespace) -> int:
    summary = check(
        arguments.measurement,
        arguments.posterior,
        prior=arguments.prior,
        draws=arguments.draws,
        seed=arguments.seed,
        device=arguments.device,
        record=not arguments.no_record,
    )
    if arguments.json:
        print(to_json(summary))
    else:
        table(str(arguments.posterior), {"trusted": str(summary["trusted"]), "because": summary["trusted_because"]})
    if summary["trusted"] == 0:
        say(f"warning: not to be trusted: {summary['trusted_because']}", quiet=arguments.json)
    return WRONG if arguments.strict and summary["trusted"] == 0 else 0


@one_thread()
def check(
    measured: Path | Measurement,
    posterior: Path,
    *,
    prior: Any = None,
    draws: int = MIN_DRAWS,
    seed: int = 0,
    device: str = "auto",
    record: bool = True,
) -> dict[str, Any]:
    """The command as a function; returns the verdict in plain JSON types.

    Raises:
        InfieldError: Whatever of the input the user can mend.
    """
    check_at_least(MIN_DRAWS, draws=draws)
    check_at_least(0, seed=seed)
    measurement = measured if isinstance(measured, Measurement) else open_measurement(measured)
    with open_posterior(posterior) as dataset:
        attributes = dict(dataset.attrs)
        found = measurement.digest or digest_in_memory(measurement)
        expected = attributes.get("measurement_sha256")
        if expected != found:
            remedy = "it is a posterior of another measurement, or that has changed since"
            raise refusal(posterior, "measurement_sha256", expected, f"{found}, that of the measurement", remedy)
        sampler = _sampler_of(posterior, dataset)
    name = _prior_of(posterior, attributes) if prior is None else prior
    fitted_field = sampler.method == "kriging"
    measurement, chosen, sampler = choose_all(
        measurement, name, None if fitted_field else sampler, device_named(device), int(attributes.get("seed", 0))
    )
    if not chosen.is_known_as(attributes.get("prior_sha256")):
        raise InfieldError(
            where=f"{posterior}: 'prior_sha256'",
            found=attributes.get("prior_sha256"),
            expected=f"{chosen.sha256}, that of {chosen.label}",
            remedy="give the prior that it was drawn with ({prior})",
            parameters=["prior"],
        )
    verdict = checked(adapted(sampler, chosen.prior), chosen.prior, measurement, draws, seed)
    summary = verdict.to_json()
    before = attributes.get("trusted"), attributes.get("trusted_because")
    if before[0] == 0 and summary["trusted"] != 0 and "check" not in attributes:
        summary |= {"trusted": 0, "trusted_because": f"{before[1]}; otherwise: {verdict.because}"}
    if record:
        kept = {"trusted": summary["trusted"], "trusted_because": summary["trusted_because"]}
        group = zarr.open_group(posterior, mode="r+", use_consolidated=False)
        group.attrs.update({**kept, "check": json.dumps({**summary, "seed": seed, "draws": draws}, allow_nan=False)})
    return {**summary, "posterior": str(posterior), "prior": chosen.label, "sampler": sampler.method}


def checked(sampler: Sampler, prior: Any, measurement: Measurement, draws: int, seed: int) -> Checked:
    """Split the data, draw from one part, predict the other; and test the evidence of a Gaussian prior."""
    torch.set_num_threads(1)
    own, second = (int(k) >> 1 for k in np.random.SeedSequence([seed, 24]).generate_state(2, np.uint64))
    generator = Generator().manual_seed(own)
    split = split_data(measurement, generator)
    block = sampler.block
    found: list[Tensor] = []
    for b in range(-(-draws // block)):
        streams = SampleStreams(second, range(b * block, (b + 1) * block))
        found.append(sampler(prior, split.training, block, streams).samples)
    prediction = predict_split(split, torch.cat(found)[:draws], generator)
    whitened = whitened_data(prior, measurement)
    if whitened is None:
        return Checked(prediction, None, measurement.count)
    operator = operator_test(whitened, prior, measurement, generator)
    return Checked(prediction, judge(whitened), measurement.count, operator)


def _sampler_of(path: Path, dataset: xr.Dataset) -> Sampler:
    """The sampler that drew a posterior, with its parameters."""
    method = str(dataset.attrs.get("sampler", ""))
    name = next((n for n in registry.names("samplers") if registry.load("samplers", n).method == method), None)
    if name is None:
        raise refusal(path, "sampler", repr(method), f"one of {', '.join(registry.names('samplers'))}")
    parameters = json_attribute(path, dataset, "sampler_parameters")
    known = {f.name for f in dataclasses.fields(registry.load("samplers", name)) if f.init}
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in parameters.items() if k in known}
    try:
        made: Sampler = dataclasses.replace(make_sampler(name), **given)  # type: ignore[type-var]
    except (TypeError, ValueError) as error:
        raise refusal(path, "sampler_parameters", repr(parameters), f"those of {method}") from error
    return made


def _prior_of(path: Path, attributes: dict[str, Any]) -> str:
    """The prior that a posterior names: a built-in or shipped one, or a file of this name here or beside it."""
    label = str(attributes.get("prior", "")).partition(": ")[0]
    if label in BUILT_IN or checkpoint_path(label.removesuffix(".ckpt")) is not None:
        return label.removesuffix(".ckpt")
    for place in (Path(label), path.parent / label):
        if label and place.exists():
            return str(place)
    raise InfieldError(
        where=f"{path}: 'prior'", found=f"'{label}', which is no file here", expected="its prior",
        remedy="give {prior}", parameters=["prior"],
    )  # fmt: skip
