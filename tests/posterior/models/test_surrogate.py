"""A surrogate in the place of a solver: its error measured, kept in the file and added to the noise; and controls."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from infield import InfieldError
from infield.core import registry
from infield.core._lightning import Trainer
from infield.core.grid import Grid
from infield.core.transform import Affine
from infield.datasets.formats.measurement import write_measurement
from infield.datasets.formats.posterior import open_posterior
from infield.datasets.formats.simulation import SimulationWriter
from infield.datasets.training.field_pairs import FieldPairs
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise, LowRankGaussianNoise, PoissonGaussianNoise
from infield.physics.operators import composition
from infield.physics.operators.composition import compose
from infield.physics.operators.registry import build_operator
from infield.pipelines.commands.reconstruct import reconstruct
from infield.pipelines.run.simulations import make_simulation
from infield.posterior.models.model_error import with_model_error
from infield.posterior.models.surrogate import load_surrogate, replace_solver, with_surrogate
from infield.priors.networks.fno import FNO
from infield.priors.surrogates.learned_map import ENTRY
from infield.priors.surrogates.training import OperatorLearning

N, SENSORS, FRESH = 12, 40, 300
SIMULATION = make_simulation("helmholtz", shape=(N, N), settings=["wavenumber_squared=5.0"])
OPERATOR = SIMULATION.operator


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Trained for seconds on 300 pairs, and judged by 100 others."""
    directory = tmp_path_factory.mktemp("surrogate")
    fields = {name: values.numpy() for name, values in SIMULATION.samples(0, range(400)).items()}
    writer = SimulationWriter(
        directory / "pairs.zarr", grid=SIMULATION.grid, variables=SIMULATION.variables, samples=400, block=400,
        run={"kind": "helmholtz", "parameters": SIMULATION.parameters, "seed": 0},
    )  # fmt: skip
    writer.write_block(0, fields)
    writer.finish()
    torch.manual_seed(0)
    module = OperatorLearning(FNO(1, 2, 4, 8, 2), learning_rate=1e-2, warmup=10)
    data = FieldPairs(str(directory / "pairs.zarr"), batch_size=30, validation=0.25)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(max_epochs=12, accelerator="cpu", default_root_dir=directory, **quiet, num_sanity_val_steps=0)
    trainer.fit(module, data)
    trainer.save_checkpoint(directory / "surrogate.ckpt")
    return directory / "surrogate.ckpt"


@pytest.fixture(scope="module")
def surrogate(checkpoint):
    return load_surrogate(checkpoint)


@pytest.fixture(scope="module")
def fresh():
    """Fields and solutions that neither the training nor the measured errors have seen, `(FRESH, 1, N, N)`."""
    pairs = SIMULATION.samples(1, range(FRESH))
    return pairs["coefficient"][:, None], pairs["solution"][:, None]


def sensors() -> np.ndarray:
    return np.random.default_rng(0).permutation(N * N)[:SENSORS]


def measurement(noise=1e-3, operator=OPERATOR, behind=None, grid=SIMULATION.grid, **changes) -> Measurement:
    """Sensors of the solution, zero data unless told otherwise."""
    arrays = {"sensors": sensors()}
    parts = [{"name": "points", "arrays": {"indices": "sensors"}}, operator, *([behind] if behind else [])]
    description = {"name": "compose", "operators": parts}
    built = build_operator(description, arrays, grid, 1)
    y = torch.zeros(1, 1, SENSORS, dtype=torch.float64)
    law = GaussianNoise(noise**2) if isinstance(noise, float) else noise
    told = {"y": y, "operator": built, "noise": law, "grid": grid}
    return Measurement(**told | {"description": description, "arrays": arrays} | changes)


def noisy(u: torch.Tensor, noise: float) -> torch.Tensor:
    """Data of the solutions `u`, `(FRESH, 1, SENSORS)`."""
    g = torch.Generator().manual_seed(2)
    return u.flatten(2)[..., sensors()] + noise * torch.randn(len(u), 1, SENSORS, generator=g, dtype=torch.float64)


# --- the file ---


