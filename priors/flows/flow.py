"""A learned prior: a network's velocity, alone or on top of the closed-form flow of a Gaussian with such a spectrum."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from infield.core.brief import Brief
from infield.core.errors import InfieldError
from infield.core.grid import GridLike, grid_from_json
from infield.priors.base import Standardisation
from infield.priors.covariance.base import Covariance
from infield.priors.flows.field_space import FieldParametrisation, Network, in_precision
from infield.priors.flows.patch_domains import Domain, SupportsDomains
from infield.priors.flows.regrid import Regrid
from infield.priors.gaussian.kernels import law_from_spec
from infield.priors.torus_window import WindowedStandardisation

Skip = Literal["gaussian", "none", "scalar"]

MAX_VALUES_PER_CALL = 16384
"""Maximum number of values per network call on a CPU: larger batches exceed the caches (at 512
fields of 1024 points, five times slower)."""


@dataclass(frozen=True)
class Parametrisation:
    r"""Map from the output of a network to a velocity.

    Coordinates are those of the source's modes, whitened by the source: :math:`u = c^{-1/2} T x`, so that u_0 ~ N(0, I)
    and, for data whose modes have variance d, u_1 has variance s = d / c and mean m. With
    :math:`p = t^2 s + (1-t)^2`, the variance of u_t,

    .. math:: v(u, t) = m + \frac{t s - (1-t)}{p} (u - t m) + \overline{s/p}^{1/2} T F(T^T \bar p^{-1/2} (u - t m), t).

    The first two terms are the exact velocity of N(m, s), mode by mode (`priors.gaussian.prior.bridge`). What they
    leave of u_1 - u_0 has variance s / p in each mode. The bars are means over the modes of a channel, so that the
    network F has an input and a target of unit variance (Karras et al. 2022, arXiv:2206.00364, section 5, for one
    variance). They are one number a channel and not one a mode, because an input whitened mode by mode hides large
    structures in small-scale noise: tried, it learned nothing. A network that returns zero is the Gaussian prior with
    that spectrum.

    With `skip="none"` the first two terms are absent and F is scaled by the standard deviation of u_1 - u_0: plain
    flow matching.

    Arguments:
        source: C_0, diagonal (c) in its modes T.
        variance: Variances d of the data's modes, shape `(channel, *space)`.
        mean: Mean of the data, a field of shape `(channel, *space)`.
        skip: `gaussian` or `none`.
    """

    source: Covariance
    variance: Tensor
    mean: Tensor
    skip: Skip = "gaussian"

    def __post_init__(self) -> None:
        if self.skip not in ("gaussian", "none"):
            raise InfieldError(
                where="skip of a flow", found=f"{self.skip!r}", expected=f"one of {', '.join(get_args(Skip))}"
            )

    @cached_property
    def deviation(self) -> Tensor:
        """c^{1/2}, shape `(channel, *space)`."""
        return self.source.diagonal.sqrt()

    @cached_property
    def s(self) -> Tensor:
        """Variances of the modes of u_1, shape `(channel, *space)`."""
        return self.variance / self.source.diagonal

    @cached_property
    def m(self) -> Tensor:
        """Mean of u_1, shape `(channel, *space)`; zero without skip."""
        return self.whiten(self.mean) if self.skip == "gaussian" else torch.zeros_like(self.mean)

    def whiten(self, x: Tensor) -> Tensor:
        """u of fields x, both of shape `(..., channel, *space)`."""
        return self.source.modes.analyse(x) / self.deviation

    def colour(self, u: Tensor) -> Tensor:
        """The inverse of `whiten`."""
        return self.source.modes.synthesise(self.deviation * u)

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gain of the skip, scale of the network's input and of its output, at times t that broadcast with fields."""
        space = tuple(range(-self.s.ndim + 1, 0))
        p = t.square() * self.s + (1 - t).square()
        scale_in = p.mean(space, keepdim=True).rsqrt()
        if self.skip == "none":
            return torch.zeros_like(p), scale_in, (1 + self.s.mean(space, keepdim=True)).sqrt().expand_as(scale_in)
        return (t * self.s - (1 - t)) / p, scale_in, (self.s / p).mean(space, keepdim=True).sqrt()

    def velocity(self, network: Network, u: Tensor, t: Tensor) -> Tensor:
        """v(u, t) in whitened modes, shape `(batch, channel, *space)`, for times of shape `(batch,)` or `(1,)`."""
        tau = t.reshape(-1, *[1] * (u.ndim - 1))
        gain, scale_in, scale_out = self.coefficients(tau)
        z = u - tau * self.m
        return self.m + gain * z + scale_out * self._learned(network, scale_in * z, t)

    def field_velocity(self, network: Network, x: Tensor, t: Tensor) -> Tensor:
        """The same for fields, shape `(batch, channel, *space)`."""
        return self.colour(self.velocity(network, self.whiten(x), t))

    def field_loss(self, network: Network, x_1: Tensor, white: Tensor, t: Tensor) -> Tensor:
        """`loss` for standardised fields `(batch, channel, *space)`, and white noise of that shape as u_0."""
        with torch.autocast(x_1.device.type, enabled=False):
            u_1 = self.whiten(x_1)
        return self.loss(network, u_1, white, t)

    def loss(self, network: Network, u_1: Tensor, u_0: Tensor, t: Tensor) -> Tensor:
        """Mean square error of the velocity in whitened coordinates, over what the Gaussian leaves; shape `(batch,)`.

        With skip it is 1 in the mean for a network that returns zero, and stays 1 for the best network where the data
        are Gaussian with independent modes: what is below 1 was learned.
        """
        tau = t.reshape(-1, *[1] * (u_1.ndim - 1))
        gain, scale_in, scale_out = self.coefficients(tau)
        z = tau * u_1 + (1 - tau) * u_0 - tau * self.m
        target = (u_1 - u_0 - self.m - gain * z) / scale_out
        return (target - self._learned(network, scale_in * z, t)).square().flatten(1).mean(1)

    def _learned(self, network: Network, z: Tensor, t: Tensor) -> Tensor:
        modes = self.source.modes
        with torch.autocast(z.device.type, enabled=False):
            field = modes.synthesise(z).float()
        learned = network(field, t.float().expand(len(field)))
        with torch.autocast(z.device.type, enabled=False):
            return modes.analyse(learned.to(z.dtype))

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Parametrisation:
        """The same on another device, in another precision."""
        source = in_precision(self.source, dtype).to(device)
        variance, mean = (field.to(dtype).to(device) for field in (self.variance, self.mean))
        return Parametrisation(source, variance, mean, self.skip)


