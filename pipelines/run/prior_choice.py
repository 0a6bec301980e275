"""Which prior a run uses: a checkpoint, a YAML description, a built-in name, or one fitted to the measurement."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from torch import Tensor

from infield.core import registry
from infield.core.errors import InfieldError
from infield.core.grid import Grid, PointSet
from infield.datasets.formats.field import COMPLEX_CHANNELS
from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import refuse_unknown_variance
from infield.physics.units import same_units
from infield.pipelines.options import as_option
from infield.pipelines.package_data import checkpoint_path, nearest, shipped_checkpoints
from infield.pipelines.run.conditioning import conditioning, ignored_context
from infield.pipelines.run.digests import former_prior_digest, prior_digest
from infield.pipelines.run.fitted_field import takes_fitted_field
from infield.posterior.samplers.base import Sampler, Trained
from infield.priors.base import FlowPrior
from infield.priors.flows.flow import LearnedFlow
from infield.priors.flows.patch_domains import SupportsDomains
from infield.priors.flows.regrid import SupportsPoints
from infield.priors.flows.slices import SlicePrior
from infield.priors.storage.checkpoint import load_of_any_kind, weights_sha256, wrong_kind
from infield.priors.storage.flow_entry import KIND
from infield.priors.storage.from_yaml import DescribedPrior, read_description

if TYPE_CHECKING:
    from infield.posterior.kriging.fitted import FittedField

BUILT_IN = {"matern-1/2": 0.5, "matern-3/2": 1.5, "matern-5/2": 2.5, "fitted": None}
"""Built-in names: Matern priors of this order (None: of any), their other parameters fitted to the measurement: to
linear data with Gaussian noise by their evidence, to others (counts, links) by Laplace's approximation of it."""


class Field(Protocol):
    """What is sought: a `Measurement`'s field, or one of its slices."""

    @property
    def grid(self) -> Grid | PointSet: ...
    @property
    def channels(self) -> tuple[str, ...]: ...
    @property
    def units(self) -> str: ...


@dataclass(frozen=True)
class Slice:
    """One slice of a volume, as a field."""

    grid: Grid
    channels: tuple[str, ...]
    units: str


@dataclass(frozen=True)
class ChosenPrior:
    """A prior, and its description in a posterior file.

    Arguments:
        prior: The prior on the measurement's grid, or what was trained for a family of measurements.
        label: The name given by the user.
        sha256: Digest of its numbers: of the checkpoint's file, or `digests.prior_digest` of one in closed form.
        fitted: Whether it was fitted to the measurement itself.
        conditioned_on: Names of the side information that it is conditioned on.
        wrapped: Names of open axes that a fitted prior treats as periodic.
        closed_form: What `sha256` is the digest of, where it is in closed form.
    """

    prior: FlowPrior | Trained
    label: str
    sha256: str
    fitted: bool
    conditioned_on: frozenset[str] = frozenset()
    wrapped: tuple[str, ...] = ()
    closed_form: FlowPrior | None = None

    @classmethod
    def in_closed_form(cls, prior: FlowPrior, label: str, fitted: bool = False) -> ChosenPrior:
        """A prior whose numbers are its digest."""
        return cls(prior, label, prior_digest(prior), fitted, closed_form=prior)

    def is_known_as(self, sha256: Any) -> bool:
        """Whether a file that stores this digest was made with this prior."""
        former = self.closed_form is not None and sha256 == former_prior_digest(self.closed_form)
        return former or bool(sha256 == self.sha256)

    @property
    def doubt(self) -> str | None:
        """Why a prior that was fitted to the measurement may be wrong, in one line; None where nothing is known."""
        if not self.wrapped:
            return None
        axes = f"axis {self.wrapped[0]}" if len(self.wrapped) == 1 else f"axes {', '.join(self.wrapped)}"
        return f"the prior fitted to the data treats open {axes} as periodic: opposite edges of the field are tied"


