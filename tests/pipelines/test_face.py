"""The public face: `import infield`, names of priors and configurations, operators that callers bring, what to cite."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
import zarr
from examples.example_files import GAUSSIAN, checkpoint, plane, save
from examples.processes import HANG

import infield as inf
from infield.core._deepinv import deepinv
from infield.core.registry import GROUPS, table
from infield.physics.operators.callables import as_operator
from infield.pipelines import package_data
from infield.pipelines.cli import main
from infield.pipelines.run.names import BUILT_IN_PRIORS, KINDS
from infield.pipelines.run.prior_choice import BUILT_IN
from infield.pipelines.run.references import bibtex, citations, known_keys
from infield.posterior.interop.deepinv import UnitRange, WhitenedProblem
from infield.testing import check_operator

ROOT = Path(__file__).parents[2]
GRID = inf.Grid.regular((6, 5), 1.0)


@pytest.fixture
def measurement():
    mask = torch.arange(30).reshape(6, 5) % 2 == 0
    A = inf.operator("mask", GRID, mask=mask.numpy().astype("int8"))
    y = torch.where(mask, torch.linspace(0, 1, 30).reshape(6, 5), 0.0)
    return inf.Measurement(y[None].double(), operator=A, noise=inf.noise.Gaussian(0.1), grid=GRID)


@pytest.fixture
def described(tmp_path):
    path = tmp_path / "prior.yaml"
    path.write_text(GAUSSIAN)
    return path


# --- import ---


def fresh(code: str, **settings) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG, check=False, **settings)


def test_every_public_name_is_there():
    assert sorted(inf.__all__) == inf.__all__ and set(inf._LAZY) | {"InfieldError", "__version__"} == set(inf.__all__)
    assert all(getattr(inf, name) is not None for name in inf.__all__)
    assert dir(inf) == inf.__all__


def test_tables_for_people_import_nothing_heavy():
    code = (
        "import sys, infield as inf\n"
        "tables = inf.samplers(), inf.operators(), inf.priors(), inf.networks(), inf.readers(), inf.configs()\n"
        "assert all(len(table) > 3 and table._repr_html_().count('<tr>') == len(table) for table in tables)\n"
        "print('torch' in sys.modules)\n"
        "print('brain_2d' in inf.priors(), 'faps' in inf.samplers())"
    )
    done = fresh(code)
    assert done.stdout == "False\nTrue True\n", done.stderr
    import infield.priors.base

    assert "faps" in inf.samplers() and "brain_2d" in infield.priors()  # the package, and still a table when called


def test_a_checkout_without_links_is_one_clear_line(tmp_path):
    package = tmp_path / "infield"
    package.mkdir()
    shutil.copy(ROOT / "src/infield/__init__.py", package)
    (package / "physics").write_text("../../physics")  # as Git for Windows has it
    done = fresh("import infield", env={"PYTHONPATH": str(tmp_path)})
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError:") and "no folders physics, priors" in last and "pip install ." in last


def test_the_wheels_hold_all_checkpoints_between_them():
    own = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    large = tomllib.loads((ROOT / "pipelines/checkpoints/large/pyproject.toml").read_text())
    forced = large["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    left_out = {p.name for pattern in own["exclude"] if ".ckpt" in pattern for p in ROOT.glob(pattern.lstrip("/"))}
    assert left_out == {Path(name).name for name in forced if name.endswith(".ckpt")} != set()
    assert {f"/src/infield/{room}" for room in inf.ROOMS} <= set(own["exclude"])
    assert set(own["sources"]) == {"src/infield", *inf.ROOMS}
    assert large["project"]["version"] == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


# --- names ---


def test_built_in_priors_are_listed():
    assert set(BUILT_IN) == set(BUILT_IN_PRIORS)


@pytest.mark.parametrize("kind", KINDS)
def test_list(infield, kind):
    said = infield("list", kind)
    assert said.status == 0 and said.err == "" and len(said.out.splitlines()) >= 2
    assert len(infield("list", kind, "--json").summary) >= 2


def test_unknown_names_offer_the_nearest(infield, tmp_path, described):
    infield("list", "confgs").refused("confgs")
    infield("fit", "--config", "unet2d").refused("no configuration of this name", "did you mean 'unet_2d'?")
    m = save(plane(), tmp_path / "m.zarr")
    run = ("reconstruct", m, "-o", tmp_path / "p.zarr")
    infield(*run, "--prior", "brain2d").refused("did you mean 'brain_2d'?")
    for call, words in (
        (lambda: inf.sampler("fapz"), "did you mean 'faps'"),
        (lambda: inf.sampler("faps", level=3), "did you mean 'levels'"),
        (lambda: inf.load_prior("brain2d"), "did you mean 'brain_2d'"),
        (lambda: inf.operator("maks", GRID), "did you mean 'mask'"),
        (lambda: inf.load_prior("matern-3/2"), 'prior="matern-3/2"'),
    ):
        with pytest.raises(inf.InfieldError, match=words):
            call()


def test_a_larger_checkpoint_that_is_not_installed(monkeypatch, tmp_path):
    shutil.copy(package_data.CHECKPOINTS / "pde_darcy.md", tmp_path)
    monkeypatch.setattr(package_data, "CHECKPOINTS", tmp_path)
    assert set(inf.priors()) > {"pde_darcy"}
    with pytest.raises(inf.InfieldError, match="found its card alone, expected the distribution infield-checkpoints"):
        inf.load_prior("pde_darcy")


def test_every_configuration_has_a_line():
    assert all(len(line) > 20 for line in inf.configs().rows.values())


def test_priors_by_name_and_by_file(tmp_path, described):
    assert inf.load_prior("gp_matern").sha256 == inf.load_prior(package_data.CHECKPOINTS / "gp_matern.ckpt").sha256
    assert inf.load_prior(described).on(GRID).mean.shape == (1, 6, 5)


# --- reconstruct ---


def state() -> tuple:
    return (
        torch.get_num_threads(),
        torch.get_rng_state().tolist(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
        random.getstate(),
        list(warnings.filters),
    )


def test_in_memory_and_file_to_file_are_the_same(tmp_path, measurement, described):
    before = state()
    p = inf.load_prior(described)
    faps = inf.sampler("faps", levels=2)
    one = inf.reconstruct(measurement, prior=p, sampler=faps, samples=3, seed=5)
    inf.write_measurement(tmp_path / "m.zarr", measurement)
    two = inf.reconstruct(tmp_path / "m.zarr", tmp_path / "p.zarr", prior=described, sampler=faps, samples=3, seed=5)
    assert state() == before
    np.testing.assert_allclose(one["samples"], two["samples"], atol=1e-6)
    assert (tmp_path / "p.zarr").is_dir() and one.attrs["measurement_sha256"] != ""
    with pytest.raises(inf.InfieldError, match="expected one of none, constant, linear"):
        inf.reconstruct(measurement, trend="quadratic")


def test_priors_in_memory_are_checked(measurement, tmp_path):
    small = inf.load_prior(checkpoint(tmp_path / "p.ckpt"))
    for prior, words in (
        (small, "p|flow|channels|grid"),
        (3, "expected a prior"),
        ("nothing", "no prior of this name"),
    ):
        with pytest.raises(inf.InfieldError, match=words):
            inf.reconstruct(measurement, prior=prior, samples=1)


def test_what_a_run_warns_of_is_a_python_warning(measurement):
    with pytest.warns(UserWarning, match="estimate|draws|posterior"):
        inf.reconstruct(measurement, prior="matern-3/2", sampler=inf.sampler("red-diff", steps=10), samples=1)


def test_compare(measurement, described):
    found = inf.compare(
        inf.load_prior(described), measurement, ["exact", inf.sampler("faps", levels=2), "snap"], samples=16
    )
    assert list(found.index) == ["exact", "faps-flow", "snap"] and found.loc["exact", "remark"] == ""
    assert found.loc["exact", "std"] == pytest.approx(found.loc["faps-flow", "std"], rel=0.5)
    assert "snap" in found.loc["snap", "remark"] and np.isnan(found.loc["snap", "chi_square"])


def test_convert_and_simulate_are_functions(tmp_path):
    (tmp_path / "t.csv").write_text("x,y,v\n" + "\n".join(f"{i % 7},{i // 7},{i % 3 + 0.1 * i}" for i in range(28)))
    summary = inf.convert("table", tmp_path / "t.csv", tmp_path / "m.zarr", value="v", at=["x", "y"], grid=1.0)
    assert summary["variable"] == "v" and inf.open_measurement(tmp_path / "m.zarr").count == 28
    summary = inf.simulate(
        "process", tmp_path / "s.zarr", law="matern", samples=3, points=16, with_={"length": 0.2}, workers=1
    )
    assert summary["samples"] == 3 and summary["parameters"]["law"]["length"] == 0.2
    with pytest.raises(inf.InfieldError, match="column"):
        inf.convert("table", tmp_path / "t.csv", tmp_path / "n.zarr", value="w", at=["x", "y"], grid=1.0)


# --- operators that callers bring ---


class OnlyA(deepinv.physics.Physics):
    def A(self, x, **settings):
        return x**2


class HalfLinear(deepinv.physics.LinearPhysics):
    def A(self, x, **settings):
        return 2 * x[..., ::2]


class WrongAdjoint(HalfLinear):
    def A_adjoint(self, y, **settings):
        return torch.zeros(len(y), 1, 6, 5, dtype=y.dtype)


class NotLinear(deepinv.physics.LinearPhysics):
    def A(self, x, **settings):
        return x**2


def affine() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Conv2d(1, 2, 3)


@pytest.mark.parametrize(
    ("operator", "linear"),
    [
        (lambda x: x[:, :, ::2], True),
        (torch.exp, False),
        (lambda x: x.clamp(-100, 100), False),
        (affine(), False),
        (torch.nn.Conv2d(1, 2, 3, bias=False), True),
        (OnlyA(), False),
        (HalfLinear(), True),
    ],
    ids=["rows", "exp", "clamp", "conv", "conv without bias", "Physics", "LinearPhysics"],
)
def test_functions_become_operators(operator, linear):
    A = as_operator(operator, GRID, 1)
    assert isinstance(A, deepinv.physics.LinearPhysics) == linear
    single = isinstance(operator, torch.nn.Conv2d)  # weights in single precision
    loose = {"tolerance": 1e-5, "jacobian_tolerance": 1e-2} if single else {}
    check_operator(operator, grid=GRID, channels=1, pickled=False, **loose)
    y = A.A(torch.ones(1, 1, *GRID.shape, dtype=torch.float64))
    m = inf.Measurement(y[0], operator=operator, noise=inf.noise.Gaussian(0.1), grid=GRID)
    assert m.y.shape == y.shape and float(m.chi_square(torch.ones(1, 1, 6, 5, dtype=torch.float64))) < 1e-6


@pytest.mark.parametrize(
    ("operator", "words"),
    [
        (3, "found int"),
        (lambda x: x.numpy(), "found ndarray"),
        (lambda x: x.to(torch.complex128), "complex"),
        (lambda x: x - x.mean(0, keepdim=True), "the rest of the batch"),
        (torch.nn.Dropout(), ".eval()"),
        (torch.nn.Linear(7, 2), "it refuses fields of shape"),
        (lambda x: x.detach(), "no gradient"),
        (NotLinear(), "not linear"),
        (WrongAdjoint(), "not the adjoint"),
    ],
)
def test_what_cannot_work_is_refused_at_once(operator, words):
    with pytest.raises(inf.InfieldError, match=words) as refused:
        inf.Measurement(torch.zeros(1, 6, 5), operator=operator, noise=inf.noise.Gaussian(0.1), grid=GRID)
    assert "\n" not in str(refused.value)


def test_noise_and_grid_are_asked_for():
    with pytest.raises(inf.InfieldError, match=r"write infield.noise.Gaussian\(std\)"):
        inf.Measurement(torch.zeros(1, 6, 5), operator=lambda x: x, noise=0.1, grid=GRID)
    with pytest.raises(inf.InfieldError, match=r"Grid\.regular"):
        inf.Measurement(torch.zeros(1, 6, 5), operator=lambda x: x, noise=inf.noise.Gaussian(0.1))
    with pytest.raises(inf.InfieldError, match="two for a complex datum"):
        inf.Measurement(torch.zeros(1, 6, 5) * 1j, operator=lambda x: x, noise=inf.noise.Gaussian(0.1), grid=GRID)
    assert float(inf.noise.Gaussian(0.5).variance) == 0.25
    assert float(inf.noise.PoissonGaussian(2.0, 0.5).variance) == 0.25
    assert float(inf.noise.LowRankGaussian(0.5, torch.ones(1, 3)).diagonal) == 0.25


def test_a_posterior_through_a_module(described):
    m = inf.Measurement(torch.zeros(1, 6, 5), operator=OnlyA(), noise=inf.noise.Gaussian(0.1), grid=GRID)
    found = inf.reconstruct(m, prior=described, samples=2, sampler=inf.sampler("faps", levels=2, steps=5))
    assert np.isfinite(found["samples"]).all()


# --- data in memory ---


@pytest.fixture
def stations():
    generator = np.random.default_rng(5)
    places = {"lon": generator.uniform(-10, -5, 30), "lat": generator.uniform(45, 49, 30)}
    when = pd.Timestamp("2020-01-01") + pd.to_timedelta(generator.integers(0, 48, 30), "h")
    return pd.DataFrame({**places, "when": when, "sst": generator.normal(13, 1, 30)})


@pytest.mark.parametrize("indexed", [False, True])
def test_a_data_frame_is_measured_as_its_file(stations, tmp_path, indexed):
    """Also of times in a column of any name, and of places in the index."""
    stations.to_csv(tmp_path / "t.csv", index=False)
    settings = {"value": "sst", "at": ["lon", "lat", "when"], "units": "degC", "grid": [1.0, 1.0, 0.5]}
    of_file = inf.convert("table", tmp_path / "t.csv", **settings)
    given = inf.convert("table", stations.set_index(["lon", "when"]) if indexed else stations, **settings)
    assert given.grid == of_file.grid and torch.equal(given.y, of_file.y) and given.source is None
    hours = (stations["when"] - stations["when"].min().normalize()) / pd.Timedelta("1D")
    np.testing.assert_allclose(np.sort(given.arrays["positions"][:, 0]), np.sort(hours), atol=1e-12)
    inf.convert("table", stations, tmp_path / "m.zarr", **settings)
    assert inf.open_measurement(tmp_path / "m.zarr").digest == given.digest


def test_a_data_array_is_measured_as_its_file(tmp_path):
    generator = np.random.default_rng(6)
    values = np.where(generator.random((3, 4, 5)) < 0.3, np.nan, generator.normal(size=(3, 4, 5)))
    axes = {"time": pd.date_range("2020-01-01", periods=3), "lat": [50.0, 49.0, 48.0, 47.0], "lon": np.arange(5.0)}
    field = xr.DataArray(values, axes, ("time", "lat", "lon"), "sst", {"units": "degC"})
    field.encoding = {"dtype": "int16", "scale_factor": 0.5, "_FillValue": -9}  # of a file that it came from
    given = inf.convert("grid", field, variable="sst", time="2020-01-02", noise_std=0.2)
    field.drop_encoding().to_netcdf(tmp_path / "f.nc")
    of_file = inf.convert("grid", tmp_path / "f.nc", variable="sst", time="2020-01-02", noise_std=0.2)
    assert given.grid == of_file.grid and given.units == "degC" and torch.equal(given.observed, of_file.observed)
    expected = values[1, ::-1][np.isfinite(values[1, ::-1])]
    np.testing.assert_array_equal(given.y[0][given.observed], expected)
    assert torch.equal(of_file.y[0][of_file.observed], given.y[0][given.observed])
    assert field.encoding["dtype"] == "int16"  # the caller's own is as it was


def test_what_cannot_be_given_in_memory_is_refused(stations):
    with pytest.raises(inf.InfieldError, match=r"found numpy.ndarray, expected the path of a file; in memory a pandas"):
        inf.convert("table", np.zeros((3, 3)), value="v", at=["x"], grid=1.0)
    with pytest.raises(inf.InfieldError, match=r"found pandas.*DataFrame, expected the path"):
        inf.convert("mri", stations)
    with pytest.raises(
        inf.InfieldError, match="the table: found no column 'nope', expected one of lon, lat, when, sst"
    ):
        inf.convert("table", stations, value="nope", at=["lon"], grid=1.0)
    with pytest.raises(inf.InfieldError, match="the table: 'when': found times, expected numbers"):
        inf.convert("table", stations, value="when", at=["lon"], grid=1.0)


# --- reprs ---


def test_reprs_are_short(measurement, described, tmp_path):
    gaussian = inf.load_prior(described).on(GRID)
    things = [measurement, gaussian, gaussian.covariance, measurement.operator, inf.load_prior("gp_matern")]
    things += [inf.load_prior("one_step_mri"), inf.sampler("exact")(gaussian, measurement, 2, torch.Generator())]
    for thing in things:
        assert len(repr(thing)) < 300 and "tensor(" not in repr(thing), repr(thing)
    large = inf.Grid.regular((5, 100_000), units="m")
    assert repr(large) == "Grid(y=5 points, 0 to 1 m, x=100000 points, 0 to 1 m)" and len(repr(large.axes[1])) < 80
    assert repr(inf.PointSet(((0.0, 1.0), (2.0, 0.5)), ("x", "y"))) == "PointSet(points=2, x=0 to 2, y=0.5 to 1)"
    assert "<table>" in measurement._repr_html_() and "gaussian" not in repr(gaussian).split("(")[0].lower()[8:]


# --- precision ---


def test_a_prior_on_an_open_grid_in_deepinvs_precision(measurement, described):
    """Modes by eigenvectors, in double precision, under fields in single."""
    problem = UnitRange(WhitenedProblem(inf.load_prior(described).on(GRID), measurement))
    w = torch.rand(2, *problem.shape, generator=torch.Generator().manual_seed(0))
    single, double = problem.A(w), problem.A(w.double())
    assert single.dtype == torch.float32 and (single - double).norm() < 1e-4 * double.norm()
    assert problem.denoise(w, 0.1).dtype == torch.float32


# --- citing ---


def test_every_paper_is_known():
    known = set(known_keys())
    named = {paper for group in GROUPS for entry in table(group).values() for paper in entry.papers}
    assert named <= known and all(entry.papers for entry in table("samplers").values())
    assert all(bibtex([key]).count("@") == 1 for key in known)


def test_cite(infield, tmp_path, measurement, described):
    assert infield("cite").out.startswith("@software{infield") and inf.__version__ in infield("cite").out
    inf.reconstruct(measurement, tmp_path / "p.zarr", prior=described, sampler="faps", samples=1)
    said = infield("cite", tmp_path / "p.zarr")
    assert said.status == 0 and "@misc{shi2026faps" in said.out and "eprint = {2606.22346}" in said.out
    shutil.copytree(tmp_path / "p.zarr", tmp_path / "old.zarr")
    del zarr.open_group(tmp_path / "old.zarr", mode="r+", use_consolidated=False).attrs["citations"]
    infield("cite", tmp_path / "old.zarr").refused("older version of Infield")
    infield("cite", tmp_path / "none.zarr").refused("nothing there")


def test_other_packages_are_cited_by_their_own_entries():
    class Theirs:
        bibtex = "@misc{theirs, title = {Theirs}}"

    keys = citations(Theirs(), inf.load_prior("gp_matern"), fitted=False)
    assert keys == ["infield", Theirs.bibtex, "lipman2023flow", "kerrigan2024functional"]
    assert "@misc{theirs" in bibtex(keys) and "Lipman" in bibtex(keys)


def test_the_package_is_a_program():
    done = fresh("import runpy, sys; sys.argv = ['infield', '-V']; runpy.run_module('infield', run_name='__main__')")
    assert done.stdout == f"infield {inf.__version__}\n" and main(["--version"]) == 0