@dataclass(frozen=True, kw_only=True, repr=False)
class LearnedFlow(Brief):
    """A prior on standardised fields with a learned velocity; see `priors.base.FlowPrior`.

    State in double precision, network in single precision; the velocity can be differentiated by the field.

    Arguments:
        name: Name in reports.
        network: F of `Parametrisation`, in evaluation mode.
        source: C_0, diagonal in its modes.
        covariance: Factored covariance of the training fields, in the same modes: a surrogate for that of the flow.
        mean: Mean of the standardised field, shape `(channel, *space)`.
        standardisation: Map from standardised fields to fields in units.
        skip: `gaussian`, `none` or `scalar`, as in training.
        grid_description: Grid of the field, in plain JSON types.
        units: Units of the field.
        channels: Names of its channels.
        provenance: Origin of its numbers, in plain JSON types; copied to the posterior's file.
        sha256: Digest of the file that it was read from; empty where there was none.
    """

    name: str
    network: nn.Module
    source: Covariance
    covariance: Covariance
    mean: Tensor
    standardisation: Standardisation
    skip: Skip
    grid_description: dict[str, Any]
    units: str
    channels: tuple[str, ...]
    provenance: dict[str, Any]
    sha256: str = ""
    papers: ClassVar[tuple[str, ...]] = ("lipman2023flow", "kerrigan2024functional")
    """What to cite, keys of `pipelines/references.bib`."""

    def about(self) -> dict[str, object]:
        """What a short description shows."""
        weights = sum(weight.numel() for weight in self.network.parameters())
        return {
            "name": repr(self.name),
            "network": f"{type(self.network).__name__} of {weights:,} weights",
            "fields": f"{', '.join(self.channels)} {tuple(self.covariance.event_shape[1:])} in {self.units}",
        }

    @property
    def gaussian(self) -> Literal[False]:
        return False

    @cached_property
    def parametrisation(self) -> Parametrisation | FieldParametrisation:
        if self.skip == "scalar":
            return FieldParametrisation(self.source)
        return Parametrisation(self.source, self.covariance.truncated(0).diagonal, self.mean, self.skip)

    def velocity(self, x: Tensor, t: float) -> Tensor:
        """v(x, t) for fields `(batch, channel, *space)` at one time 0 <= t < 1; shape, precision and device of x."""
        with torch.set_grad_enabled(x.requires_grad and torch.is_grad_enabled()):  # never for the weights alone
            return self.parametrisation.field_velocity(self._network, x, x.new_tensor([t]))

    def _network(self, x: Tensor, t: Tensor) -> Tensor:
        device = next(self.network.parameters()).device
        if x.requires_grad or x.device.type != "cpu" or device.type != "cpu":
            return self.network(x.to(device), t.to(device)).to(x.device)
        few = max(MAX_VALUES_PER_CALL // x[0].numel(), 1)
        return torch.cat([self.network(*part) for part in zip(x.split(few), t.split(few), strict=True)])

    def to(self, device: torch.device | str) -> LearnedFlow:
        """The same prior with its network on another device; fields, and all other algebra, stay where they are."""
        return replace(self, network=self.network.to(device))

    def on(self, site: GridLike) -> LearnedFlow:
        """The same prior on another grid, or other points, of its domain: the same weights are the same velocity there.

        The source is its law evaluated there. Mean and covariance, a surrogate, are interpolated
        (`priors.flows.regrid`). A prior whose network acts on patches is valid for fields of one spacing on domains of
        any size (`priors.flows.patch_domains`).

        Arguments:
            site: `core.grid.Grid` or `PointSet`.

        Raises:
            InfieldError: The prior is tied to its grid (its skip, its network or its source is), or the site is not of
            its domain.
        """
        if isinstance(self.network, SupportsDomains):
            return on_domain(self, site)
        description = site.to_json()
        if description == self.grid_description:
            return self
        if self.skip != "scalar":
            raise InfieldError(
                found=f"`skip: {self.skip}`, whose network takes fields whitened on the grid of its training",
                expected="`skip: scalar`",
                remedy="use a prior trained on this grid, or one trained with `skip: scalar`",
            )
        spec = self.provenance.get("source")
        if spec is None or spec.get("law") == "white":
            raise InfieldError(
                found=f"a source {'that is not stored' if spec is None else 'of white noise'}",
                expected="a Matern source, which is defined on every grid",
                remedy="use a prior trained on this grid, or one from a Matern source",
            )
        regrid = Regrid(grid_from_json(self.grid_description), site, law_from_spec(spec), len(self.channels))
        return replace(
            self,
            network=regrid.network(self.network),
            source=regrid.source,
            covariance=regrid.covariance(self.covariance, self.source),
            mean=regrid.fields(self.mean),
            grid_description=description,
        )


def on_domain(prior: LearnedFlow, site: GridLike, *, whole: bool = True) -> LearnedFlow:
    """A prior of patches on another domain, as returned by `LearnedFlow.on`.

    Source and covariance are evaluated anew (`priors.gaussian.spectral_density`), the mean is one number a
    channel, and the network is the same at every place.

    Arguments:
        prior: The prior on its grid of training.
        site: Grid of the result.
        whole: Whether the site is the domain; False for a tile of one, which has a mean.

    Raises:
        InfieldError: As `Domain`; or the source is not on record.
    """
    if not isinstance(prior.network, SupportsDomains):
        raise InfieldError(found=f"the network {type(prior.network).__name__}", expected="a network of patches")
    domain = Domain(grid_from_json(prior.grid_description), site)
    if whole and domain.closed and domain.window.shape == prior.covariance.event_shape[1:] and not any(domain.origin):
        return prior
    spec = prior.provenance.get("source")
    if spec is None:
        raise InfieldError(found="no source on record", expected="a prior of `infield fit`")
    channels = len(prior.channels)
    source = domain.source(law_from_spec(spec), channels)
    spectrum = domain.spectrum(prior.covariance.truncated(0).diagonal, whole=whole)
    standardisation = prior.standardisation
    if not domain.closed:
        standardisation = WindowedStandardisation(standardisation.shift, standardisation.scale, domain.window)
    space = tuple(range(1, prior.mean.ndim))
    return replace(
        prior,
        network=domain.network(prior.network),
        source=source,
        covariance=Covariance.diagonal_in(source.modes, spectrum),
        mean=prior.mean.mean(space, keepdim=True).expand(source.event_shape),
        standardisation=standardisation,
        grid_description=site.to_json(),
    )