def test_the_error_is_measured_on_pairs_that_were_held_out_and_is_in_the_file(checkpoint, surrogate, fresh):
    x, u = fresh
    relative = ((surrogate.A(x) - u).flatten(1).norm(dim=1) / u.flatten(1).norm(dim=1)).mean()
    assert abs(surrogate.relative_error / relative - 1) < 0.15
    assert 0.01 < surrogate.relative_error < 0.4  # it learned something, and is wrong enough for what follows
    entry = torch.load(checkpoint, weights_only=True)[ENTRY]
    assert entry["provenance"]["error"]["pairs"] == len(entry["residuals"]) == 100
    assert entry["operator"] == OPERATOR and entry["provenance"]["training"]["epochs"] > 0


def test_a_surrogate_comes_back_bit_for_bit(checkpoint, surrogate, fresh):
    x = fresh[0][:3]
    again = load_surrogate(checkpoint)
    copied = pickle.loads(pickle.dumps(surrogate))
    assert torch.equal(again.A(x), surrogate.A(x)) and torch.equal(copied.A(x), surrogate.A(x))
    assert again.A(x).dtype == torch.float64 and again.A(x.float()).dtype == torch.float32
    rim = surrogate.A(x)[..., 0, :]
    assert rim.abs().max() == 0  # what never varies comes out exactly


def test_the_gradient_passes_a_taylor_test(checkpoint, fresh):
    surrogate = load_surrogate(checkpoint).double()
    x = fresh[0][:1]
    g = torch.Generator().manual_seed(3)
    dx, v = (torch.randn(x.shape, generator=g, dtype=torch.float64) for _ in range(2))
    value, slope = (surrogate.A(x) * v).sum(), (surrogate.A_vjp(x, v) * dx).sum()
    for wrong, expected in ((1.0, 4.0), (1.01, 2.0)):
        steps = [2.0**-k for k in range(3, 8)]
        errors = [float(((surrogate.A(x + h * dx) * v).sum() - value - h * wrong * slope).abs()) for h in steps]
        assert errors[-2] / errors[-1] == pytest.approx(expected, rel=0.15)


# --- the law of its error ---


@pytest.mark.parametrize("share", [1e-3, 1e-2])
def test_data_of_the_solver_are_as_probable_as_they_should_be(surrogate, fresh, share):
    x, u = fresh
    noise = share * float(u.std())
    bare, replaced = measurement(noise), replace_solver(measurement(noise), surrogate)
    y, z = noisy(u, noise), surrogate.A(x).flatten(2)[..., sensors()]
    assert torch.equal(replaced.measurement.operator.A(x), z)
    law = replaced.measurement.noise
    chi_square = (law.chi_square(y, z) / SENSORS).mean()
    assert 0.85 < chi_square < 1.15
    assert abs(replaced.error.chi_square - chi_square) < 0.25  # and the run knew
    assert (bare.noise.chi_square(y, z) / SENSORS).mean() > 10  # without it nothing would be believed


def test_fields_unlike_those_of_the_training_are_seen(surrogate, fresh):
    replaced = replace_solver(measurement(), surrogate)
    assert 0.8 < replaced.error_at(fresh[0]) < 1.2
    assert replaced.error_at(4 * fresh[0][:8]) > 2


def test_errors_are_correlated_between_data_and_the_law_knows(surrogate, fresh):
    """Along the direction of the largest error, data that are judged one by one would be taken for far too good."""
    x, u = fresh
    noise = 1e-3 * float(u.std())
    law = with_surrogate(measurement(noise), surrogate).noise
    r = noisy(u, noise) - surrogate.A(x).flatten(2)[..., sensors()]
    v = torch.linalg.svd(law.factors.flatten(1), full_matrices=False).Vh[:1, None]
    found = (v * r).sum((1, 2)).square().mean()
    assert 0.75 < found / (v * law.apply(v)).sum() < 1.35
    assert found / (v * v * law.variance).sum() > 4


