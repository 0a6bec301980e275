"""Images of follow-ups: the regional bridge with a law of voxels, beside persistence, painting and regressors."""

from __future__ import annotations

import math
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import Generator, Tensor

from infield.datasets.pet.amyloid_law import AmyloidLaw
from infield.datasets.pet.brain_regions import GROUPS
from infield.pipelines.bench.targets import TargetBench
from infield.pipelines.package_data import CHECKPOINTS
from infield.pipelines.pet.bench.image_cohorts import Cohort, Regressor, cohort, trained_images
from infield.pipelines.pet.bench.longitudinal_scores import bootstrap_error, covered, fair_crps, root_ratio
from infield.pipelines.run.console import progress
from infield.priors.bridges.clocks import geometric_clock
from infield.priors.bridges.region_bridge import KIND, RegionBridge
from infield.priors.bridges.voxels import VoxelLaw
from infield.priors.storage.checkpoint import load_checkpoint

DRAWS, OTHERS, BANDS = 19, 100, 4
TRAINING = 304
"""Subjects of the training cohort, seed 0: the first of those that the shipped bridge was trained on."""

STEPS = 600
"""Of the U-Net."""

TEST_SEED, SECOND_SEED = 100, 200
ROWS = ("persistence", "painted", "regional", "u-net", "bridge")
NOISE = ("painted", "bridge")


def run(bench: TargetBench, *, quick: bool, seed: int, folder: Path | None, subjects: int | None = None) -> None:
    """600 held-out subjects, or the first of them, and 96 of the second cohort; when quick, few."""
    training, test, second, steps = (10, 6, 4, 3) if quick else (TRAINING, 600, 96, STEPS)
    with tempfile.TemporaryDirectory() as own:
        place = folder or Path(own)
        known = cohort("cohort", training, 0, place)
        bridge: RegionBridge = load_checkpoint(CHECKPOINTS / "pet_bridge.ckpt", KIND)
        law, unet, seconds = trained_images(known, bridge, steps, place)
        for name, value in seconds.items():
            bench.add("images, training", name, "cpu_seconds", value, "s")
        left = known.means(known.follow_up) - bridge.predict(known.means(known.baseline), known.years)
        covariance = torch.cov(left.T) + 1e-6 * torch.eye(left.shape[1])
        rows = Rows(bridge, law, unet, torch.linalg.cholesky(covariance), known.baseline.mean(0))
        held_out = cohort("cohort", test, TEST_SEED + seed, place).first(subjects or test)
        compare(bench, "images", rows, held_out, seed, judged=True)
        compare(bench, "images, second cohort", rows, cohort("second", second, SECOND_SEED + seed, place, second=True),
                seed, judged=False)  # fmt: skip
        _controls(bench, rows, held_out, seed)


class Rows:
    """What predicts: every row from one subject.

    Arguments:
        bridge: Of regional means.
        law: Of voxels given these.
        unet: Regression of images.
        residual: Root of the covariance of the regional regression's residuals.
        population: Mean baseline of the training cohort, `(z, y, x)`.
    """

    def __init__(
        self, bridge: RegionBridge, law: VoxelLaw, unet: Regressor, residual: Tensor, population: Tensor
    ) -> None:
        self.bridge, self.law, self.unet, self.residual, self.population = bridge, law, unet, residual, population

    def images(self, own: Cohort, i: int, drawn: Tensor, generator: Generator) -> tuple[dict[str, Tensor], ...]:
        """Mean images, then draws `(19, z, y, x)` of those rows that have any.

        Arguments:
            own: Cohort.
            i: Subject.
            drawn: Regional means that the bridge drew, `(19, regions)`.
            generator: Of the voxels.
        """
        one, x_b = own.conditions(i), own.baseline[i]
        b = own.means(x_b)
        m = self.bridge.predict(b[None], own.years[i : i + 1])[0]
        regional = self.law.mean(one.features, one.painting, m)
        z = torch.randn(drawn.shape, generator=generator)
        draws = {
            "painted": x_b + one.painting.paint(m + z @ self.residual.T - b),
            "bridge": self.law.sample(one.features, one.covariates, one.painting, drawn, generator),
        }
        means = {
            "persistence": x_b,
            "painted": x_b + one.painting.paint(m - b),
            "regional": regional,
            "u-net": self.unet(own, i, regional),
            "bridge": draws["bridge"].mean(0),
        }
        return means, draws


