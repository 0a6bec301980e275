"""Files of the last commit before the move are opened, its runs continued, its names found: see `yesterday/`."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
import yaml
import zarr

import infield
from infield import load_prior, open_measurement, open_posterior
from infield.core import renamed
from infield.core.provenance import versions
from infield.core.renamed import MODULES, NAMES
from infield.datasets.cm21.lightcone_file import open_lightcones
from infield.datasets.formats.simulation import open_simulation
from infield.datasets.wall_pressure.channel_file import open_channel
from infield.datasets.wall_pressure.plane_file import open_wall_planes
from infield.pipelines.cli import main
from infield.pipelines.run.digests import former_prior_digest
from infield.pipelines.run.prior_choice import choose_prior
from infield.priors.amortised.average_velocity import load_average_velocity
from infield.priors.amortised.rectified_flow import load_rectified_flow
from infield.priors.amortised.unrolled import load_unrolled
from infield.priors.cm21.prior_entry import load_lightcone_prior
from infield.priors.storage.from_yaml import prior_from_description

YESTERDAY = Path(__file__).parent / "yesterday"
EXPECTED = json.loads((YESTERDAY / "expected.json").read_text())
OLD_NAMES = json.loads((YESTERDAY / "modules.json").read_text())


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("yesterday")
    with tarfile.open(YESTERDAY / "files.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def there(files, tmp_path, monkeypatch) -> Path:
    """A copy of the files to work in: some of them are continued, as if by the versions that began them."""
    shutil.copytree(files, tmp_path / "files")
    for partial in (tmp_path / "files").rglob("*.partial"):
        attributes = zarr.open_group(partial, mode="r+", use_consolidated=False).attrs
        if "versions" in attributes:
            attributes["versions"] = json.dumps({**json.loads(attributes["versions"]), **versions()})
    monkeypatch.chdir(tmp_path / "files")
    return tmp_path / "files"


def same(array, expected: dict, rtol: float = 1e-6) -> None:
    """Shape and projections onto the directions of `make_yesterday.numbers`."""
    values = np.asarray(array)
    assert list(values.shape) == expected["shape"]
    if values.dtype.kind == "c":
        values = np.stack([values.real, values.imag])
    values = np.nan_to_num(values.astype("f8")).ravel()
    directions = np.random.default_rng(7).standard_normal((2, values.size))
    size = float(np.linalg.norm(values)) * rtol + 1e-12
    np.testing.assert_allclose(directions @ values, expected["projections"], rtol=0, atol=size)


def expected_of(folder: str) -> list[str]:
    return sorted(path for path in EXPECTED if path.startswith(folder))


def run(*words: object) -> None:
    assert main([str(word) for word in words]) == 0


# --- files ---


@pytest.mark.parametrize("path", expected_of("measurements"))
def test_measurements(files, path):
    found, expected = open_measurement(files / path), EXPECTED[path]
    same(found.y, expected["y"])
    assert type(found.noise).__name__ == expected["noise"]
    if "of ones" in expected:
        ones = torch.ones((1, len(found.channels), *found.grid.shape), dtype=torch.float64)
        with torch.no_grad():
            same(found.operator.A(ones), expected["of ones"])


def test_a_changed_file_is_noticed(files):
    expected = EXPECTED["measurements/mask.zarr"]["y"]
    y = open_measurement(files / "measurements/mask.zarr").y.clone()
    y[0, 0, 0, 0] += 1e-3
    with pytest.raises(AssertionError):
        same(y, expected)


@pytest.mark.parametrize("path", expected_of("posteriors"))
def test_posteriors(files, path):
    open_posterior(files / path)
    with xr.open_zarr(files / path, consolidated=False) as file:
        for variable, expected in EXPECTED[path].items():
            same(file[variable].values, expected)


def as_on_this_processor(partial: Path, measurement, prior: str) -> None:
    """Replace yesterday's digest of a prior in closed form, which is of numbers whose last bits are a processor's, by
    yesterday's on this one: it is still known. What is drawn with it is compared all the same."""
    group = zarr.open_group(partial, mode="r+")
    run_of = json.loads(group.attrs["infield_run"])
    former = former_prior_digest(choose_prior(prior, measurement).prior)
    group.attrs["infield_run"] = json.dumps({**run_of, "prior_sha256": former})


