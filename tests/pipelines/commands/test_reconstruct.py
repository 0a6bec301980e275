"""The command `reconstruct`: from a measurement file to posterior samples that are the same however they were drawn."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from distributed import LocalCluster
from examples.example_files import GAUSSIAN, MIXTURE, checkpoint, line, plane, samples, save, scattered

from infield.datasets.formats.measurement import measurement_digest, open_measurement
from infield.datasets.formats.posterior import PosteriorWriter, open_posterior
from infield.datasets.mri.converted import open_held_out
from infield.physics.operators.registry import build_operator
from infield.posterior.diagnostics.calibration import predictive_chi_square, relative_l2
from infield.posterior.samplers.exact import posterior_mean
from infield.priors.storage.checkpoint import load_flow_prior
from infield.priors.storage.from_yaml import prior_from_description

REAL = "sigpy_cartesian_ksp.npy"
SMALL = ["--with", "levels=3"]


@pytest.fixture
def on_line(tmp_path):
    return save(line(), tmp_path / "line.zarr")


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_the_posterior_says_what_it_is(tmp_path, reconstruct, on_line):
    """What plain xarray reads, and the one JSON object of `--json`."""
    prior, output = checkpoint(tmp_path / "prior.ckpt"), tmp_path / "p.zarr"
    said = reconstruct(on_line, "-o", output, "--prior", prior, "--samples", 6, "--seed", 5, *SMALL, "--json")
    assert said.err == "" and said.summary["output"] == str(output) and said.summary["sampler"] == "faps-flow"
    digest = load_flow_prior(prior).sha256
    assert said.summary["prior_sha256"] == digest and said.summary["prior"] == "prior.ckpt: a small flow"
    with xr.open_zarr(output, consolidated=False) as posterior:
        x, attributes = posterior["samples"], posterior.attrs
        assert x.dims == ("sample", "x") and x.shape == (6, 17) and x.attrs["units"] == "K"
        np.testing.assert_allclose(posterior["mean"], x.astype(float).mean("sample"), rtol=1e-6)
        np.testing.assert_allclose(posterior["std"], x.astype(float).std("sample", ddof=1), rtol=1e-5)
        assert posterior["x"].attrs["units"] == "1" and posterior["x"].values.tolist() == np.linspace(0, 1, 17).tolist()
        assert (posterior["done"] == 1).all() and attributes["Conventions"] == "CF-1.11"
    assert (attributes["infield_complete"], attributes["seed"], attributes["prior_sha256"]) == (1, 5, digest)
    assert json.loads(attributes["sampler_parameters"])["levels"] == 3
    assert attributes["measurement_sha256"] == measurement_digest(on_line)
    diagnosed = json.loads(attributes["diagnostics"])["chi_square"]
    chi_square = open_measurement(on_line).chi_square(torch.from_numpy(samples(output))[:, None].double()).mean()
    assert said.summary["chi_square"] == diagnosed == pytest.approx(float(chi_square), rel=1e-12)
    assert said.summary["velocity_calls"] > 0 and said.summary["seconds"] > 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["line.zarr", "p.zarr", "prior.ckpt"]


def test_without_a_prior_one_is_fitted_and_that_is_said(tmp_path, reconstruct, on_line):
    said = reconstruct(on_line, "-o", tmp_path / "p.zarr", "--samples", 2)
    assert said.status == 0 and said.err.count("\n") == 1
    assert said.err.startswith("no prior from elsewhere: Gaussian fitted to the data")
    assert "p.zarr" in said.out and "2 by kriging" in said.out
    assert open_posterior(tmp_path / "p.zarr").attrs["prior"].startswith("fitted: Gaussian fitted to the data")
    quiet = reconstruct(on_line, "-o", tmp_path / "q.zarr", "--samples", 2, "--json")
    assert quiet.err == "" and quiet.summary["prior"].startswith("fitted: ")
    assert samples(tmp_path / "p.zarr").tobytes() == samples(tmp_path / "q.zarr").tobytes()


PRIORS = {
    "built-in": lambda folder: "matern-3/2",
    "gaussian": lambda folder: written(folder / "prior.yaml", GAUSSIAN + "mean: 280\nscale: 3\nunits: K\n"),
    "mixture": lambda folder: written(folder / "prior.yaml", MIXTURE + "mean: 280\nscale: 3\nunits: K\n"),
    "checkpoint": lambda folder: checkpoint(folder / "prior.ckpt"),
}


@pytest.mark.parametrize("kind", PRIORS)
def test_every_kind_of_prior(tmp_path, reconstruct, on_line, kind):
    prior = PRIORS[kind](tmp_path)
    command = [on_line, "--prior", prior, "--samples", 4, *SMALL]
    said = reconstruct(*command, "-o", tmp_path / "p.zarr", "--json")
    assert said.summary["prior"].startswith(f"{Path(prior).name if kind != 'built-in' else prior}: ")
    x = samples(tmp_path / "p.zarr")
    assert x.shape == (4, 17) and np.isfinite(x).all() and 250 < x.mean() < 310
    aloud = reconstruct(*command, "-o", tmp_path / "q.zarr")
    assert aloud.status == 0 and aloud.err.count("\n") == (1 if kind == "built-in" else 0)


@pytest.mark.parametrize("description", [GAUSSIAN, MIXTURE])
@pytest.mark.parametrize("sampler", ["faps", "exact"])
def test_samples_are_of_the_posterior(tmp_path, reconstruct, sampler, description):
    """Mean of many draws against the exact posterior mean; the prior's own mean is far away. FAPS is exact for a
    Gaussian prior and near it for a mixture."""
    path, prior = save(scattered(), tmp_path / "m.zarr"), written(tmp_path / "prior.yaml", description)
    flags = ["--with", "levels=20"] if sampler == "faps" else []
    said = reconstruct(
        path, "-o", tmp_path / "p.zarr", "--prior", prior, "--sampler", sampler, "--samples", 200, *flags
    )
    assert said.status == 0, said.err
    measurement, posterior = open_measurement(path), open_posterior(tmp_path / "p.zarr")
    exact = posterior_mean(_closed_form(prior, measurement), measurement).numpy()[0]
    mean, std = posterior["mean"].values, posterior["std"].values
    error = np.sqrt(np.mean((mean - exact) ** 2) / np.mean(std**2))
    assert error < (0.4 if (sampler, description) == ("faps", MIXTURE) else 0.2)  # draws alone: 1 / sqrt(200) = 0.07
    assert np.sqrt(np.mean(exact**2) / np.mean(std**2)) > 1.5
    assert posterior["mean"].attrs["units"] == "m" and set(posterior["mean"].coords) == {"position"}


def _closed_form(path, measurement):
    import yaml

    return prior_from_description(yaml.safe_load(path.read_text()), measurement.grid, 1)


def test_a_prior_in_other_words_gives_other_samples(tmp_path, reconstruct, on_line):
    first, second = (written(tmp_path / f"{n}.yaml", GAUSSIAN + f"mean: {n}\n") for n in (280, 281))
    for prior, output in ((first, "a.zarr"), (second, "b.zarr")):
        assert reconstruct(on_line, "-o", tmp_path / output, "--prior", prior, "--samples", 2).status == 0
    a, b = (open_posterior(tmp_path / name) for name in ("a.zarr", "b.zarr"))
    assert a.attrs["prior_sha256"] != b.attrs["prior_sha256"]
    assert not np.array_equal(a["samples"], b["samples"])


FEW, MANY = plane((12, 16)), plane((44, 44), share=0.95)
SETTINGS = {
    "few data": (FEW, ["--prior", "matern-3/2"]),
    "many data": (MANY, ["--prior", "GAUSSIAN"]),
    "levels": (FEW, ["--prior", "matern-3/2", "--with", "levels=3"]),
    "published": (FEW, ["--prior", "matern-3/2", "--sampler", "faps-published", "--with", "levels=2",
                        "--with", "langevin_steps=4"]),
    "network": (line(), ["--prior", "CHECKPOINT", *SMALL]),
    "mixture": (line(), ["--prior", "MIXTURE", "--sampler", "exact"]),
}  # fmt: skip


@pytest.mark.parametrize("case", SETTINGS)
def test_a_sample_depends_on_seed_and_number_alone(tmp_path, reconstruct, case):
    """Bit for bit the same among 3 or 9, by one worker or two; other numbers and seeds differ."""
    dataset, flags = SETTINGS[case]
    files = {"CHECKPOINT": checkpoint(tmp_path / "prior.ckpt")}
    files |= {
        name: written(tmp_path / f"{name}.yaml", text) for name, text in (("GAUSSIAN", GAUSSIAN), ("MIXTURE", MIXTURE))
    }
    flags = [files.get(flag, flag) for flag in flags]
    path = save(dataset, tmp_path / "m.zarr")
    assert case != "many data" or open_measurement(path).count > 1500  # conjugate gradients, not matrices

    def drawn(name, *more):
        said = reconstruct(path, "-o", tmp_path / name, *flags, *more, "--json")
        assert said.status == 0, said.err
        return samples(tmp_path / name)

    nine = drawn("nine.zarr", "--samples", 9, "--workers", 1)
    three = drawn("three.zarr", "--samples", 3, "--workers", 1)
    two_workers = drawn("two.zarr", "--samples", 9, "--workers", 2)
    other = drawn("other.zarr", "--samples", 9, "--seed", 1)
    assert three.tobytes() == nine[:3].tobytes() and two_workers.tobytes() == nine.tobytes()
    assert len({x.tobytes() for x in np.concatenate([nine, other])}) == 18


def test_a_dask_scheduler_draws_the_same_samples(tmp_path, reconstruct):
    path = save(plane(), tmp_path / "m.zarr")
    command = [path, "--prior", "matern-3/2", "--samples", 9, "--json"]
    assert reconstruct(*command, "-o", tmp_path / "here.zarr").status == 0
    pages = dict.fromkeys(("dashboard_address", "worker_dashboard_address"), "127.0.0.1:0")
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, protocol="tcp", host="127.0.0.1", **pages
    ) as cluster:
        assert cluster.scheduler_address.startswith("tcp://127.0.0.1:")
        said = reconstruct(*command, "-o", tmp_path / "there.zarr", "--scheduler", cluster.scheduler_address)
        assert said.status == 0, said.err
    assert samples(tmp_path / "there.zarr").tobytes() == samples(tmp_path / "here.zarr").tobytes()


def test_local_work_opens_no_port_to_the_network(tmp_path, reconstruct, on_line, monkeypatch):
    """Dask's status pages listen on this machine alone."""
    if not Path("/proc/net/tcp").exists():
        pytest.skip("the system lists no sockets under /proc")
    seen = []
    write_block = PosteriorWriter.write_block
    monkeypatch.setattr(PosteriorWriter, "write_block", lambda *a: (seen.append(_listening()), write_block(*a))[1])
    assert reconstruct(on_line, "-o", tmp_path / "p.zarr", "--samples", 2).status == 0
    assert seen and not {address for address in seen[0] if not address.endswith("0100007F")}