def compare(bench: TargetBench, case: str, rows: Rows, own: Cohort, seed: int, *, judged: bool) -> None:
    """All rows on a cohort."""
    generator, n = Generator().manual_seed(4000 + seed), len(own)
    drawn = rows.bridge.sample(own.means(own.baseline), own.years, DRAWS, generator)
    seen, outside = own.seen, own.seen & ~_accumulating(own)
    errors: dict[str, list[Tensor]] = {}
    kept: dict[str, list[Tensor]] = {name: [] for name in ROWS}
    with progress() as bar:
        for i in bar.track(range(n), description=case):
            means, draws = rows.images(own, i, drawn[i], generator)
            x_f = own.follow_up[i]
            for name, mean in means.items():
                kept[name].append(mean[seen])
                _put(errors, f"{name} measured", (mean - x_f)[seen].square().mean())
                _put(errors, f"{name} noise-free", (mean - own.noise_free[i])[seen].square().mean())
                _put(errors, f"{name} outside", (mean - x_f)[outside].square().mean())
                _put(errors, f"{name} regions", own.means(mean))
            for name, x in draws.items():
                flat = x[:, seen][None]
                _put(errors, f"{name} crps", fair_crps(flat, x_f[seen][None])[0])
                _put(errors, f"{name} voxels covered", covered(flat, x_f[seen][None]).mean())
                _put(errors, f"{name} drawn regions", own.means(x))
                _put(errors, f"{name} negative", (x < 0).double().mean())
                _put(errors, f"{name} power", _power(x[0] - means["regional"], seen))
            _put(errors, "power", _power(x_f - means["regional"], seen))
    found = {name: torch.stack(values) for name, values in errors.items()}
    _errors(bench, case, found, n, generator, judged)
    _law(bench, case, own, found, generator, judged)
    follow_ups = own.follow_up[:, seen]
    hits = {name: _nearest(torch.stack(kept[name]), follow_ups) for name in ROWS}
    for name in ROWS:
        least = float(hits["persistence"].mean()) if judged and name == "bridge" else None
        bench.judge(case, name, "rank_1_of_101", float(hits[name].mean()), least)


def _errors(
    bench: TargetBench, case: str, found: dict[str, Tensor], n: int, generator: Generator, judged: bool
) -> None:
    every = torch.arange(n)
    for name in ROWS:
        for kind in ("measured", "noise-free"):
            ratio = root_ratio(found[f"{name} {kind}"], found[f"persistence {kind}"])
            bench.judge(case, name, f"error_over_persistence_{kind.replace('-', '_')}", ratio(every))
    for name in ROWS:
        ratio = root_ratio(found[f"{name} outside"], found["persistence outside"])
        high = 1.0 if judged and name == "bridge" else None
        error = bootstrap_error(ratio, n, generator)
        bench.judge(case, name, "error_over_persistence_outside_accumulation", ratio(every), None, high, error=error)
    better = min(("regional", "u-net"), key=lambda name: float(found[f"{name} measured"].mean()))
    ratio = root_ratio(found["bridge measured"], found[f"{better} measured"])
    error = bootstrap_error(ratio, n, generator)
    high = 1.10 if judged else None
    bench.judge(case, "bridge", f"error_over_{better}", ratio(every), None, high, error=error)


def _law(
    bench: TargetBench, case: str, own: Cohort, found: dict[str, Tensor], generator: Generator, judged: bool
) -> None:
    n, x_b, x_f = len(own), own.means(own.baseline), own.means(own.follow_up)
    every, accumulates = torch.arange(n), torch.tensor([g >= 0 for g in GROUPS])
    for name in NOISE:
        own_row = judged and name == "bridge"
        draws = found[f"{name} drawn regions"]
        inside = covered(draws, x_f).mean(1)
        error = float(inside.std()) / math.sqrt(n)
        low, high = (0.85, 0.95) if own_row else (None, None)
        bench.judge(case, name, "coverage_of_regional_means", float(inside.mean()), low, high, error=error)
        composite = covered(draws[..., accumulates].mean(-1, keepdim=True), x_f[:, accumulates].mean(1, keepdim=True))
        bench.judge(case, name, "coverage_of_composites", float(composite.mean()))
        bench.judge(case, name, "coverage_of_voxels", float(found[f"{name} voxels covered"].mean()))
        high = 0.0 if own_row else None
        bench.judge(case, name, "share_of_negative_voxels", float(found[f"{name} negative"].mean()), None, high)
        bench.add(case, name, "voxel_crps", float(found[f"{name} crps"].mean()), "SUVR")
        ratio = found[f"{name} power"].mean(0) / found["power"].mean(0)
        for band, value in enumerate(ratio.tolist()):
            low, high = (0.9, 1.1) if own_row else (None, None)
            bench.judge(case, name, f"power_of_noise_band_{band + 1}_of_{BANDS}", value, low, high, error=0.02)

    def quotient(i: Tensor) -> float:
        return float(found["bridge crps"][i].mean() / found["painted crps"][i].mean())

    high = 1.0 if judged else None
    error = bootstrap_error(quotient, n, generator)
    bench.judge(case, "bridge", "voxel_crps_over_painted", quotient(every), None, high, error=error)
    for name in ("painted", "u-net", "bridge"):
        predicted, true = found[f"{name} regions"] - x_b, x_f - x_b
        drawn = found["bridge drawn regions"].var(1) / DRAWS  # what the mean of so few draws adds to its variance
        share = drawn if name == "bridge" else torch.zeros_like(predicted)

        def slope(i: Tensor, predicted: Tensor = predicted, true: Tensor = true, share: Tensor = share) -> float:
            p, t = (v[i] - v[i].mean(0) for v in (predicted, true))
            return float((p * t).sum() / (p.square().sum() - share[i].sum()))

        low, high = (0.9, 1.1) if judged and name == "bridge" else (None, None)
        error = bootstrap_error(slope, n, generator)
        bench.judge(case, name, "slope_of_true_on_predicted_change", slope(every), low, high, error=error)


