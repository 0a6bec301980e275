"""The bench of PDE inverse problems: its problems, its measurements, its peers' coordinates, and its table."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import pytest
import torch
from torch import Generator

from infield import InfieldError
from infield.core import registry
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise
from infield.physics.operators.sensors import PointSensors
from infield.pipelines.bench.pde import run as pde
from infield.pipelines.bench.pde.level_set import LevelSet, level_set_chains
from infield.pipelines.bench.pde.peers import WhitenedProblem
from infield.pipelines.bench.pde.problems import (
    PROBLEMS,
    SETTINGS,
    Problem,
    Setting,
    exact_prior,
    untrained_prior,
)
from infield.pipelines.commands.fit import run as fit
from infield.pipelines.commands.simulate import simulate
from infield.priors.base import denoise
from infield.priors.storage.checkpoint import load_flow_prior

FEW = Setting("few", 40, 1e-3)


@pytest.mark.parametrize("name", PROBLEMS)
def test_data_are_in_the_normalisation_of_the_paper(name):
    problem = Problem(name, 16)
    measurement = problem.measure(problem.truth(0, 3), FEW, Generator().manual_seed(0)).of_field
    assert measurement.linear_gaussian == problem.linear and measurement.count == 40
    with torch.no_grad():
        data = torch.cat([measurement.operator.A(problem.truth(5, case)) for case in range(48)])
    inside = 0.5 if name == "navier-stokes" else 0.4, 0.65  # sensors on the rim see zero
    assert 0.75 * inside[0] < float(data.std()) < 1.3 * inside[1]
    assert 0.5 < float(measurement.chi_square(measurement.truth)) < 1.8
    assert not torch.equal(problem.truth(0, 3), problem.truth(0, 4))


def test_the_law_of_sources_in_closed_form():
    """Variances of the values, point by point; with the variances of the modes out of order it is another law."""
    problem = Problem("poisson", 16)
    prior = exact_prior(problem)
    drawn = torch.cat([problem.truth(9, case) for case in range(400)]).var(0)
    field = prior.covariance.sample(4000, Generator().manual_seed(0)).var(0)
    assert float((drawn - field).abs().max()) < 0.3 * float(field.max())
    assert float(drawn.mean()) == pytest.approx(float(field.mean()), rel=0.1)
    x = problem.truth(0, 0)
    torch.testing.assert_close(prior.covariance.modes.synthesise(prior.covariance.modes.analyse(x)), x)


@pytest.mark.parametrize("name", ["poisson", "darcy"])
def test_peers_see_the_same_problem_in_white_coordinates(name):
    problem = Problem(name, 16)
    prior = untrained_prior(problem, 8)
    case = problem.measure(problem.truth(0, 0), FEW, Generator().manual_seed(0))
    measurement = replace(case.sampled, noise=GaussianNoise(0.01))
    white = WhitenedProblem(prior, measurement)
    u = torch.randn((3, 1, 16, 16), generator=Generator().manual_seed(1), dtype=torch.float64)
    x = prior.standardisation.to_units(white.colour(u))
    torch.testing.assert_close(white.whiten(white.colour(u)), u)
    ours = measurement.residual(x)
    torch.testing.assert_close(white.y - white.A(u), ours, atol=1e-8, rtol=1e-6)
    sigma = 0.7  # u_1 + sigma eps, from a field of the flow at t = 1 / (1 + sigma)
    t = 1 / (1 + sigma)
    clean = white.colour(white.denoise(u / t, sigma))
    torch.testing.assert_close(clean, denoise(prior, white.colour(u), t))
    v = torch.randn((3, 1, 40), generator=Generator().manual_seed(2), dtype=torch.float64)
    step = 1e-5
    forward = (white.A(u + step * u.cos()) - white.A(u - step * u.cos())) / (2 * step)
    torch.testing.assert_close((forward * v).sum(), (u.cos() * white.A_vjp(u, v)).sum(), rtol=1e-3, atol=1e-8)
    assert white.calls(1)["solver_calls"] >= 12


def test_what_a_smooth_step_gets_wrong_is_in_the_noise():
    """The data's own level set fits them under that noise, and not under the instrument's alone."""
    problem, exact = Problem("darcy", 32), Setting("noise-free", 100, 1e-6)
    found = []
    for number in range(6):
        fields = problem.simulation.samples(5, range(number, number + 1))
        truth, distance = (fields[name][:, None] for name in ("coefficient", "level_set"))
        case = problem.measure(truth, exact, Generator().manual_seed(number))
        assert torch.equal(problem.field(distance), truth)
        alone = replace(case.sampled, noise=case.of_field.noise)
        found.append([float(m.chi_square(distance)) for m in (case.sampled, alone)])
    with_error, without = torch.tensor(found).mean(0)
    assert 0.5 < with_error < 2 and without > 10


def test_chains_that_know_the_law_of_phases():
    """One phase is all but known at one point; elsewhere it follows by the orthant probabilities of Gaussian fields."""
    problem, sensor = Problem("darcy", 12), 5 * 12 + 5
    law, grid = problem.law, problem.grid
    operator = PointSensors.at_indices(grid, 1, torch.tensor([sensor]))
    y = torch.full((1, 1, 1), law.values[1], dtype=torch.float64)
    measurement = Measurement(y=y, operator=operator, noise=GaussianNoise(0.04), grid=grid)
    g, calls = level_set_chains(law, measurement, 1500, Generator().manual_seed(0), steps=60)
    units = torch.eye(144, dtype=torch.float64).reshape(144, 1, 12, 12)
    rows = LevelSet(grid, law, sharp=True).function(units).flatten(1)
    covariance = rows.mT @ rows
    rho = covariance[sensor] / (covariance[sensor, sensor] * covariance.diagonal()).sqrt()
    expected = 0.5 + torch.asin(rho.clamp(-1, 1)) / torch.pi
    share = (g >= 0).double().mean(0).flatten()
    z = (share - expected) / (expected * (1 - expected) / 1500 + 1e-6).sqrt()
    assert z.abs().max() < 5, z.abs().max()
    assert ((share - 0.5).abs().max() > 0.4) and calls >= 120  # negative control: without data all shares are a half


@pytest.mark.parametrize(
    "problem", ["poisson", *(pytest.param(name, marks=pytest.mark.slow) for name in ("darcy", "navier-stokes"))]
)
def test_the_bench_through_its_command(tmp_path, infield, problem):
    said = infield("bench", "pde", "--quick", "--problem", problem, "--records", tmp_path / "p.json")
    assert said.status == 0, said.err
    assert registry.table("benches")["pde"].target == pde.__name__
    records = json.loads((tmp_path / "p.json").read_text())["records"]
    methods = {r["method"].split(": ")[1] for r in records}
    assert {"faps", "flow-dps", "deepinv-dps", "deepinv-moment-matching", "azula-mmps", "azula-tds"} <= methods
    assert ("exact (true law)" in methods) == (problem == "poisson")
    assert ("chains (true law)" in methods) == (problem == "darcy")
    for setting in SETTINGS:
        row = f"{problem} {setting.name}: faps"
        found = {r["metric"]: r["value"] for r in records if r["method"] == row}
        assert set(pde.METRICS) - {"misclassified"} <= set(found), row
        assert all(math.isfinite(value) for value in found.values())
        assert ("misclassified" in found) == (problem == "darcy")
    if problem != "poisson":
        absent = {r["method"]: r["value"] for r in records if r["metric"] == "absent"}
        assert absent[f"{problem} 128 noisy: deepinv-moment-matching"] == "linear only"


def test_calibration_is_pooled_over_the_cases():
    size = pde.Size(points=24, cases=3, draws=8, steps=2, quick=True)
    bench = pde.run(problems=["poisson"], methods=["exact"], size=size)
    row = "poisson 128 noisy: exact (true law)"
    values = [r.value for r in bench.records if (r.method, r.metric) == (row, "spread_skill")]
    assert len(values) == 3 and len(set(values)) == 1 and 0.7 < values[0] < 1.4
    assert 0.8 < bench.median(row, "coverage_90") < 1


@pytest.mark.parametrize("unknown", ["nonsense", "exact (true law) of all", ""])
def test_a_method_that_does_not_exist_is_refused(unknown, monkeypatch):
    monkeypatch.setattr(pde, "_run_setting", lambda *_: pytest.fail("it ran"))
    with pytest.raises(
        InfieldError, match=f"--methods: found '{re.escape(unknown)}', expected the beginning of one of"
    ):
        pde.run(quick=True, problems=["poisson"], methods=["faps", unknown])
    with pytest.raises(InfieldError, match="--methods: found 'exact'"):  # of Darcy no posterior is known
        pde.run(quick=True, problems=["darcy"], methods=["exact"])


def test_a_method_that_diverges_is_told(monkeypatch):
    problem = Problem("poisson", 16)
    assert pde.divergence(problem.truth(0, 0), problem) == ""
    assert "NaN" in pde.divergence(problem.truth(0, 0) * torch.nan, problem)
    assert "standard deviations" in pde.divergence(1e4 * problem.truth(0, 0), problem)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mixture", "--problem", "darcy"], "unrecognized arguments: --problem darcy"),
        (["pde", "--problem", "heat"], "heat: expected one of"),
    ],
)
def test_options_that_mean_nothing_together(arguments, words, infield):
    infield("bench", *arguments).refused(words)


@pytest.mark.parametrize("config", ["fit_pde_2d", "fit_pde_2d_gpu"])
def test_both_configurations_train(tmp_path, config):
    """A tiny version of each on the processor."""
    data = tmp_path / "d.zarr"
    simulate(pde.Problem("darcy", 16).simulation, data, samples=48, workers=1, quiet=True)
    settings = {
        "data.init_args.path": data,
        "data.init_args.batch_size": 8,
        "model.init_args.rank": 4,
        "model.init_args.network.init_args.widths": "[8, 8]",
        "trainer.default_root_dir": tmp_path / "run",
        "trainer.max_steps": 2,
        "trainer.accelerator": "cpu",
        "trainer.devices": 1,
        "trainer.logger": "false",
    }
    path = f"pipelines/configs/{config}.yaml"
    fit(["--config", path, *(word for key, value in settings.items() for word in (f"--{key}", str(value)))])
    prior = load_flow_prior(tmp_path / "run" / "prior.ckpt")
    assert prior.covariance.event_shape == (1, 16, 16) and prior.skip == "gaussian"