def _listening() -> set[str]:
    """Addresses at which this process listens, in hexadecimal."""
    mine = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            mine.add(os.readlink(descriptor))
        except OSError:
            continue
    rows = [row.split() for table in ("tcp", "tcp6") for row in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
    return {row[1].split(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in mine}


@pytest.mark.slow
def test_both_console_scripts_are_the_same_command(tmp_path, process, on_line):
    outputs = []
    for script, verb in (("infield", ["reconstruct"]), ("reconstruct", [])):
        output = tmp_path / f"{script}.zarr"
        said = process(script, *verb, on_line, "-o", output, "--samples", 3, "--json")
        assert said.summary["samples"] == 3 and said.err == ""
        outputs.append(samples(output).tobytes())
    assert outputs[0] == outputs[1]


def test_a_report_beside_the_samples(tmp_path, reconstruct):
    path, report = save(plane(), tmp_path / "m.zarr"), tmp_path / "r.html"
    said = reconstruct(path, "-o", tmp_path / "p.zarr", "--samples", 4, "--report", report, "--json")
    assert said.summary["samples"] == 4 and report.read_text().lstrip().lower().startswith("<!doctype html>")


@pytest.mark.slow
def test_a_sampler_that_seeks_modes_says_so(tmp_path, reconstruct):
    """In the summary, the file, on the screen and in the report; samplers of the posterior say no such thing."""
    path, report = save(plane(), tmp_path / "m.zarr"), tmp_path / "r.html"
    command = [path, "--prior", "matern-3/2", "--samples", 3]
    red = [*command, "--sampler", "red-diff", "--with", "steps=5"]
    caveat = "spread is not a posterior"
    assert caveat in reconstruct(*red, "-o", tmp_path / "p.zarr", "--report", report, "--json").summary["caveat"]
    with xr.open_zarr(tmp_path / "p.zarr", consolidated=False) as posterior:
        assert caveat in json.loads(posterior.attrs["diagnostics"])["caveat"]
        assert posterior.attrs["result"] == "estimate"
    assert caveat in report.read_text() and "They are not draws of the posterior" in report.read_text()
    said = reconstruct(*red, "-o", tmp_path / "q.zarr")
    assert said.status == 0 and caveat in said.out + said.err
    honest = reconstruct(*command, "-o", tmp_path / "r.zarr", "--report", tmp_path / "s.html", "--json")
    assert (
        not {"caveat", "result"} & honest.summary.keys()
        and "draws of the posterior:" not in (tmp_path / "s.html").read_text()
    )


def example() -> str | None:
    """The block of the documentation that writes a measurement file."""
    page = (Path(__file__).parents[3] / "docs" / "formats.md").read_text(encoding="utf-8")
    blocks = [part.split("```")[0] for part in page.split("```python")[1:]]
    return next((block for block in blocks if "to_zarr" in block), None)


def test_the_example_of_the_documentation(tmp_path, reconstruct, monkeypatch):
    """A file written with xarray alone, as the documentation shows, is one that the command takes."""
    code = example()
    assert code is not None
    assert "infield" not in [word for row in code.splitlines() if "import" in row for word in row.split()]
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "formats.md", "exec"), {})
    (path,) = tmp_path.glob("*.zarr")
    measurement = open_measurement(path)
    said = reconstruct(path, "-o", tmp_path / "p.zarr", "--samples", 16, "--json")
    assert 0.7 < said.summary["chi_square"] < 1.4
    mean = torch.from_numpy(open_posterior(tmp_path / "p.zarr")["mean"].values)[None, None].double()
    assert relative_l2(mean, measurement.truth) < 0.5 * relative_l2(measurement.y, measurement.truth)


