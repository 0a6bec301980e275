r"""Posteriors in one step: average velocities (MeanFlow) from a source that the data adapt to.

"Mean Flows for One-step Generative Modeling" (Geng et al. 2025, arXiv:2505.13447); the source and the conditioning are
those of "NullFlow" (Shi et al. 2026, arXiv:2606.22696) and, with noise, of "SNaP" (Shoushtari et al. 2026), see
`priors.amortised.adapted_source`. With x_t = (1 - t) x_0 + t x_1 and v = x_1 - x_0, the average velocity between r and t obeys

.. math:: u(x_r, r, t) = v + (t - r) \frac{d}{dr} u(x_r, r, t),   \frac{d}{dr} u = (\partial_z u) v + \partial_r u.

| paper (MeanFlow) | here |
| --- | --- |
| t = 1 source, t = 0 data | t = 0 source, t = 1 data |
| z_t, interval [r, t], u(z_t, r, t) | z_r, interval [r, t], u(z_r, r, t): from its earlier end |
| identity u = v - (t - r) du/dt | u = v + (t - r) du/dr |
| weight 1 / (error + c) of every example | 1 / (c + square of (t - r) du/dr), with a score: it does not depend on v, so that the minimiser stays the conditional mean and the draws calibrated; else none |
| conditional v in du/dt | the marginal one, u(z, r, r), as in Improved Mean Flows (arXiv:2512.02012): less noise, the same minimiser |

The identity is learned from short steps first; until it is learned for long ones, a single step contracts
to the mean. So a score of mean and variance of two draws in one step may be added, whose least value the exact average
velocity has too: `dawid_sebastiani_score`. Both are then taken in units of the variance of each measurement's source: one that
leaves little open counts as much as one that leaves much. What is left is measured on held-out fields when a checkpoint
is written, and the source widened by it: a factor near 1, stored in the file.

With exact data the velocity is confined to the null space of A: P u in place of u, P = I - A^+ A; with noise, to what it
leaves open (`priors.amortised.adapted_source.soft_null_projection`).
"""  # noqa: E501 - a table

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor, nn

from infield.core.errors import InfieldError
from infield.priors.amortised.adapted_source import adapted_source, soft_null_projection
from infield.priors.amortised.average_velocity import (
    ENTRY,
    AverageVelocity,
    conditions,
    from_entry,
    load_average_velocity,
    to_entry,
)
from infield.priors.networks.unet import UNet
from infield.priors.storage.network import network_description
from infield.priors.training.common import VALIDATION, batch_generator, network_weights, standard_normal
from infield.priors.training.measurement_family import FamilyTraining, measured, standardisation_of
from infield.priors.training.spread_score import dawid_sebastiani_score, error_over_spread

NUMBERS = 3
"""r, t and the noise."""

FLOOR = 0.1
"""Floor of the score, in units of the variance of the source."""

WIDENED = 3
"""Number of times that the spread of draws is measured on held-out fields, each time with the previous widening."""