def _controls(bench: TargetBench, rows: Rows, own: Cohort, seed: int) -> None:
    """Each figure without what it needs must be lost."""
    case, generator, n = "images, negative controls", Generator().manual_seed(5000 + seed), len(own)
    x_b, x_f, bridge = own.means(own.baseline), own.means(own.follow_up), rows.bridge
    right = (bridge.predict(x_b, own.years) - x_f).square().mean(1)
    shuffled = own.years[torch.randperm(n, generator=generator)]
    for name, years, low, high in (("bridge", own.years, None, 1.05), ("(years shuffled)", shuffled, 1.05, None)):
        error = (bridge.sample(x_b, years, DRAWS, generator).mean(1) - x_f).square().mean(1)
        ratio = root_ratio(error, right)
        spread = bootstrap_error(ratio, n, generator) if name == "bridge" else 0.0
        value = ratio(torch.arange(n))
        bench.judge(case, name, "error_of_regions_over_regression", value, low, high, error=spread)
    few = replace(bridge, steps="plain", clock=geometric_clock(bridge.clock[0], bridge.clock[-1], 5))
    inside = float(covered(few.sample(x_b, own.years, DRAWS, generator), x_f).mean())
    bench.judge(case, "(5 plain steps)", "coverage_of_regional_means", inside, None, 0.85)
    population, errors = rows.population, torch.empty(2, n)
    m = bridge.predict(own.means(population)[None].expand(n, -1), own.years)
    for i in range(n):
        one = own.conditions(i, population)
        mean = rows.law.mean(one.features, one.painting, m[i])
        errors[0, i] = (mean - own.follow_up[i])[own.seen].square().mean()
        errors[1, i] = (own.baseline[i] - own.follow_up[i])[own.seen].square().mean()
    value = root_ratio(errors[0], errors[1])(torch.arange(n))
    bench.judge(case, "(population's baseline)", "error_over_persistence", value, 1.0)


def _accumulating(own: Cohort) -> Tensor:
    """Voxels that the grey matter of regions that accumulate reaches, bool `(z, y, x)`."""
    reached = own.conditions(0).painting.images[torch.tensor(AmyloidLaw(groups=GROUPS).accumulates)].sum(0)
    return reached > 0.05


def _power(left: Tensor, seen: Tensor) -> Tensor:
    """Power of what is left of an image, by bands of the wave number, `(bands,)`."""
    power = torch.fft.fft2(left * seen).abs().square().mean(0)
    y, x = (torch.fft.fftfreq(k).abs() for k in left.shape[-2:])
    band = ((y[:, None].square() + x.square()).sqrt() * 2 * BANDS).long().clamp_max(BANDS - 1)
    return torch.stack([power[band == k].mean() for k in range(BANDS)])


def _nearest(predictions: Tensor, follow_ups: Tensor) -> Tensor:
    """Whether a subject's own follow-up is nearer to its prediction than those of the next 100 subjects."""
    distance = torch.cdist(predictions, follow_ups)
    n = len(distance)
    others = (torch.arange(n)[:, None] + torch.arange(1, min(OTHERS, n - 1) + 1)) % n
    return (distance.diagonal()[:, None] < distance.gather(1, others)).all(1).double()


def _put(found: dict[str, list[Tensor]], name: str, value: Tensor) -> None:
    found.setdefault(name, []).append(value)