def real_kspace() -> Path:
    if "INFIELD_DATA" not in os.environ:
        pytest.skip("INFIELD_DATA does not name the folder of the real data")
    source = Path(os.environ["INFIELD_DATA"]) / "mri" / REAL
    if not source.exists():
        pytest.skip(f"{source} is not there")
    return source


@pytest.mark.slow
def test_real_kspace(tmp_path, infield, reconstruct):
    """A tenth of the samples of a real slice is set aside: predicted better than by zero-filling and CG-SENSE, and with
    the right spread. Negative control: a quarter of the draws' deviation."""
    from sigpy.mri.app import SenseRecon

    source, brain = real_kspace(), tmp_path / "brain.zarr"
    assert infield("convert", "mri", source, "-o", brain, "--hold-out", 0.1).status == 0
    assert reconstruct(brain, "-o", tmp_path / "p.zarr", "--samples", 16).status == 0
    measurement, (held_out_mask, held_out_y) = open_measurement(brain), open_held_out(brain)
    arrays = {**measurement.arrays, measurement.description["arrays"]["mask"]: held_out_mask.numpy()}
    held_out = build_operator(measurement.description, arrays, measurement.grid, 2)
    y = held_out_y[0][held_out.observed]
    draws = torch.from_numpy(samples(tmp_path / "p.zarr")).double()

    def predicted(x):
        return held_out.A(x)[:, held_out.observed]

    def cg_sense(iterations):
        """The images of CG-SENSE after each of so many iterations."""
        kspace = (measurement.y[0, 0] + 1j * measurement.y[0, 1]).numpy().astype(np.complex64)
        maps = arrays["coil_maps"].astype(np.complex64)
        recon = SenseRecon(kspace, maps, max_iter=iterations, lamda=0, show_pbar=False)
        while not recon.alg.done():
            recon.alg.update()
            yield torch.from_numpy(np.stack([recon.alg.x.real, recon.alg.x.imag]))[None].double()

    error = relative_l2(predicted(draws).mean(0), y)
    assert error < relative_l2(predicted(measurement.operator.A_adjoint(measurement.y))[0], y)
    cg_errors = [relative_l2(predicted(image)[0], y) for image in cg_sense(30)]
    assert len(cg_errors) == 30 and error < min(cg_errors)
    variance = (measurement.noise.variance * torch.ones_like(measurement.y[0]))[held_out.observed]
    assert 0.7 < predictive_chi_square(predicted(draws), variance, y) < 1.4
    assert predictive_chi_square(predicted(draws.mean(0) + 0.25 * (draws - draws.mean(0))), variance, y) > 1.4


