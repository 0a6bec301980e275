r"""Do predictions of a posterior hold for data that it was not given? One p-value, by exchanging data with predictions.

Where operator, noise, prior and sampler are right, the test data y_0 and n predictions y_1 ... y_n = A x_i + noise are
exchangeable. Each candidate is standardised by mean and variance of all n + 1, datum by datum, r_i. Statistics of each,
over groups of data (all, regions, coils or instruments, held-out data):

    bias        mean of r
    spread      mean of r^2
    gain        mean of r m / sqrt(v), m and v mean and variance of the candidates: errors in proportion to the signal
    phase       the same with m turned by 90 degrees, where data are pairs of real and imaginary parts
    roughness   mean of products of neighbours; and mean power of r in octaves of wavenumber

Each is put in standard deviations over the other candidates; the largest absolute one, those of parts of the data
counting three quarters, is T_i, and
p = #{i : T_i >= T_0} / (n + 1), exact for any n (Vovk et al. 2005, chapter 2.2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Generator, Tensor

from infield.core.spectra import wavenumbers
from infield.physics.measurement import Measurement
from infield.posterior.calibration.splitting import SplitData, leading_axes

SMALLEST_GROUP = 8
"""Data of a group at least."""

OCTAVES = 4

PART_WEIGHT = 0.75
"""Weight of a statistic of a region or an instrument beside those of all data."""

POWER = 0.8

NOISE_FACTORS = (1.05, 1.1, 1.2, 1.3, 1.5, 2.0, 3.0)
GAIN_ERRORS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
WIDTH_FACTORS = (1.1, 1.2, 1.5, 2.0, 3.0, 5.0)


@dataclass(frozen=True)
class Prediction:
    """Result of the test.

    Arguments:
        p: p-value.
        candidates: n + 1.
        largest: Names of the three statistics that are farthest off, with their distances in standard deviations.
        noise_factor, gain_error, width_factor: Smallest factor of the noise's standard deviation, relative error of all
            noiseless data, and factor of the field's deviation from its posterior mean, that are found with 80 % power;
            None where none of those tried is.
    """

    p: float
    candidates: int
    largest: tuple[tuple[str, float], ...]
    noise_factor: float | None
    gain_error: float | None
    width_factor: float | None

    @property
    def seen(self) -> str:
        """Description of the smallest faults that would have been found."""
        parts = []
        if self.noise_factor is not None:
            parts.append(f"noise {self.noise_factor:g} times as large")
        if self.gain_error is not None:
            parts.append(f"an operator off by {100 * self.gain_error:g} %")
        if self.width_factor is not None:
            parts.append(f"fields {self.width_factor:g} times as far from their mean")
        return f"it would have found {', '.join(parts)}" if parts else "it could have found no fault that was tried"


def groups_of_data(measurement: Measurement, held_out: Tensor, tested: Tensor) -> dict[str, Tensor]:
    """Bool tensors of the data's shape by name, with at least eight data each."""
    shape, lead = tuple(measurement.y.shape[1:]), leading_axes(measurement)
    found = {"all data": tested}
    if bool(held_out.any()) and not bool(held_out[tested].all()):
        found["held-out data"] = held_out & tested
    for axis in range(1, lead):
        for i in range(shape[axis]):
            where = torch.zeros(shape, dtype=torch.bool)
            where.movedim(axis, 0)[i] = True
            found[f"instrument {i}"] = where & tested
    positions = shape[lead:]
    parts = 6 if len(positions) == 1 else 3 if len(positions) == 2 else 2
    cuts = [[part for part in torch.arange(n).tensor_split(parts) if len(part)] for n in positions]
    for box in product(*(range(len(axis)) for axis in cuts)) if positions else ():
        where = torch.zeros(positions, dtype=torch.bool)
        where[tuple(slice(int(cut[b][0]), int(cut[b][-1]) + 1) for cut, b in zip(cuts, box, strict=True))] = True
        name = ", ".join(f"{b + 1}/{len(cut)}" for b, cut in zip(box, cuts, strict=True))
        found[f"region {name}"] = where.expand(shape) & tested
    return {name: where for name, where in found.items() if int(where.sum()) >= SMALLEST_GROUP}


