"""Every sampler with every kind of prior: served, or refused in one line."""

from __future__ import annotations

from functools import cache

import examples.lightcone_prior_example as lightcones
import numpy as np
import pytest
import torch
from examples.gaussian_average import TAU, GaussianAverage
from examples.gaussian_rectified import GRID as LINE_OF_60
from examples.gaussian_rectified import MASK, SPREAD, ExactFlow, exact_mean
from torch import nn

from infield import InfieldError
from infield.core import registry
from infield.core.grid import Axis, Grid, PointSet
from infield.core.randomness import SampleStreams
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise
from infield.physics.operators.composition import compose
from infield.physics.operators.registry import build_operator
from infield.posterior.cm21.sampler import LightconeSampler
from infield.posterior.inference.constraints import ConstrainedSampler, LinearConstraints
from infield.posterior.inference.denoiser_errors import fit_denoiser_errors
from infield.posterior.models.surrogate import Surrogate
from infield.posterior.samplers.accepts import FLOW
from infield.posterior.samplers.base import Estimate
from infield.posterior.samplers.dds import DDS
from infield.posterior.samplers.diffpir import DiffPIR
from infield.posterior.samplers.diffusion_mbir import DiffusionMBIR
from infield.posterior.samplers.elliptical_slice import EllipticalSlice
from infield.posterior.samplers.exact import Exact
from infield.posterior.samplers.faps import FAPS
from infield.posterior.samplers.faps_measured import FAPSMeasured
from infield.posterior.samplers.faps_published import FAPSPublished
from infield.posterior.samplers.kriging import Kriging
from infield.posterior.samplers.mgvi import MGVI
from infield.posterior.samplers.null_flow import NullFlow
from infield.posterior.samplers.pmrf import PMRF
from infield.posterior.samplers.red_diff import REDDiff
from infield.posterior.samplers.snap import SNaP
from infield.posterior.samplers.twisted_smc import TwistedSMC
from infield.posterior.samplers.unrolled import UnrolledEstimate
from infield.priors.amortised.average_velocity import AverageVelocity
from infield.priors.amortised.rectified_flow import RectifiedFlow
from infield.priors.base import AmortisedPosterior, BridgePrior, Standardisation, sample
from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import Hartley
from infield.priors.flows.flow import LearnedFlow
from infield.priors.flows.slices import SlicePrior
from infield.priors.gaussian.kernels import Matern, White
from infield.priors.gaussian.prior import gaussian_prior
from infield.priors.networks.fno import FNO
from infield.priors.networks.patched import Patched
from infield.priors.networks.unet import UNet
from infield.priors.storage.from_yaml import prior_from_description
from infield.priors.surrogates.learned_map import LearnedMap, StoredSurrogate

PLANE = Grid.regular((6, 6), 1.0, periodic=True)
OPEN = Grid.regular((5, 6), (1.0, 1.2))
VOLUME = Grid((Axis("z", (0.0, 1.0, 2.0), "m"), *PLANE.axes))
WIDE = Grid.regular((16, 16), 1.0, periodic=True)
SPHERE = Grid(
    (
        Axis("lat", tuple(np.linspace(-60, 60, 5)), "degrees_north"),
        Axis("lon", tuple(np.arange(0, 360, 60.0)), "degrees_east", periodic=True),
    )
)
ANGLES = np.linspace(0, 5, 20)
POINTS = PointSet(tuple((float(np.cos(a)), float(np.sin(a))) for a in ANGLES), ("y", "x"))
MATERN = Matern(1.5, 0.3)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def measured(grid, channels=("field",), units="1", noise=0.1):
    """Every fifth value is seen, with Gaussian noise of one variance."""
    mask = (np.arange(grid.size) % 5 == 0).reshape(grid.shape)
    arrays, description = {"mask": mask}, {"name": "mask", "arrays": {"mask": "mask"}}
    if isinstance(grid, PointSet):
        arrays, description = {"i": np.arange(0, grid.size, 5)}, {"name": "points", "arrays": {"indices": "i"}}
    operator = build_operator(description, arrays, grid, len(channels))
    truth = torch.randn((1, len(channels), *grid.shape), generator=rng(1), dtype=torch.float64)
    noise = GaussianNoise(torch.tensor(noise**2, dtype=torch.float64))
    return Measurement(
        y=operator.A(truth), operator=operator, noise=noise, grid=grid, channels=channels, units=units,
        description=description, arrays=arrays,
    )  # fmt: skip