def choose_prior(
    name: Any, measurement: Measurement, *, device: str = "cpu", at: Mapping[str, float] | None = None
) -> ChosenPrior:
    """Resolve `--prior`.

    Arguments:
        name: The value of `--prior`: a name, a path, or a prior in memory, of any kind.
        measurement: Of the field that is sought.
        device: Where networks run.
        at: Numbers that a conditional prior is given, beside those of the measurement's context or in their place.

    Raises:
        InfieldError: If the name means nothing, or the prior is not one for this measurement.
    """
    name = str(name) if isinstance(name, Path) else name
    path = prior_file(name) if isinstance(name, str) and name not in BUILT_IN else None
    if name is not None:
        refuse_unknown_variance(measurement.noise)
    if name is not None and not isinstance(name, str):
        if hasattr(name, "for_field"):
            return _conditioned(name, name.name, name.name, measurement, at or {})
        if at:
            raise InfieldError(where=f"--at {next(iter(at))}", found=f"prior {name!r}", expected="a conditional prior")
        return _in_memory(name, measurement)
    stored = None
    if path is not None and path.suffix == ".ckpt":
        stored = kind, loaded = load_of_any_kind(path, device)
        if _placement(kind) == "context":
            return _conditioned(loaded, str(path), path.name, measurement, at or {})
    if at:
        raise InfieldError(
            where=f"--at {next(iter(at))}", found=f"prior {name}", expected="one of lightcones, which takes parameters"
        )
    if name is None or name in BUILT_IN:
        prior = _fit(measurement, BUILT_IN[name or "fitted"])
        grid = measurement.grid
        wrapped: tuple[str, ...] = ()
        if measurement.linear_gaussian and isinstance(grid, Grid):
            wrapped = tuple(axis.name for axis in grid.axes if not axis.periodic and axis.size > 1)
        return replace(ChosenPrior.in_closed_form(prior, name or "fitted", True), wrapped=wrapped)
    return prior_of_field(name, measurement, device, stored)


def _fit(measurement: Measurement, nu: float | None) -> FlowPrior:
    """A prior fitted to other data than those at points; what fits it is not imported for priors that have a name."""
    if measurement.linear_gaussian:
        from infield.posterior.inference.empirical_bayes import fit_prior

        return fit_prior(measurement, nu=nu)
    from infield.posterior.models.latent_fit import fit_latent_prior

    return fit_latent_prior(measurement, nu=nu)


def fitted_prior(name: str | None, fitted: FittedField, sampler: Sampler | None) -> ChosenPrior:
    """A law that was fitted to point data, as kriging takes it, or as a Gaussian prior for another sampler.

    Raises:
        InfieldError: If the law cannot be written as such a prior.
    """
    prior = cast(FlowPrior, fitted) if takes_fitted_field(sampler) else fitted.as_prior()
    return ChosenPrior(prior, name or "fitted", fitted.sha256, True)


def choose_slice_prior(name: Any, measurement: Measurement, *, device: str = "cpu") -> ChosenPrior:
    """Resolve `--prior` for a volume (z, y, x) whose prior is one of single slices (y, x).

    Raises:
        InfieldError: If the field is no volume, or the prior is not one for its slices.
    """
    refuse_unknown_variance(measurement.noise)
    grid = measurement.grid
    if not isinstance(grid, Grid) or grid.ndim != 3:
        raise InfieldError(
            where="--slices", found=f"a field on {grid.ndim} axes", expected="a volume on a grid (z, y, x)"
        )
    if name is None or (isinstance(name, str) and name in BUILT_IN):
        raise InfieldError(
            where="--slices", found=name, expected="--prior with a checkpoint or a description of slices"
        )
    field = Slice(Grid(grid.axes[1:]), measurement.channels, measurement.units)
    of_slice = prior_of_field(str(name), field, device) if isinstance(name, str | Path) else _in_memory(name, field)
    if isinstance(of_slice.prior, Trained):
        raise InfieldError(where=f"--prior {name}", found=f"'{of_slice.prior.name}'", expected="a prior of slices")
    return replace(of_slice, prior=SlicePrior(slices=of_slice.prior, depth=grid.shape[0]))


def prior_file(name: str) -> Path:
    """The file of a prior: a path, or that of a shipped checkpoint of this name.

    Raises:
        InfieldError: Neither; the line offers the nearest name.
    """
    path = Path(name) if Path(name).exists() else checkpoint_path(name)
    if path is None:
        raise InfieldError(
            where=f"--prior {name}",
            found="no such file, and no prior of this name",
            expected=f"a checkpoint (.ckpt), a description (.yaml), one of {', '.join(BUILT_IN)}, or a name that "
            "`infield list priors` shows",
            remedy=nearest(name, (*BUILT_IN, *shipped_checkpoints())),
        )
    return path