SCALED = MIXTURE + "mean: 280\nscale: 3\n"


@pytest.mark.parametrize(("prior", "collapsed"), [(SCALED, False), (MIXTURE, True)])
def test_particles_report_their_island_and_their_collapse(tmp_path, reconstruct, prior, collapsed):
    """Data 280 standard deviations from the mean of a prior leave one particle, and that is said."""
    path = save(line(), tmp_path / "m.zarr")
    (tmp_path / "prior.yaml").write_text(prior)
    command = [
        path,
        "--prior",
        tmp_path / "prior.yaml",
        "--sampler",
        "smc",
        "--with",
        "island=24",
        "--with",
        "steps=20",
    ]
    said = reconstruct(*command, "-o", tmp_path / "p.zarr", "--samples", 40)
    assert said.status == 0, said.err
    assert ("particles collapsed" in said.out + said.err) == collapsed and "log evidence" in said.out
    with xr.open_zarr(tmp_path / "p.zarr", consolidated=False) as posterior:
        blocks = json.loads(posterior.attrs["block_diagnostics"])
        assert posterior.sizes["block"] == 2 and list(blocks) == ["0", "1"]
        mean = sum(block["log_evidence"] for block in blocks.values()) / 2
        assert json.loads(posterior.attrs["diagnostics"])["log_evidence"] == pytest.approx(mean)
    again = reconstruct(*command, "-o", tmp_path / "q.zarr", "--samples", 24)
    assert again.status == 0
    np.testing.assert_array_equal(samples(tmp_path / "q.zarr"), samples(tmp_path / "p.zarr")[:24])