@pytest.mark.parametrize("name", ["mask", "counts"])
def test_a_posterior_that_was_interrupted_goes_on(there, name):
    prior = {"mask": "gaussian", "counts": "photons"}[name]
    output, partial = f"posteriors/{name}-stopped.zarr", Path(f"posteriors/{name}-stopped.zarr.partial")
    before = (partial / "done").stat().st_mtime_ns
    assert partial.exists() and before
    settings = ["--samples", 20, "--workers", 1, "--json", "--with", "levels=3"]
    as_on_this_processor(partial, open_measurement(f"measurements/{name}.zarr"), f"priors/{prior}.yaml")
    run("reconstruct", f"measurements/{name}.zarr", "-o", output, "--prior", f"priors/{prior}.yaml", *settings)
    assert not partial.exists()
    with (
        xr.open_zarr(output, consolidated=False) as file,
        xr.open_zarr(f"posteriors/{name}.zarr", consolidated=False) as w,
    ):
        np.testing.assert_array_equal(file["samples"][:8], w["samples"][:8])  # those of yesterday were kept
        for variable, expected in EXPECTED[f"posteriors/{name}.zarr"].items():
            # the rest of yesterday's blurred counts has a kernel whose tails were cut, 13 % at its widest
            same(file[variable].values, expected, rtol=5e-3 if name == "counts" else 1e-5)


READERS = {"wall": open_wall_planes, "planes": open_wall_planes, "channel": open_channel, "21cm": open_lightcones,
           "cones-flow": open_lightcones, "cones-emulator": open_lightcones}  # fmt: skip
WHOLE = [path for path in expected_of("simulations") if "stopped" not in path]


@pytest.mark.parametrize("path", WHOLE)
def test_simulations(files, path):
    READERS.get(Path(path).stem, open_simulation)(files / path)
    with xr.open_zarr(files / path, consolidated=False) as file:
        for variable, expected in EXPECTED[path].items():
            if variable.startswith("attribute "):
                assert file.attrs[variable.removeprefix("attribute ")] == expected
            else:
                same(file[variable].values, expected)


STOPPED = {
    "navier-stokes": ["navier-stokes", "--points", 6, "--samples", 1030],
    "gibbs": ["process", "--law", "gibbs", "--points", 8, "--samples", 1025],
    "wall": [
        *("wall-pressure", "--re-tau", 180, "--length", "2pi", "--dx-plus", 80),
        "--dz-plus",
        60,
        "--samples",
        257,
    ],
}


@pytest.mark.parametrize("name", STOPPED)
def test_simulations_that_were_interrupted_go_on(there, name):
    """The stored parameters, with the names of the laws, are those that today's command asks for."""
    path = f"simulations/{name}-stopped.zarr"
    assert Path(f"{path}.partial").exists()
    run("simulate", *STOPPED[name], "-o", path, "--workers", 1, "--json")
    with xr.open_zarr(path, consolidated=False) as file:
        for variable, expected in EXPECTED[path].items():
            same(file[variable].values, expected, rtol=1e-5)


LOADERS = {"one_step_2d": load_average_velocity, "unrolled_2d": load_unrolled, "pmrf_2d": load_rectified_flow,
           "lightcones-flow": load_lightcone_prior, "lightcones-emulator": load_lightcone_prior}  # fmt: skip


def entries(path: Path) -> dict[str, torch.Tensor]:
    found = {}

    def walk(where: str, value: object) -> None:
        if isinstance(value, torch.Tensor):
            found[where] = value
        elif isinstance(value, dict):
            for key, part in value.items():
                walk(f"{where}/{key}", part)

    for key, entry in torch.load(path, weights_only=True).items():
        if key.startswith("infield_"):
            walk(f"/{key}", {name: part for name, part in entry.items() if name != "provenance"})
    return found