def prior_of_field(name: str, field: Field, device: str = "cpu", stored: tuple[str, Any] | None = None) -> ChosenPrior:
    """The prior of a file on the grid of a field.

    Arguments:
        name: A path, or the name of a shipped checkpoint.
        field: What is drawn or sought.
        device: Where networks run.
        stored: Kind and content of the checkpoint if it was loaded before.

    Raises:
        InfieldError: There is no such file, it holds no prior, or one of other fields.
    """
    path = prior_file(name)
    if path.suffix in (".yaml", ".yml"):
        return _described(path, field)
    kind, loaded = stored or load_of_any_kind(path, device)
    placement = _placement(kind)
    if placement == "any grid":
        flow = _on_grid_of(path, loaded, field)
        return ChosenPrior(flow, path.name, flow.sha256, False)
    if placement == "training grid":
        _check_grid_of(path, loaded, field)
        return ChosenPrior(loaded, path.name, loaded.sha256, False)
    raise wrong_kind(path, kind, KIND)


def _placement(kind: str) -> str | None:
    """How a stored kind becomes the prior of a measurement's field, as it states itself."""
    placement: str | None = getattr(registry.load("checkpoints", kind), "placement", None)
    return placement


def _conditioned(prior: Any, where: str, label: str, measurement: Measurement, at: Mapping[str, float]) -> ChosenPrior:
    try:
        values = conditioning(prior.conditioned_on, measurement, at)
        flow = prior.for_field(measurement.grid, measurement.channels, values)
    except InfieldError as error:
        raise error.within(f"--prior {where}") from error
    values_text = ", ".join(f"{name}={value:g}" for name, value in values.items() if not isinstance(value, Tensor))
    label = f"{label} at {values_text}" if values_text else label
    return ChosenPrior(flow, label, prior.sha256, False, frozenset(prior.conditioned_on))


def _in_memory(prior: Any, measurement: Field) -> ChosenPrior:
    """A prior that was loaded or built before, on the grid of a measurement."""
    label = str(getattr(prior, "name", type(prior).__name__))
    if isinstance(prior, DescribedPrior):
        built = prior.on(measurement.grid, len(measurement.channels))
        _check_units(Path(label), built, measurement)
        return ChosenPrior.in_closed_form(built, Path(label).name)
    if isinstance(prior, Trained):
        _check_grid_of(Path(label), prior, measurement)
        return ChosenPrior(prior, label, prior.sha256 or weights_sha256(prior.network), False)
    if isinstance(prior, LearnedFlow):
        placed = _on_grid_of(Path(label), prior, measurement)
        return ChosenPrior(placed, label, prior.sha256 or weights_sha256(prior.network), False)
    if not isinstance(prior, FlowPrior):
        raise InfieldError(
            where="prior",
            found=type(prior).__name__,
            expected="a prior",
            remedy="load one by infield.load_prior, or derive one from the protocol priors.base.FlowPrior",
        )
    return ChosenPrior.in_closed_form(prior, label)


def cautions(
    measurement: Measurement, prior: FlowPrior | Trained, conditioned_on: Collection[str] = frozenset()
) -> str | None:
    """Warnings on a measurement and a prior for it, in one line; None if there are none.

    Arguments:
        measurement: As it was opened.
        prior: As it is used.
        conditioned_on: Names of the measurement's context that the prior is conditioned on.
    """
    of_domains = (registry.load("cautions", name)(measurement, prior) for name in registry.names("cautions"))
    return "; ".join(filter(None, (ignored_context(measurement, conditioned_on), *of_domains))) or None


def _described(path: Path, measurement: Field) -> ChosenPrior:
    prior = read_description(path).on(measurement.grid, len(measurement.channels))
    _check_units(path, prior, measurement)
    return ChosenPrior.in_closed_form(prior, path.name)