def mixture(grid):
    components = [{"law": {"law": "matern", "nu": 1.5, "length": length}} for length in (0.1, 0.4)]
    return prior_from_description({"prior": "mixture", "components": components, "source": {"law": "white"}}, grid, 1)


def flow(grid, make):
    """A prior with an untrained network."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = make()
        nn.init.normal_(getattr(network, "inner", network).head.weight, std=0.05)
    one = torch.ones(1, *[1] * grid.ndim, dtype=torch.float64)
    diagonal = torch.linspace(0.5, 1.5, grid.size, dtype=torch.float64).reshape(1, *grid.shape)
    return LearnedFlow(
        name="a flow", network=network.eval().requires_grad_(False), source=White().covariance_in(Hartley(2), grid),
        covariance=Covariance.diagonal_in(Hartley(2), diagonal), mean=torch.zeros(1, *grid.shape).double(),
        standardisation=Standardisation(0.5 * one, 2 * one), skip="gaussian", grid_description=grid.to_json(),
        units="1", channels=("field",), provenance={"source": {"law": "white"}},
    )  # fmt: skip


def of_cones():
    prior = lightcones.prior()
    distances = tuple(float(d) for d in prior.distance)
    sky = tuple(Axis(name, tuple(lightcones.CELL * i for i in range(4)), "Mpc", periodic=True) for name in "xy")
    grid = Grid((*sky, Axis("los", distances, "Mpc")))
    theta = {"ION_Tvir_MIN": 5.0, "HII_EFF_FACTOR": 30.0}
    measurement = measured(grid, ("brightness_temp",), "mK")
    return prior.for_field(grid, measurement.channels, theta), measurement


def trained(**settings):
    """What was trained for a mask on a line of 60 points, in units in which the field has variance 1."""
    units = Standardisation(torch.zeros(1, 1).double(), torch.ones(1, 1).double())
    serves = {"operator": "mask", "numbers": {"observed": [0.4, 0.6]}}
    return dict(standardisation=units, event_shape=(1, 60), noise=(0.0, 1.0), serves=serves, units="1") | settings


def on_line():
    operator = build_operator({"name": "mask", "arrays": {"mask": "m"}}, {"m": MASK.numpy()}, LINE_OF_60, 1)
    y = torch.where(MASK, torch.linspace(-1, 1, 60, dtype=torch.float64), 0.0)[None, None]
    noise = GaussianNoise(torch.tensor(0.25, dtype=torch.float64))
    return Measurement(y=y, operator=operator, noise=noise, grid=LINE_OF_60)


def one_step():
    power = torch.tensor(TAU**2, dtype=torch.float64)
    return AverageVelocity(name="one step", network=GaussianAverage(), power=power, **trained()), on_line()


def rectified():
    f = exact_mean()
    return RectifiedFlow(name="pmrf", network=ExactFlow(), mean=f, spread=SPREAD, **trained()), on_line()


def behind_a_surrogate():
    """Sensors of what an untrained map makes of the field: not linear."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = FNO(1, 2, 4, 8, 2)
        nn.init.normal_(network.head.weight, std=0.3)
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    units = Standardisation(0 * one, one)
    residuals = 0.01 * torch.randn((3, 1, 6, 6), generator=rng(2), dtype=torch.float64)
    learned = LearnedMap(network.eval().requires_grad_(False), units, units)
    stored = StoredSurrogate(
        learned, PLANE.to_json(), ("1", "1"), None, residuals, torch.zeros(2, 1, 6, 6).double(), {}
    )
    sensors = measured(PLANE)
    operator = compose(sensors.operator, Surrogate(stored))
    return gaussian_prior(MATERN, PLANE), Measurement(y=sensors.y, operator=operator, noise=sensors.noise, grid=PLANE)