class MeanFlow(FamilyTraining):
    """Trains an `AverageVelocity` on fields of a data module, measured anew in every batch.

    Arguments:
        network: A `priors.networks.unet.UNet` or `priors.networks.mlp.Perceptron` with `inputs` three times the
            channels of the data and `times: 3`.
        family: Family of operators.
        noise: Least and greatest standard deviation of the noise, in standard deviations of the field.
        noiseless: Fraction of the measurements without noise.
        tau: Standard deviation of a white prior behind the source, in standard deviations of the field; without one the
            source has the power spectrum of the training fields.
        operators: Operators per batch.
        equal: Fraction of the pairs of times with r = t.
        corner: Fraction of the others that are drawn near r = 0, t = 1, the pair used in sampling.
        score: Weight of `dawid_sebastiani_score` of draws in one step; for fields of many values.
        identity: Fraction of a batch for which the identity is evaluated.
        scored: Fraction of a batch for which the score is evaluated.
        middle: Initial steps that train only the map of the source's mean to the mean of the fields.
        start: A checkpoint of a one-step posterior with such a network, of other measurements too, whose weights are
            the first ones.
        learning_rate: Peak learning rate of AdamW; a cosine reduces it to a hundredth over a run of known length.
        warmup: Steps of linear warm-up.
        weight_decay: Weight decay of AdamW.
        seed: Random seed; operators, noise, sources and times derive from seed, epoch and batch.
    """

    what = "one-step posterior"
    entry = ENTRY
    model: AverageVelocity

    def __init__(
        self,
        network: nn.Module,
        family: Any,
        noise: tuple[float, float] = (0.0, 0.1),
        noiseless: float = 0.0,
        tau: float | None = None,
        operators: int = 4,
        equal: float = 0.5,
        corner: float = 0.1,
        score: float = 0.0,
        identity: float = 1.0,
        scored: float = 0.5,
        middle: int = 0,
        start: str | None = None,
        learning_rate: float = 5e-4,
        warmup: int = 100,
        weight_decay: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(network, family, noise, noiseless, operators, learning_rate, warmup, weight_decay, seed)
        if self.description["arguments"].get("times", 1) != NUMBERS:
            raise InfieldError(
                where="network of a one-step posterior",
                found=f"times {self.description['arguments'].get('times', 1)}",
                expected=f"`times: {NUMBERS}` and `inputs` three times the channels",
            )
        shares = {"equal": equal, "corner": corner, "identity": identity, "scored": scored}
        wrong = [name for name, share in shares.items() if not 0 <= share <= 1]
        if wrong or not (tau is None or tau > 0) or score < 0 or middle < 0:
            raise InfieldError(
                where="one-step posterior",
                found=f"tau {tau}, score {score}, middle {middle}, {shares}",
                remedy="expected positive numbers and shares from 0 to 1",
            )
        self.tau, self.equal, self.corner, self.score = tau, equal, corner, score
        self.identity, self.scored, self.middle = identity, scored, middle
        if start is not None:
            self.network.load_state_dict(self._weights_of(start))
        elif middle and isinstance(network, UNet):
            network.start_without(self.description["arguments"]["channels"] // 2)

    def _weights_of(self, start: str) -> dict[str, Tensor]:
        """Those of the network in a checkpoint of a one-step posterior."""
        found, expected = load_average_velocity(start).network, self.description
        if network_description(found) != expected:
            raise InfieldError(
                where=start, found=f"the network {network_description(found)}", expected=f"{expected} to start from"
            )
        return found.state_dict()

    def make(self, fields: Tensor, facts: dict[str, Any]) -> AverageVelocity:
        channels = fields.shape[1]
        gated = self.description["arguments"]["channels"] == 2 * channels
        self.expect_network(2 * channels if gated else channels, 3 * channels, NUMBERS)
        units = standardisation_of(fields)
        if self.tau is None:
            power = _mean_power(units.from_units(fields))
        else:
            power = torch.tensor(float(self.tau) ** 2)
        facts["name"] = f"one step, {self.description['name']}"
        facts["provenance"]["kind"] = "one step"
        return AverageVelocity(**facts, standardisation=units, power=power)

    def loss(self, fields: Tensor, generator: Generator) -> Tensor:
        """Mean loss of fields `(batch, channel, *space)` in units, with random numbers of a CPU generator."""
        return self._loss_of(self.model.standardisation.from_units(fields).float(), generator).mean()

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        if self.global_step >= self.middle:
            return super().training_step(batch, batch_idx)
        generator = batch_generator(self.seed, self.current_epoch, batch_idx, self.global_rank)
        loss = self._loss_of_middle(self.model.standardisation.from_units(batch).float(), generator).mean()
        self.log("loss_of_middle", loss, prog_bar=True)
        return loss

    def _loss_of(self, x_1: Tensor, generator: Generator) -> Tensor:
        """Loss of each of some fields, shape `(batch,)`."""
        m = self._batch(x_1, generator, again=self.score > 0)
        n, x_0 = len(x_1), m.x_0
        of_identity, of_score = n - 1 - _some(n, self.identity).flip(0), _some(n, self.scored)
        # a point on the path between them
        times = self._times(n, generator)
        apart = of_identity[(times[0] < times[1])[of_identity]]  # on the CPU, as all index tensors
        r, t = (time.to(x_1) for time in times)
        r_, t_ = (time.reshape(-1, *[1] * (x_1.ndim - 1)) for time in (r, t))
        v = x_1 - x_0
        z = (1 - r_) * x_0 + r_ * x_1
        # u_target = v + (t - r) du/dr
        target = v.clone()
        if len(apart):
            z_a, r_a, t_a = z[apart], r[apart], t[apart]
            with torch.no_grad():
                marginal = m.u(z_a, r_a, r_a, apart)
                tangents = (marginal, torch.ones_like(r_a))
                slope = torch.func.jvp(lambda z, r: m.u(z, r, t_a, apart), (z_a, r_a), tangents)[1]
            target[apart] += (t_ - r_)[apart] * slope
        error = m.u(z[of_identity], r[of_identity], t[of_identity], of_identity) - target[of_identity]
        identity = error.square().flatten(1).mean(1)
        if not self.score:
            return torch.zeros_like(r).index_add(0, of_identity.to(r.device), identity)
        # weighted by the variance of the source and the square of the slope term: weights that depend on the
        # conditioning alone leave the minimiser unchanged
        asked = m.spread + (target - v).square().flatten(1).mean(1)
        loss = torch.zeros_like(r).index_add(0, of_identity.to(r.device), identity / asked[of_identity])
        zero, one = torch.zeros_like(r[of_score]), torch.ones_like(r[of_score])
        first, second = (x[of_score] + m.u(x[of_score], zero, one, of_score) for x in (x_0, m.x_0_again))
        score = dawid_sebastiani_score(first, second, x_1[of_score], floor=FLOOR * m.spread[of_score])
        return loss.index_add(0, of_score.to(r.device), self.score * n / len(of_score) * score)

    def _loss_of_middle(self, x_1: Tensor, generator: Generator) -> Tensor:
        """Squared error of the source's mean, moved in one step, in units of what the source leaves open; `(batch,)`.

        It is least for the mean of the posterior, where an exact average velocity moves the middle to if both laws are
        symmetric about it: near enough to begin with. Without noise at the input a network learns what is in fields
        many times sooner.
        """
        m = self._batch(x_1, generator, again=False)
        every, zero = torch.arange(len(x_1)), torch.zeros_like(m.noise)
        moved = m.mean + m.u(m.mean, zero, zero + 1, every)
        return (moved - x_1).square().flatten(1).mean(1) / m.spread

    def _batch(self, x_1: Tensor, generator: Generator, *, again: bool) -> _Batch:
        """Fields measured by several operators; arguments as `_measured`."""
        parts = x_1.split(-(-len(x_1) // self.operators))
        return _Batch(self.model, [self._measured(part, generator, again=again) for part in parts])

    def _measured(self, x_1: Tensor, generator: Generator, *, again: bool) -> _Measured:
        """Fields measured by one operator of the family, and the source that the data lead to, drawn once or twice."""

        normal = partial(standard_normal, like=x_1, generator=generator)
        m = measured(self.family, self.grid, x_1, self.noise, self.noiseless, generator)
        operator, y, s = m.operator, m.y, m.noise
        seen_data = torch.ones_like(y) if operator.observed is None else operator.observed.to(y)
        # a draw of the source, and its mean, which no random numbers give
        e, n = normal(x_1.shape), seen_data * normal(y.shape)
        draws = [(e, n), (torch.zeros_like(e), torch.zeros_like(n))]
        if again:
            draws.append((normal(x_1.shape), seen_data * normal(y.shape)))
        every = (torch.cat(parts) for parts in zip(*draws, strict=True))
        y = y.repeat(len(draws), *[1] * (y.ndim - 1))
        x_0, mean, *second = adapted_source(operator, y, *every, power=self.model.power, noise=s).split(len(x_1))
        return _Measured(
            x_0=x_0,
            x_0_again=second[0] if second else x_0,
            seen=conditions(operator, mean),
            noise=x_1.new_full((len(x_1),), s),
            confined=partial(soft_null_projection, operator, noise=s),
        )

    def _times(self, n: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """r <= t, both of shape `(n,)`: t logit-normal, r uniform below it; some r = t, some near (0, 1), exact shares
        of a batch: less noise, and sizes that an accelerator has met before."""
        t = torch.sigmoid(torch.randn(n, generator=generator))
        r = t * torch.rand(n, generator=generator)
        kind = (torch.randperm(n, generator=generator) + torch.rand(n, generator=generator)) / n
        near = 0.1 * torch.rand((2, n), generator=generator)
        corner = kind >= 1 - self.corner * (1 - self.equal)
        r, t = torch.where(corner, near[0], r), torch.where(corner, 1 - near[1], t)
        return torch.where(kind < self.equal, t, r), t

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Measure the widening with the weights that the checkpoint holds, and add the model."""
        self.model = replace(self.model, widening=self._widening(network_weights(checkpoint)))
        super().on_save_checkpoint(checkpoint)

    def to_entry(self, model: AverageVelocity, checkpoint: Mapping[str, Any]) -> dict[str, Any]:
        return to_entry(model, network_weights(checkpoint))

    def from_entry(self, entry: Mapping[str, Any]) -> AverageVelocity:
        return from_entry(entry, self.network)

    @torch.no_grad()
    def _widening(self, weights: dict[str, Tensor]) -> float:
        """By how much the source is to be widened, so that draws in one step spread as far as their mean is off.

        Squared errors differ much from field to field. The source with the fields' spectrum is right on average before
        any step, so that how far it is not on these fields is chance, and the same chance for the draws.
        """
        held_out = self.trainer.datamodule.val_dataloader() if self.score else []  # type: ignore[attr-defined]
        network = copy.deepcopy(self.network).eval()
        network.load_state_dict(weights)
        model = replace(self.model, network=network)
        cases: list[tuple[_Measured, Tensor]] = []
        truths: list[Tensor] = []
        for number, batch in enumerate(held_out):
            x_1 = self.model.standardisation.from_units(batch.to(self.device)).float()
            generator = batch_generator(self.seed, VALIDATION + 2, number, self.global_rank)
            for part in x_1.split(-(-len(x_1) // self.operators)):
                moved = torch.randint(-1, 2, (2, len(part), part.ndim - 2), generator=generator)
                cases.append((self._measured(part, generator, again=True), moved))
                truths.append(part)
        if not cases:
            return 1.0
        first_draws = [(m.x_0, m.x_0_again, x_1) for (m, _), x_1 in zip(cases, truths, strict=True)]
        widening, chance = 1.0, error_over_spread(first_draws)
        for _ in range(WIDENED):
            draws = []
            for (m, moved), x_1 in zip(cases, truths, strict=True):
                sources = (m.mean + widening * (x_0 - m.mean) for x_0 in (m.x_0, m.x_0_again))
                first, second = (
                    x_0 + m.confined(model.step(x_0, m.seen, m.noise, by))
                    for x_0, by in zip(sources, moved, strict=True)
                )
                draws.append((first, second, x_1))
            widening *= (error_over_spread(draws) / (chance if self.tau is None else 1.0)) ** 0.5
        return widening


@dataclass(frozen=True)
class _Measured:
    """Fields measured by one operator.

    Arguments:
        x_0: Draws of the source, shape `(batch, channel, *space)`.
        x_0_again: Independent draws, if the score needs them.
        seen: Conditioning channels of the network, shape `(batch, 2 channel, *space)`.
        noise: Standard deviation, shape `(batch,)`.
        confined: Projects velocities to what the data leave open.
    """

    x_0: Tensor
    x_0_again: Tensor
    seen: Tensor
    noise: Tensor
    confined: Callable[[Tensor], Tensor]

    @property
    def mean(self) -> Tensor:
        """Mean of the source, shape `(batch, channel, *space)`."""
        return self.seen[:, : self.x_0.shape[1]]

    @property
    def spread(self) -> Tensor:
        """Variance of the source's draws, mean over these fields and their values, for each of them, `(batch,)`."""
        return (self.x_0 - self.mean).square().mean().clamp_min(1e-9).expand(len(self.x_0))


class _Batch:
    """Fields measured by several operators, one after another.

    Arguments:
        model: Model that gives the velocity.
        parts: The fields of each operator.
    """

    def __init__(self, model: AverageVelocity, parts: Sequence[_Measured]) -> None:
        self.model, self.parts = model, parts
        self.part = torch.arange(len(parts)).repeat_interleave(torch.tensor([len(p.x_0) for p in parts]))
        names = ("x_0", "x_0_again", "mean", "seen", "noise", "spread")
        every = (torch.cat([getattr(p, name) for p in parts]) for name in names)
        self.x_0, self.x_0_again, self.mean, self.seen, self.noise, self.spread = every

    def u(self, z: Tensor, r: Tensor, t: Tensor, which: Tensor) -> Tensor:
        """Velocity of some of the fields, by their indices in increasing order."""
        velocity = self.model.velocity(z, r, t, self.seen[which], self.noise[which]).to(z.dtype)  # from autocast
        shares = velocity.split(self.part[which].bincount(minlength=len(self.parts)).tolist())
        return torch.cat([p.confined(u) for p, u in zip(self.parts, shares, strict=True) if len(u)])


def _some(n: int, share: float) -> Tensor:
    """Numbers of a share of n examples, evenly spread; at least one."""
    count = max(1, round(share * n))
    return torch.arange(count) * n // count


def _mean_power(fields: Tensor) -> Tensor:
    """Eigenvalues of the stationary covariance nearest to that of fields of mean 0, shape `(*space)`.

    Arguments:
        fields: Shape `(sample, channel, *space)`.
    """
    axes = tuple(range(2, fields.ndim))
    total = sum(torch.fft.fftn(part, dim=axes, norm="ortho").abs().square().sum((0, 1)) for part in fields.split(256))
    power = total / (fields.shape[0] * fields.shape[1])  # type: ignore[operator]
    back = tuple(range(power.ndim))
    return (power + power.flip(back).roll([1] * power.ndim, back)) / 2  # -k as k