def test_the_law_of_few_errors_at_many_data_is_not_overconfident():
    """A rank-deficient covariance of 40 errors at 300 data, and what the share on the diagonal does about it."""
    g = torch.Generator().manual_seed(0)
    t = torch.linspace(0, 1, 300, dtype=torch.float64)
    root = torch.linalg.cholesky(torch.exp(-(t[:, None] - t).abs() / 0.2) + 1e-9 * torch.eye(300))
    errors = torch.randn(540, 300, generator=g, dtype=torch.float64) @ root.T + 3.0
    noise, y = GaussianNoise(1e-4), errors[40:] - errors[:40].mean(0)
    found = with_model_error(noise, errors[:40], None)
    chi_square = float(found.noise.chi_square(y, torch.zeros_like(y)).mean()) / 300
    assert 0.6 < chi_square < 1.15 and abs(found.chi_square - chi_square) < 0.4
    centred = (errors[:40] - errors[:40].mean(0)) / 39**0.5
    without = LowRankGaussianNoise(1e-4, centred)
    assert float(without.chi_square(y, torch.zeros_like(y)).mean()) / 300 > 20


def test_data_that_are_not_observed_have_no_part_in_it(surrogate, fresh):
    observed = torch.zeros(1, SENSORS, dtype=torch.bool)
    observed[:, ::2] = True
    some = with_surrogate(measurement(observed=observed), surrogate)
    assert not some.noise.factors[:, ~observed].any()
    x = fresh[0][:2]
    assert torch.isfinite(some.log_likelihood(x)).all()
    far = replace(some, y=torch.where(observed, some.y, torch.nan))
    assert torch.equal(far.chi_square(x), some.chi_square(x))
    full = with_surrogate(measurement(), surrogate).noise
    with pytest.raises(InfieldError, match="not observed, expected zeros"):
        replace(some, noise=full)


def test_a_change_of_units_inside_and_the_whole_field_as_data(surrogate, fresh):
    x = fresh[0][:2]
    shift, scale = torch.full((1, 1, 1), 0.5).double(), torch.full((1, 1, 1), 2.0).double()
    inside = measurement()
    moved = replace(
        inside, operator=compose(inside.operator, composition.Affine(inside.grid, 1, scale, shift)), units="furlong"
    )
    expected = with_surrogate(inside, surrogate).operator.A(x)
    torch.testing.assert_close(with_surrogate(moved, surrogate).operator.A((x - shift) / scale), expected)
    standard = with_surrogate(inside, surrogate).pullback(Affine(shift, scale))
    torch.testing.assert_close(standard.operator.A((x - shift) / scale), expected)
    solver = build_operator(OPERATOR, {}, inside.grid, 1)
    y = torch.zeros(1, 1, N, N, dtype=torch.float64)
    whole = replace(inside, y=y, operator=solver, description=OPERATOR, arrays={})
    assert torch.equal(with_surrogate(whole, surrogate).operator.A(x), surrogate.A(x))


# --- what is refused ---


def other_axes(**changes) -> Grid:
    return Grid(tuple(replace(axis, **changes) for axis in SIMULATION.grid.axes))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (
            lambda: measurement(operator={"name": "poisson"}),
            "found a measurement of the solver 'poisson', expected 'helmholtz'",
        ),
        (
            lambda: measurement(operator={**OPERATOR, "parameters": {"wavenumber_squared": 9.0}}),
            "% off that of training",
        ),
        (
            lambda: measurement(grid=Grid.regular((N + 4, N))),
            r"found a grid of \(16, 12\), expected \(12, 12\)",
        ),
        (lambda: measurement(grid=Grid.regular((N, N), 2.0)), "y 0 to 2 1 by x .* expected y 0 to 1 1 by x 0 to 1 1"),
        (
            lambda: measurement(grid=Grid.regular((N, N), units="m")),
            "y 0 to 1 m by x .* expected y 0 to 1 1 by x 0 to 1 1",
        ),
        (lambda: measurement(units="K"), "found a field in 'K', expected '1'"),
        (lambda: measurement(noise=PoissonGaussianNoise(1.0, 0.1)), "found noise PoissonGaussianNoise"),
        (lambda: measurement(operator={"name": "darcy"}, behind=OPERATOR), "found 'darcy' after the solver"),
    ],
)
def test_a_surrogate_of_something_else_is_refused_in_one_line(surrogate, build, words):
    with pytest.raises(InfieldError, match=words) as error:
        with_surrogate(build(), surrogate)
    assert "\n" not in str(error.value)


