"""Cohorts of images of `infield bench pet-longitudinal --parts images`, and what its rows are trained on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Generator, Tensor
from torch.nn import functional

from infield.datasets.formats.simulation import open_simulation
from infield.datasets.pet.phantom import QUANTITIES
from infield.datasets.pet.training import CohortImages, images_of
from infield.pipelines.pet.simulate import make_phantom, simulate_cohort
from infield.priors.bridges.image_law import ImageConditions, brain_mask, fit_image_law, image_conditions
from infield.priors.bridges.region_bridge import RegionBridge
from infield.priors.bridges.voxels import VoxelLaw
from infield.priors.networks.unet import UNet

BATCH, RATE = 16, 2e-3


@dataclass(frozen=True, eq=False)
class Cohort(CohortImages):
    """With what the bench compares with.

    Arguments:
        noise_free: The follow-up's reconstruction without noise, SUVR, `(subjects, z, y, x)`.
        years: Between the scans, `(subjects,)`.
    """

    noise_free: Tensor
    years: Tensor

    def __len__(self) -> int:
        return len(self.baseline)

    def first(self, n: int) -> Cohort:
        """The first subjects."""
        parts = ("baseline", "follow_up", "noise_free", "grey", "white", "years")
        return replace(self, **{name: getattr(self, name)[:n] for name in parts})

    @cached_property
    def seen(self) -> Tensor:
        """Voxels of the brain, bool `(z, y, x)`."""
        return brain_mask(self.grey.mean(0), self.white.mean(0), self.spacing)

    def means(self, images: Tensor) -> Tensor:
        """Regional means of `(..., z, y, x)`, `(..., regions)`."""
        return images.flatten(-3) @ self.weights.flatten(1).T

    def conditions(self, i: int, baseline: Tensor | None = None) -> ImageConditions:
        """Of one subject, from its baseline or another one."""
        x_b = self.baseline[i] if baseline is None else baseline
        return image_conditions(x_b, self.grey[i], self.white[i], self.weights, self.labels, self.spacing)


def cohort(name: str, subjects: int, seed: int, folder: Path, *, second: bool = False) -> Cohort:
    """Simulated, or read where an earlier run left it in the folder."""
    path = folder / f"{name}-{seed}-{subjects}.zarr"
    if not path.exists():
        simulate_cohort(make_phantom({}, second=second), path, samples=subjects, seed=seed, quiet=True)
    data = open_simulation(path)

    def read(variable: str) -> Tensor:
        return torch.from_numpy(data[variable].values).float()

    return Cohort(
        **images_of(data),
        noise_free=read("follow_up_noise_free"),
        years=read("subject")[:, QUANTITIES.index("years")],
    )


Regressor = Callable[[Cohort, int, Tensor], Tensor]
"""From a cohort, a subject and its image with the predicted regional means to a mean image."""


def trained_images(
    training: Cohort, bridge: RegionBridge, steps: int, folder: Path
) -> tuple[VoxelLaw, Regressor, dict[str, float]]:
    """The law of voxels and the U-Net, trained or as an earlier run left them in the folder, and their CPU seconds."""
    path = folder / f"images-{len(training)}-{steps}.pt"
    if path.exists():
        stored = torch.load(path, weights_only=True)
        law = VoxelLaw(*stored["law"])
        network = _network()
        network.load_state_dict(stored["unet"])
        return law, _regressor(network), stored["cpu_seconds"]
    start = time.process_time()
    law = fit_image_law(training).law
    middle = time.process_time()
    network = train_unet(training, law, bridge, steps)
    seconds = {"law of voxels": middle - start, "u-net": time.process_time() - middle}
    entry = {"law": [law.coefficients, law.log_variance, law.spectrum], "unet": network.state_dict()}
    part = path.with_suffix(".part")
    torch.save(entry | {"cpu_seconds": seconds}, part)
    os.replace(part, path)
    return law, _regressor(network), seconds


def _network() -> UNet:
    return UNet(1, 2, widths=(32, 48, 64), periodic=False, inputs=4, times=2)


def train_unet(training: Cohort, law: VoxelLaw, bridge: RegionBridge, steps: int) -> UNet:
    """A U-Net that corrects the image of the regional regression, by the mean square error; slices are its examples.

    Its inputs are that image, which has the predicted regional means in it, the baseline, both tissues, and the years.
    """
    torch.manual_seed(0)
    generator, network = Generator().manual_seed(0), _network()
    n, means = len(training), bridge.predict(training.means(training.baseline), training.years)
    painted = []
    for i in range(n):
        one = training.conditions(i)
        painted.append(law.mean(one.features, one.painting, means[i]))
    inputs = _inputs(torch.stack(painted), training.baseline, training.grey, training.white)
    left = (training.follow_up - torch.stack(painted)).flatten(0, 1)[:, None]
    numbers = _numbers(training.years, inputs.shape[1]).flatten(0, 1)
    inputs, seen = inputs.flatten(0, 1), training.seen.float().expand(n, -1, -1, -1).flatten(0, 1)[:, None]
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        rows = torch.randint(len(inputs), (BATCH,), generator=generator)
        x, wanted, mask = inputs[rows], left[rows], seen[rows]
        if torch.rand((), generator=generator) < 0.5:  # left and right are alike
            x, wanted, mask = (v.flip(-1) for v in (x, wanted, mask))
        loss = (functional.mse_loss(network(x, numbers[rows]), wanted, reduction="none") * mask).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return network


def _regressor(network: UNet) -> Regressor:
    network.eval().requires_grad_(False)

    def predict(cohort: Cohort, i: int, image: Tensor) -> Tensor:
        x = _inputs(image[None], cohort.baseline[i : i + 1], cohort.grey[i : i + 1], cohort.white[i : i + 1])[0]
        numbers = _numbers(cohort.years[i : i + 1], len(x))[0]
        both = (network(x, numbers) + network(x.flip(-1), numbers).flip(-1)) / 2
        return image + both[:, 0]

    return predict


def _inputs(image: Tensor, baseline: Tensor, grey: Tensor, white: Tensor) -> Tensor:
    """`(subjects, slices, 4, y, x)`."""
    return torch.stack([image - 1, baseline - 1, grey, white], 2)


def _numbers(years: Tensor, slices: int) -> Tensor:
    """Years over 5, and the height of the slice, `(subjects, slices, 2)`."""
    height = torch.linspace(0, 1, slices).expand(len(years), -1)
    return torch.stack([(years / 5)[:, None].expand(-1, slices), height], -1)