@pytest.mark.parametrize("path", expected_of("checkpoints"))
def test_checkpoints(files, path):
    name = Path(path).stem
    if name == "surrogate_2d":
        from infield.posterior.models.surrogate import load_surrogate

        assert load_surrogate(files / path).A(torch.ones((1, 1, 6, 6))).isfinite().all()
    else:
        LOADERS.get(name, load_prior)(files / path)
    found = entries(files / path)
    assert found.keys() == EXPECTED[path]["entries"].keys()
    for where, expected in EXPECTED[path]["entries"].items():
        same(found[where].numpy(), expected)


@pytest.mark.parametrize("name", ["gaussian", "photons", "white", "open", "mixture"])
def test_descriptions_of_priors(files, name):
    grid = open_measurement(files / "measurements/mask.zarr").grid
    prior = prior_from_description(yaml.safe_load((files / f"priors/{name}.yaml").read_text()), grid, 1)
    x = torch.zeros((1, 1, *grid.shape), dtype=torch.float64)
    assert prior.velocity(x, 0.5).isfinite().all()


def test_a_training_that_stopped_goes_on_with_its_configuration(there, tmp_path):
    """Class paths of yesterday in the `config.yaml` that Lightning wrote; the weights are those of the whole run."""
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy("training/last.ckpt", folder / "last.ckpt")
    config = tmp_path / "config.yaml"
    config.write_text(Path("training/config.yaml").read_text().replace("FOLDER", str(folder)))
    renamed._warned.clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run("fit", "--config", config, "--trainer.max_steps", 10, "--ckpt_path", "last")
    said = [str(w.message) for w in caught if "earlier version" in str(w.message)]
    assert len(said) == len(set(said)) > 0
    new = ("infield.priors.training.flow_matching", "infield.datasets.training.fields")  # once each in a process
    assert any(name in message for name in new for message in said), said
    assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] == 10
    found, expected = entries(folder / "last.ckpt"), EXPECTED["training/whole"]["entries"]
    assert found.keys() == expected.keys()
    trained = [where for where in found if "/weights/" in where]
    assert trained
    for where in trained:
        same(found[where].numpy(), expected[where], rtol=1e-4)


# --- names ---


def class_paths(value: object) -> list[str]:
    if isinstance(value, dict):
        own = [value["class_path"]] if "class_path" in value else []
        return own + [path for part in value.values() for path in class_paths(part)]
    return [path for part in value for path in class_paths(part)] if isinstance(value, list) else []


def test_class_paths_of_the_shipped_configurations(files):
    configs = sorted((files / "configs").glob("*.yaml"))
    assert len(configs) == 20
    found = set()
    for config in configs:
        found |= set(class_paths(yaml.safe_load(config.read_text())))
    assert len(found) > 12
    for path in sorted(found):
        module, _, name = path.rpartition(".")
        target = getattr(importlib.import_module(module), name)
        assert f"{target.__module__}:{target.__name__}" == NAMES.get(f"{module}:{name}", f"{MODULES[module]}:{name}")


GONE = {
    "pipelines.blocks": {"samples_in"},
    "datasets.kspace_file": {"FORMATS"},
    "datasets.wall_sensors": {"VERSION"},
    "pipelines.bench": {"BENCHES", "CM21"},
    "pipelines.cli": {"VERBS"},
    "pipelines.convert": {"AXES", "MASKS"},
    "pipelines.prior_choice": {"LIGHTCONES", "SAME", "TRAINED", "about_flow"},
    "pipelines.reconstruct": {"SAMPLERS"},
    "pipelines.samplers": {"DDS", "FAPS", "PMRF", "SAMPLERS"},
    "pipelines.report": {"VERSION"},
    "pipelines.report.page": {"CSS"},
    "pipelines.simulate": {"BRAIN", "CHANNEL", "CM21", "KINDS", "WALL_PRESSURE"},
    "pipelines.simulations": {"BRAIN"},
    "posterior.parameter_inference": {"INSTALL"},
    "posterior.served": {"served"},
    "posterior.twist": {"DENSE_DATA", "SurrogateTwist", "Twist", "twist_of"},
    "priors.average_velocity": {"KINDS"},
    "priors.checkpoint": {"FNO", "KINDS", "NETWORKS"},
    "priors.description": {"COMPONENT_KEYS", "KEYS"},
    "priors.domains": {"TYPE_CHECKING"},
    "priors.emulator_training": {"KINDS"},
    "priors.learned_map": {"KINDS"},
    "priors.lightcone_matching": {"KINDS"},
    "priors.rectified_flow": {"KINDS"},
    "priors.regrid": {"spacing_along"},
    "priors.unrolled": {"KINDS"},
}
"""A twist that a transition replaced; tables by hand, and what they imported, whose entries the registry holds now, and
a property of `core.grid.Axis` that was written again for dictionaries: nothing stands where they stood. Of `served`,
the half that refused a prior is `posterior.samplers.accepts`."""