def test_parameters_that_do_not_matter_and_those_that_are_equal_are_accepted(checkpoint, surrogate):
    entry = torch.load(checkpoint, weights_only=True)
    entry[ENTRY]["operator"] = None  # pairs of another program
    torch.save(entry, checkpoint.with_name("foreign.ckpt"))
    foreign = load_surrogate(checkpoint.with_name("foreign.ckpt"))
    for one in (surrogate, foreign):
        assert isinstance(with_surrogate(measurement(), one).noise, LowRankGaussianNoise)
    with pytest.raises(InfieldError, match="% off that of training"):
        with_surrogate(measurement(operator={"name": "poisson"}), foreign)


@pytest.mark.parametrize("damage", ["missing", "truncated", "prior", "part", "shape"])
def test_a_file_that_is_no_surrogate_is_refused_in_one_line(checkpoint, tmp_path, damage):
    path, stored = tmp_path / "damaged.ckpt", torch.load(checkpoint, weights_only=True)
    if damage == "truncated":
        path.write_bytes(checkpoint.read_bytes()[:3000])
    elif damage != "missing":
        if damage == "prior":
            stored["infield_prior"] = {"version": 1}
            del stored[ENTRY]
        elif damage == "part":
            del stored[ENTRY]["residuals"]
        else:
            stored[ENTRY]["witness"] = torch.zeros(3)
        torch.save(stored, path)
    words = {"missing": "no file", "truncated": "cannot be read", "prior": "this checkpoint is a prior"}
    words |= {"part": "found no 'residuals'", "shape": "do not fit together"}
    with pytest.raises(InfieldError, match=words[damage]) as error:
        load_surrogate(path)
    assert "\n" not in str(error.value) and str(error.value).startswith(str(path))


# --- as a person runs it ---


def test_reconstruct_with_a_surrogate(checkpoint, surrogate, fresh, tmp_path, monkeypatch):
    def load(*arguments):  # its network is of another package
        registry._records.get()[-1]["a-package"] = "1.2"
        return load_surrogate(*arguments)

    x, u = fresh
    y, noise = noisy(u, 0.02 * float(u.std()))[:1], 0.02 * float(u.std())
    write_measurement(tmp_path / "m.zarr", measurement(noise, y=y, truth=x[:1]))
    (tmp_path / "prior.yaml").write_text("prior: gaussian\nlaw: {law: matern, nu: 2.5, length: 0.3}\n")
    told = {"prior": str(tmp_path / "prior.yaml"), "samples": 8, "workers": 1, "quiet": True}
    with monkeypatch.context() as patched:
        patched.setattr("infield.pipelines.commands.reconstruct.load_surrogate", load)
        reconstruct(tmp_path / "m.zarr", tmp_path / "of_another.zarr", surrogate=checkpoint, **told)
    with open_posterior(tmp_path / "of_another.zarr") as posterior:
        assert json.loads(posterior.attrs["plugins"]) == {"a-package": "1.2"}
    summary = reconstruct(tmp_path / "m.zarr", tmp_path / "p.zarr", surrogate=checkpoint, **told)
    assert 0.3 < summary["chi_square"] < 2 and summary["surrogate"] == "surrogate.ckpt"
    assert summary["surrogate_relative_error"] == surrogate.relative_error
    assert 0.1 < summary["surrogate_error_at_samples"] < 10
    with open_posterior(tmp_path / "p.zarr") as posterior:
        assert posterior.attrs["surrogate_sha256"] == surrogate.stored.sha256 and "plugins" not in posterior.attrs
    (tmp_path / "p.zarr").rename(tmp_path / "p.zarr.partial")
    with pytest.raises(InfieldError, match="'surrogate': found"):  # another run than one with the solver
        reconstruct(tmp_path / "m.zarr", tmp_path / "p.zarr", **told)
    entry = torch.load(checkpoint, weights_only=True)
    entry[ENTRY]["residuals"] *= 1.01
    torch.save(entry, tmp_path / "surrogate.ckpt")
    with pytest.raises(InfieldError, match="'surrogate_sha256': found"):
        reconstruct(tmp_path / "m.zarr", tmp_path / "p.zarr", surrogate=tmp_path / "surrogate.ckpt", **told)
    with pytest.raises(InfieldError, match=r"--surrogate .*surrogate.ckpt: surrogate: found a grid of y 0 to 1 m"):
        write_measurement(tmp_path / "other.zarr", measurement(noise, grid=other_axes(units="m")))
        reconstruct(tmp_path / "other.zarr", tmp_path / "q.zarr", surrogate=checkpoint, **told)
