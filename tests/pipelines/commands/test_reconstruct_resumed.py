"""The command `reconstruct` killed, interrupted, or over an older output: nothing is lost, samples are the same."""

import signal
from pathlib import Path

import pytest
import zarr
from examples.example_files import line, plane, samples, save
from examples.processes import HANG
from examples.zarr_files import contents

from infield import InfieldError
from infield.datasets.formats.posterior import PosteriorWriter, open_posterior
from infield.posterior.samplers.base import BLOCK


@pytest.fixture
def on_line(tmp_path):
    return save(line(), tmp_path / "line.zarr")


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


WRAPPED = "prior: gaussian\nlaw: {law: matern, nu: 1.5, length: 0.3, wrap: true}\n"


def four_blocks(path: Path, output: Path, number=4 * BLOCK) -> list:
    steps = ["--with", "levels=2", "--with", "langevin_steps=4", "--with", "flow_steps=2", "--with", "rank_steps=2"]
    prior = written(path.parent / "prior.yaml", WRAPPED)  # on a torus of the domain's own size: quick steps
    flags = ["--prior", prior, "--sampler", "faps-published", "--samples", number, "--workers", 1, "--json"]
    return [path, "-o", output, *flags, *steps]


def blocks_done(partial: Path) -> int:
    try:
        return int((zarr.open_group(partial, mode="r", use_consolidated=False)["done"][...] == 1).sum()) // BLOCK
    except (FileNotFoundError, KeyError):  # not laid out yet
        return 0


@pytest.fixture
def wide(tmp_path):
    return save(plane((24, 32)), tmp_path / "m.zarr")


def test_a_run_killed_twice_goes_on_to_the_same_bytes(tmp_path, reconstruct, start_held, wide):
    output, partial = tmp_path / "p.zarr", tmp_path / "p.zarr.partial"
    before = 0
    for more in (1, 2):
        running = start_held("reconstruct", *four_blocks(wide, output), held_after=more)
        running.send_signal(signal.SIGKILL)
        running.communicate()
        assert running.returncode == -signal.SIGKILL and not output.exists()
        before += more
        assert blocks_done(partial) == before < 4
        with pytest.raises(InfieldError, match="'infield_complete': found 0, expected 1"):
            open_posterior(partial)
    kept = {name: (partial / name).stat().st_mtime_ns for name in contents(partial) if name.startswith("samples/c")}
    assert reconstruct(*four_blocks(wide, output)).summary["samples"] == 4 * BLOCK
    assert not partial.exists()
    assert all((output / name).stat().st_mtime_ns == moment for name, moment in list(kept.items())[:before])
    assert reconstruct(*four_blocks(wide, tmp_path / "whole.zarr")).status == 0
    files = {"samples", "mean", "std", "done"}
    killed, whole = contents(output), contents(tmp_path / "whole.zarr")
    assert killed.keys() == whole.keys()
    assert all(killed[name] == whole[name] for name in whole if name.split("/")[0] in files)
    assert reconstruct(*four_blocks(wide, tmp_path / "other.zarr", 1), "--seed", 1).status == 0
    assert samples(tmp_path / "other.zarr").tobytes() != samples(output)[:1].tobytes()  # negative control


def test_an_interrupted_run_says_so_and_goes_on(tmp_path, reconstruct, start_held, wide):
    """Control-C in a process of its own."""
    output, partial = tmp_path / "p.zarr", tmp_path / "p.zarr.partial"
    running = start_held("reconstruct", *four_blocks(wide, output), held_after=1)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=HANG)
    assert running.returncode == 130 and out == "held\n"
    assert err == "infield reconstruct: interrupted; rerun the same command to resume\n"
    assert not output.exists() and blocks_done(partial) == 1
    assert reconstruct(*four_blocks(wide, output)).summary["samples"] == 4 * BLOCK


def interrupted_after(blocks, monkeypatch):
    """Make the run stop as by Control-C before the block of this number is written."""
    write_block, count = PosteriorWriter.write_block, [0]

    def stop(self, *arguments):
        if count[0] == blocks:
            raise KeyboardInterrupt
        count[0] += 1
        write_block(self, *arguments)

    monkeypatch.setattr(PosteriorWriter, "write_block", stop)


@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_interrupted_between_blocks(tmp_path, reconstruct, on_line, monkeypatch, blocks):
    command = [on_line, "--prior", "matern-3/2", "--samples", 2 * BLOCK + 1, "--json"]
    with monkeypatch.context() as patch:
        interrupted_after(blocks, patch)
        said = reconstruct(*command, "-o", tmp_path / "p.zarr")
    assert said.status == 130 and said.err.count("\n") == 1 and "interrupted" in said.err
    assert not (tmp_path / "p.zarr").exists()
    assert (tmp_path / "p.zarr.partial").exists() == (blocks > 0)  # nothing is left where nothing is worth keeping
    assert reconstruct(*command, "-o", tmp_path / "p.zarr").status == 0
    assert reconstruct(*command, "-o", tmp_path / "whole.zarr").status == 0
    assert samples(tmp_path / "p.zarr").tobytes() == samples(tmp_path / "whole.zarr").tobytes()


OTHER = {
    "seed": ["--seed", 1],
    "samples": ["--samples", 2 * BLOCK + 2],
    "sampler": ["--sampler", "exact"],
    "sampler_parameters": ["--with", "levels=2"],
    "prior": ["--prior", "matern-5/2"],
}


def test_other_settings_do_not_go_on(tmp_path, reconstruct, on_line, monkeypatch):
    """Each is refused by its name, and what was drawn stays."""
    command = [on_line, "-o", tmp_path / "p.zarr", "--prior", "matern-3/2", "--samples", 2 * BLOCK + 1, "--json"]
    command += ["--sampler", "faps"]  # whose parameters are changed
    with monkeypatch.context() as patch:
        interrupted_after(1, patch)
        assert reconstruct(*command).status == 130
    before = contents(tmp_path)
    for key, flags in OTHER.items():
        said = reconstruct(*command, *flags)
        said.refused("p.zarr.partial", f"'{key}': found", "expected", "remove")
    other = save(line(std=0.4), tmp_path / "other.zarr")
    reconstruct(other, *command[1:]).refused("p.zarr.partial", "found", "expected", "remove")
    assert {name: data for name, data in contents(tmp_path).items() if not name.startswith("other.zarr")} == before
    assert reconstruct(*command).status == 0


def test_overwriting_keeps_the_old_posterior_until_the_new_one_is_whole(tmp_path, reconstruct, on_line, monkeypatch):
    command = [on_line, "-o", tmp_path / "p.zarr", "--samples", BLOCK + 1, "--json"]
    assert reconstruct(*command).status == 0
    before = contents(tmp_path / "p.zarr")
    with monkeypatch.context() as patch:
        interrupted_after(1, patch)
        assert reconstruct(*command, "--seed", 1, "--overwrite").status == 130
    assert contents(tmp_path / "p.zarr") == before
    assert reconstruct(*command, "--seed", 1, "--overwrite").status == 0
    assert open_posterior(tmp_path / "p.zarr").attrs["seed"] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["line.zarr", "p.zarr"]