KINDS = {
    "gaussian": lambda: (gaussian_prior(MATERN, PLANE), measured(PLANE)),
    "points": lambda: (gaussian_prior(Matern(1.5, 0.4), POINTS), measured(POINTS)),
    "torus": lambda: (gaussian_prior(MATERN, OPEN), measured(OPEN)),
    "sphere": lambda: (gaussian_prior(Matern(1.5, 0.7, domain="sphere"), SPHERE), measured(SPHERE)),
    "mixture": lambda: (mixture(PLANE), measured(PLANE)),
    "flow": lambda: (flow(PLANE, lambda: FNO(1, 2, 4, 8, 2)), measured(PLANE)),
    "patched": lambda: (
        flow(WIDE, lambda: Patched(UNet(1, 2, (4, 8), 1, True, False), (8, 8), (4, 4))),
        measured(WIDE),
    ),
    "slices": lambda: (SlicePrior(slices=gaussian_prior(MATERN, PLANE), depth=3), measured(VOLUME)),
    "slices of a mixture": lambda: (SlicePrior(slices=mixture(PLANE), depth=3), measured(VOLUME)),
    "slices of a flow": lambda: (SlicePrior(slices=flow(PLANE, lambda: FNO(1, 2, 4, 8, 2)), depth=3), measured(VOLUME)),
    "lightcones": of_cones,
    "one step": one_step,
    "unrolled": lambda: (exact_mean(), on_line()),
    "rectified flow": rectified,
    "surrogate": behind_a_surrogate,
}
SAMPLERS = {
    "faps": FAPS(levels=2, steps=4),
    "faps-published": FAPSPublished(levels=2, flow_steps=1, langevin_steps=2, rank=2, rank_draws=8, rank_steps=1),
    "smc": TwistedSMC(steps=3, particles=2, island=4),
    "source-slice": EllipticalSlice(chains=2, burn_in=2, draws=4, thin=1, flow_steps=2),
    "mgvi": MGVI(iterations=1, pairs=2),
    "snap": SNaP(),
    "null-flow": NullFlow(trust_data=True),
    "unrolled": UnrolledEstimate(),
    "pmrf": PMRF(levels=2),
    "red-diff": REDDiff(steps=3),
    "diffpir": DiffPIR(levels=2, newton_steps=1, steps_of_cg=2),
    "dds": DDS(levels=3),
    "diffusion-mbir": DiffusionMBIR(levels=3),
    "exact": Exact(),
    "kriging": Kriging(),
}


class Bridge:
    """A `BridgePrior`: a corruption and a denoiser, no Gaussian source and no velocity."""

    name, units, event_shape = "a bridge", "1", (1, 6, 6)
    standardisation = Standardisation.identity((1, 6, 6))

    def corrupt(self, x_1, t, generator):
        return t * x_1 + (1 - t) * torch.rand(x_1.shape, generator=generator, dtype=x_1.dtype)

    def denoise(self, x, t):
        return x.clone()


KINDS["bridge"] = lambda: (Bridge(), measured(PLANE))
TRAINED = ("one step", "unrolled", "rectified flow")
"""No priors: trained for a family of measurements."""

OF_PRIORS = {"faps", "faps-published", "smc", "source-slice", "red-diff", "diffpir"}
OF_VOLUMES = OF_PRIORS | {"dds", "diffusion-mbir"}
SERVED = {
    "gaussian": OF_PRIORS | {"exact", "mgvi", "faps-measured"},
    "points": OF_PRIORS | {"exact", "mgvi"},
    "torus": OF_PRIORS | {"exact", "mgvi"},
    "sphere": OF_PRIORS | {"exact", "mgvi"},
    "mixture": OF_PRIORS | {"exact"},
    "flow": OF_PRIORS | {"faps-measured"},
    "patched": OF_PRIORS | {"faps-measured"},
    "slices": OF_VOLUMES | {"exact", "mgvi"},
    "slices of a mixture": OF_VOLUMES,
    "slices of a flow": OF_VOLUMES,
    "lightcones": OF_VOLUMES,  # its axes taken for (z, y, x), although it is no prior of slices
    "one step": {"snap", "null-flow"},
    "unrolled": {"unrolled"},
    "rectified flow": {"pmrf"},
    "surrogate": {"faps", "faps-published", "smc", "source-slice", "red-diff", "diffpir", "mgvi"},
    "bridge": set(),
}
"""Which samplers serve a kind of prior; all others refuse it."""

REASONS = {
    "exact": "is not known|expected a linear operator|found .*, expected a prior",
    "smc": "found .*, expected a prior",
    "dds": "expected a volume|found .*, expected a prior",
    "diffusion-mbir": "expected a volume|found .*, expected a prior",
    "kriging": "expected the law that is fitted to point data",
    "mgvi": "which is not Gaussian|found .*, expected a prior",
    "snap": "expected a posterior in one step",
    "null-flow": "expected a posterior in one step",
    "unrolled": "expected an unrolled network",
    "pmrf": "expected a posterior-mean rectified flow",
    "faps-measured": "denoiser errors cannot be measured|expected a linear operator|found .*, expected a prior",
    **dict.fromkeys(("faps", "faps-published", "source-slice", "red-diff", "diffpir"), "found .*, expected a prior"),
}
"""What a refusal says."""

