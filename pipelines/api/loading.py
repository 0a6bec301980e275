"""Priors and samplers by name, for Python."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from infield.core import registry
from infield.core.errors import InfieldError
from infield.core.grid import Grid, PointSet
from infield.physics.operators.registry import build_operator
from infield.pipelines.package_data import nearest
from infield.pipelines.run.devices import device_named
from infield.pipelines.run.names import BUILT_IN_PRIORS
from infield.pipelines.run.prior_choice import prior_file
from infield.posterior.samplers.base import Sampler
from infield.priors.storage.checkpoint import load_checkpoint
from infield.priors.storage.from_yaml import read_description


def load_prior(name: str | Path, device: str = "cpu") -> Any:
    """Load a prior.

    Arguments:
        name: A name that `infield.priors()` shows, e.g. "brain_2d"; a checkpoint of any kind; a YAML description.
        device: Where its network runs: "auto", "cpu", "cuda", ...

    Returns:
        A `LearnedFlow`, a prior of lightcones, a model trained for a family of measurements, a surrogate of a solver,
        or a `DescribedPrior`, whose method `on(grid, channels)` gives the prior on a grid. `infield.reconstruct` takes
        all of them but the surrogate, and puts them on the grid of the measurement.

    Raises:
        InfieldError: There is no such file and no such name (the nearest one is offered); the file is corrupt, of
            another program, or of a newer version; the name is that of a prior fitted to a measurement.
    """
    if str(name) in BUILT_IN_PRIORS:
        raise InfieldError(
            where=f"prior '{name}'",
            found="one that is fitted to a measurement",
            expected="one that needs no further arguments",
            remedy="give its name to reconstruct: {prior}",
            parameters={"prior": str(name)},
        )
    path = prior_file(str(name))
    if path.suffix in (".yaml", ".yml"):
        return read_description(path)
    return load_checkpoint(path, device=device_named(device))


def sampler(name: str, **parameters: Any) -> Sampler:
    """A sampler by name.

    Arguments:
        name: A name that `infield.samplers()` shows, e.g. "faps".
        parameters: Fields of its dataclass, e.g. `levels=20`.

    Raises:
        InfieldError: The name or a parameter is unknown (the nearest one is offered), or a value is refused.
    """
    kind = registry.load("samplers", name)
    known = [f.name for f in dataclasses.fields(kind) if f.init]
    for parameter in parameters:
        if parameter not in known:
            raise InfieldError(
                where=f"sampler '{name}'",
                found=f"the parameter '{parameter}'",
                expected=", ".join(known) or "none",
                remedy=nearest(parameter, known) if known else "leave it out",
            )
    made: Sampler = kind(**parameters)
    return made


def operator(name: str, grid: Grid | PointSet, channels: int = 1, **parts: Any) -> Any:
    """A forward operator by name.

    Arguments:
        name: A name that `infield.operators()` shows, e.g. "mask"; `deepinv:<ClassName>` for those of deepinv.
        grid: Grid of the field.
        channels: Number of channels of the field.
        parts: Parameters of the operator, and its arrays: arrays and tensors are taken for arrays, e.g.
            `operator("points", grid, coordinates=xy)`.

    Returns:
        The operator, with its description: a measurement made with it can be written to a file.

    Raises:
        InfieldError: The name is unknown (the nearest one is offered), or something is missing or does not fit.
    """
    if not name.startswith("deepinv:"):
        registry.find("operators", name)
    arrays = {role: np.asarray(part) for role, part in parts.items() if isinstance(part, np.ndarray | Tensor)}
    description: dict[str, Any] = {"name": name}
    if len(parts) > len(arrays):
        description["parameters"] = {role: part for role, part in parts.items() if role not in arrays}
    if arrays:
        description["arrays"] = {role: f"operator_{role}" for role in arrays}
    named = {f"operator_{role}": array for role, array in arrays.items()}
    built = build_operator(description, named, grid, channels)
    object.__setattr__(built, "described", (description, named))
    return built