def _on_grid_of(path: Path, prior: LearnedFlow, measurement: Field) -> LearnedFlow:
    """A learned prior on the grid of a measurement; refused, naming what differs, where it is of another field."""
    channels, *space = prior.covariance.event_shape
    if channels == 1 and measurement.channels == COMPLEX_CHANNELS:
        raise InfieldError(
            where=f"--prior {path}",
            found="a prior of real fields",
            expected="one of complex fields (channels real, imag), as the measurement's is",
            remedy="train one on complex fields, e.g. those of `infield simulate brain`",
        )
    if channels != len(measurement.channels):
        raise InfieldError(
            where=f"--prior {path}",
            found=f"{channels} channels",
            expected=f"{len(measurement.channels)} ({', '.join(measurement.channels)}), as the measurement's field",
        )
    _check_units(path, prior, measurement)
    grid = measurement.grid
    if not isinstance(grid, Grid) and not isinstance(prior.network, SupportsPoints):
        raise InfieldError(
            where=f"--prior {path}",
            found="a prior of fields on a grid",
            expected="one of fields on scattered points, as the measurement's",
        )
    _check_order(path, prior, grid)
    anew = isinstance(prior.network, SupportsDomains)  # even of one shape a domain may or may not close
    if anew or tuple(space) != tuple(grid.shape) or not isinstance(grid, Grid) or "axes" not in prior.grid_description:
        try:
            return prior.on(grid)
        except InfieldError as error:
            raise InfieldError(
                where=f"--prior {path}: grid of the measurement",
                found=f"{tuple(grid.shape)}",
                expected=f"{tuple(space)} as in training, or a prior for any grid",
                remedy=error.render(as_option),
            ) from error
    _check_extent(path, prior, grid)
    return prior


def _check_grid_of(path: Path, model: Trained, measurement: Field) -> None:
    """Refuse what was trained for fields on another grid."""
    channels, *space = model.event_shape
    _check_channels(path, channels, measurement)
    _check_units(path, model, measurement)
    grid = measurement.grid
    _check_order(path, model, grid)
    if not isinstance(grid, Grid) or tuple(space) != grid.shape:
        raise InfieldError(
            where=f"--prior {path}",
            found=f"a field of shape {tuple(grid.shape)}",
            expected=f"{tuple(space)}: an amortised model is valid on its training grid only",
        )
    _check_extent(path, model, grid)


def _check_channels(path: Path, channels: int, measurement: Field) -> None:
    if channels != len(measurement.channels):
        raise InfieldError(
            where=f"--prior {path}",
            found=f"{channels} channels",
            expected=f"{len(measurement.channels)} ({', '.join(measurement.channels)}), as the measurement's field",
        )


def _check_order(path: Path, prior: LearnedFlow | Trained, grid: Grid | PointSet) -> None:
    """Refuse a prior of fields on the same axes in another order."""
    found = [axis["name"] for axis in prior.grid_description.get("axes", ())]
    if sorted(found) == sorted(grid.names) and found != list(grid.names):
        raise InfieldError(
            where=f"--prior {path}",
            found=f"a prior of fields along ({', '.join(found)})",
            expected=f"({', '.join(grid.names)}), the order of the measurement's axes",
            remedy="write the measurement with its axes exchanged",
        )


def _check_extent(path: Path, prior: LearnedFlow | Trained, grid: Grid) -> None:
    for axis, other in zip(prior.grid_description["axes"], grid.axes, strict=True):
        found = axis["coordinates"][-1] - axis["coordinates"][0]
        expected = other.coordinates[-1] - other.coordinates[0]
        if abs(found - expected) > 1e-3 * abs(expected) or not same_units(axis["units"], other.units):
            raise InfieldError(
                where=f"--prior {path}: axis '{axis['name']}' of the measurement",
                found=f"an extent of {expected:g} {other.units}",
                expected=f"{found:g} {axis['units']} as in training",
                remedy="use a prior trained on this extent",
            )


def _check_units(path: Path, prior: FlowPrior | Trained, measurement: Field) -> None:
    if prior.units is not None and not same_units(prior.units, measurement.units):
        raise InfieldError(
            where=f"--prior {path}",
            found=f"units '{prior.units}'",
            expected=f"'{measurement.units}', as the measurement's field",
            remedy="convert one of them",
        )