made = cache(lambda kind: KINDS[kind]())


def drawn(name, kind):
    """Two samples."""
    prior, measurement = made(kind)
    if name == "faps-measured":
        of = made("gaussian")[0] if kind in (*TRAINED, "bridge") else prior
        sampler = FAPSMeasured(law=fit_denoiser_errors(of, sample(of, 6, rng(3), steps=2), [0.0, 0.5], rng(4)))
    else:
        sampler = SAMPLERS[name]
    if kind == "lightcones":
        sampler = LightconeSampler(sampler=sampler)
    return sampler(prior, measurement, 2, SampleStreams(3, range(2)))


def test_every_sampler_and_every_kind_is_in_the_table():
    assert set(SAMPLERS) == set(registry.names("samplers"))
    assert set(SERVED) == set(KINDS) and set(REASONS) == {*SAMPLERS, "faps-measured"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", REASONS)
def test_served_or_refused_in_one_line(name, kind):
    if name in SERVED[kind]:
        posterior, measurement = drawn(name, kind), made(kind)[1]
        assert posterior.samples.shape == (2, *measurement.event_shape)
        assert torch.isfinite(posterior.samples).all()
        return
    with pytest.raises(InfieldError, match=REASONS[name]) as error:
        drawn(name, kind)
    assert "\n" not in str(error.value)


ESTIMATES = {"red-diff", "unrolled", "pmrf"}
"""Samplers of an optimum or a point estimate."""
DECLARED = {
    "exact": {"gaussian", "points", "torus", "sphere", "mixture", "slices", "surrogate"},
    "mgvi": {"gaussian", "points", "torus", "sphere", "slices", "surrogate"},
    "snap": {"one step"},
    "null-flow": {"one step"},
    "unrolled": {"unrolled"},
    "pmrf": {"rectified flow"},
    "kriging": set(),
}
"""Kinds of prior that a sampler accepts, by hand; all others accept every flow prior."""


@pytest.mark.parametrize("name", SAMPLERS)
def test_what_a_sampler_accepts_is_declared_and_nothing_else_refuses_a_prior(name):
    accepts, of_priors = SAMPLERS[name].accepts, set(KINDS) - {*TRAINED, "bridge"}
    found = {kind for kind in KINDS if accepts.met_by(made(kind)[0])}
    assert found == DECLARED.get(name, of_priors)
    assert {kind for kind in KINDS if name in SERVED[kind]} <= found
    for kind in set(KINDS) - found:  # the sampler's own words are the declaration's
        with pytest.raises(InfieldError) as declared:
            accepts.check(SAMPLERS[name].method, made(kind)[0])
        with pytest.raises(InfieldError) as refused:
            drawn(name, kind)
        assert str(refused.value) == str(declared.value)


def test_a_requirement_evaluates_nothing():
    class Heavy:
        velocity = None

        @property
        def source(self):
            raise AssertionError("evaluated")

    assert FLOW.met_by(Heavy()) and not FLOW.met_by(Bridge()) and isinstance(Bridge(), BridgePrior)
    assert isinstance(made("one step")[0], AmortisedPosterior) and not isinstance(made("gaussian")[0], BridgePrior)


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_optimum_is_an_estimate(name):
    assert issubclass(SAMPLERS[name].result, Estimate) == (name in ESTIMATES)
    if name in ESTIMATES:
        kind = next(kind for kind in KINDS if name in SERVED[kind])
        found = drawn(name, kind)
        assert type(found) is Estimate and found.caveat


def test_an_adapter_passes_on_what_its_sampler_returns():
    assert type(drawn("red-diff", "lightcones")) is Estimate
    inside = ConstrainedSampler(sampler=REDDiff(), conservation=LinearConstraints.integral(PLANE, 0.0))
    assert inside.result is Estimate and inside.caveat == REDDiff.caveat
    exact = ConstrainedSampler(sampler=Exact(), conservation=LinearConstraints.integral(PLANE, 0.0))
    assert exact.accepts.met_by(made("mixture")[0]) and not exact.accepts.met_by(made("flow")[0])
    assert not any(exact.accepts.met_by(made(kind)[0]) for kind in TRAINED)