class Statistics:
    """The statistics of candidates, about the mean and variance of all of them.

    Arguments:
        candidates: Shape `(n + 1, *data)`.
        groups: Of `groups_of_data`.
        tested: Bool, shape `data`.
        lead: Axes of the data that are no positions.
    """

    def __init__(self, candidates: Tensor, groups: dict[str, Tensor], tested: Tensor, lead: int) -> None:
        self._mean, variance = candidates.mean(0), candidates.var(0)
        smallest = 1e-12 * float(variance[tested].mean())
        self._scale = torch.where(tested, variance.clamp_min(max(smallest, 1e-300)).rsqrt(), torch.zeros_like(variance))
        self._masks = torch.stack([where.flatten() for where in groups.values()]).to(candidates.dtype)
        self._masks = self._masks / self._masks.sum(1, keepdim=True)
        self._tested, self._lead = tested, lead
        self._bands = _bands(tuple(tested.shape[lead:]))
        self._complex = lead >= 1 and tested.shape[0] == 2
        kinds = ["bias", "spread", "gain", *(["phase"] if self._complex else [])]
        self.names = [f"{kind} of {name}" for kind in kinds for name in groups]
        self.names += ["roughness", *(f"power of octave {b + 1}" for b in range(len(self._bands)))]

    @property
    def weights(self) -> Tensor:
        """Of each statistic in the largest: parts of the data are many, and count less."""
        parts = [PART_WEIGHT if " of region" in name or " of instrument" in name else 1.0 for name in self.names]
        return torch.tensor(parts, dtype=self._mean.dtype)

    def of(self, candidates: Tensor) -> Tensor:
        """Shape `(n, statistics)`."""
        r = (candidates - self._mean) * self._scale
        signal = self._mean * self._scale
        kinds = [r, r.square(), r * signal]
        if self._complex:
            kinds.append(r * torch.stack([-signal[1], signal[0]]))
        found = [kind.flatten(1) @ self._masks.mT for kind in kinds]
        neighbours = (r[..., 1:] * r[..., :-1]).flatten(1).mean(1, keepdim=True)
        found.append(neighbours)
        axes = tuple(range(1 + self._lead, r.ndim))
        if self._bands:
            power = torch.fft.fftn(r, dim=axes, norm="ortho").abs().square().flatten(1, self._lead).mean(1)
            found += [power[:, where].mean(1, keepdim=True) for where in self._bands]
        return torch.cat(found, 1)


def _bands(positions: tuple[int, ...]) -> list[Tensor]:
    if not positions or max(positions) < SMALLEST_GROUP:
        return []
    k = wavenumbers(positions, (1.0,) * len(positions))
    found = []
    for b in range(OCTAVES):
        upper = 0.5 * 2.0 ** (b - OCTAVES + 1)
        lower = upper / 2 if b else 0.0
        where = (k <= upper) & (k > lower) if b < OCTAVES - 1 else k > lower
        if bool(where.any()):
            found.append(where)
    return found


def predictive_test(
    measurement: Measurement,
    y: Tensor,
    z: Tensor,
    noisy: Callable[[Tensor, Generator], Tensor],
    held_out: Tensor,
    tested: Tensor,
    generator: Generator,
) -> Prediction:
    """Compare test data with predictions.

    Arguments:
        measurement: For the layout of its data.
        y: Test data, shape `data`.
        z: Noiseless data of draws, shape `(n, *data)`.
        noisy: Adds noise to noiseless data.
        held_out, tested: Bool, shape `data`.
        generator: Of the noise.
    """
    predicted = noisy(z, generator)
    candidates = torch.cat([y[None].to(predicted), predicted])
    groups, lead = groups_of_data(measurement, held_out, tested), leading_axes(measurement)
    statistics = Statistics(candidates, groups, tested, lead)
    values = statistics.of(candidates)
    n = len(candidates)
    total, squares = values.sum(0), values.square().sum(0)
    mean = (total - values) / (n - 1)
    std = ((squares - values.square()) / (n - 1) - mean.square()).clamp_min(1e-300).sqrt()
    distance = (values - mean) / std
    T = (statistics.weights * distance.abs()).amax(1)
    order = distance[0].abs().argsort(descending=True)[:3].tolist()
    largest = tuple((statistics.names[j], float(distance[0, j])) for j in order)
    limit, centre, spread = T[1:].max(), values[1:].mean(0), values[1:].std(0)

    def smallest(sizes: Sequence[float], faulty: Callable[[float], Tensor]) -> float | None:
        for size in sizes:
            found = (statistics.weights * ((statistics.of(faulty(size)) - centre) / spread).abs()).amax(1)
            if float((found > limit).double().mean()) >= POWER:
                return size
        return None

    noise, middle = predicted - torch.where(tested, z, torch.zeros_like(z)), z.mean(0)
    where = tested.to(z.dtype)
    return Prediction(
        float((T >= T[0]).double().mean()),
        n,
        largest,
        smallest(NOISE_FACTORS, lambda c: where * z + c * noise),
        smallest(GAIN_ERRORS, lambda g: where * (1 + g) * z + noise),
        smallest(WIDTH_FACTORS, lambda c: where * (middle + c * (z - middle)) + noise),
    )


def predict_split(split: SplitData, draws: Tensor, generator: Generator) -> Prediction:
    """Predict the test part of a measurement from draws given its training part, `(n, channel, *space)`."""
    with torch.no_grad():
        z = torch.cat([split.training.operator.A(x[None]) for x in draws.to(split.training.y)])
    return predictive_test(split.training, split.test, z, split.noisy, split.held_out, split.tested, generator)