@pytest.mark.parametrize("module", sorted(OLD_NAMES))
def test_every_old_module_has_its_public_names(module):
    gone = GONE.get(module.removeprefix("infield."), set())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = importlib.import_module(module)
        missing = {name for name in OLD_NAMES[module] if not hasattr(found, name)}
    assert missing <= gone and gone <= set(OLD_NAMES[module])
    if module in MODULES:
        new = importlib.import_module(MODULES[module])
        for name in set(OLD_NAMES[module]) - missing:
            hidden = importlib.util.find_spec(f"{module}.{name}") is not None if hasattr(found, "__path__") else False
            if f"{module}:{name}" not in NAMES and not hidden:  # `bench.pde.run` is the module now
                assert getattr(found, name) is getattr(new, name)


def test_the_table_names_what_is_there():
    for old, new in MODULES.items():
        assert importlib.util.find_spec(new) is not None, new
        assert old in OLD_NAMES, old
    assert set(OLD_NAMES) - set(MODULES) >= {"infield.pipelines.cli"}


def warned(code: str) -> list[str]:
    """Warnings about old names of a program in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    program = [sys.executable, "-W", "always::DeprecationWarning", "-c", code]
    done = subprocess.run(program, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return [line for line in done.stderr.splitlines() if "earlier version" in line]


def test_an_old_name_warns_once_where_it_is_used():
    code = "import infield.posterior.faps\nfrom infield.posterior.faps import FAPS\nimport infield.posterior.faps\n"
    (line,) = warned(code)
    assert line.startswith("<string>:1:") and "infield.posterior.samplers.faps" in line and "minor version" in line
    code = "from infield.physics.noise import GaussianNoise\nfrom infield.physics.noise import GaussianNoise\n"
    (line,) = warned(code)
    assert line.startswith("<string>:1:") and "infield.physics.noise.registry.GaussianNoise" in line


def test_names_that_never_were_are_refused():
    import infield.physics.noise

    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = infield.physics.noise.Nonsense
    with pytest.raises(ImportError):
        importlib.import_module("infield.posterior.never")
    with pytest.raises(ImportError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec("from infield.posterior.faps import Nonsense")


def test_a_renamed_class_is_found_under_its_old_name(monkeypatch):
    from infield.posterior.samplers.faps import FAPS

    monkeypatch.setitem(NAMES, "infield.posterior.faps:Annealing", "infield.posterior.samplers.faps:FAPS")
    monkeypatch.setitem(NAMES, "infield.physics.noise:Normal", "infield.physics.noise.gaussian:GaussianNoise")
    with pytest.warns(DeprecationWarning, match="expected infield.physics.noise.gaussian.GaussianNoise"):
        assert importlib.import_module("infield.physics.noise").Normal.__name__ == "GaussianNoise"
    assert importlib.import_module("infield.posterior.faps").Annealing is FAPS


def test_no_module_of_ours_uses_an_old_name():
    root = Path(infield.__file__).parent
    files = [file for part in root.iterdir() if part.is_dir() for file in part.rglob("*.py")]
    names = [file.relative_to(root).with_suffix("").parts for file in files]
    modules = sorted(".".join(("infield", *(n for n in parts if n != "__init__"))) for parts in names)
    assert len(modules) > 250
    assert warned(f"import importlib\nfor name in {modules!r}: importlib.import_module(name)\n") == []
