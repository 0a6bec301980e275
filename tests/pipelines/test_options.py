"""The command line renders the parameters of library errors as its options, in the line that it prints."""

import argparse
import subprocess
import sys

import pytest

from infield import InfieldError
from infield.pipelines import cli
from infield.pipelines.options import as_option


@pytest.mark.parametrize(
    "name, value, option",
    [
        ("sampler", "faps", "--sampler faps"),
        ("hold_out", None, "--hold-out"),
        ("extrapolate", True, "--extrapolate"),
        ("depth", 10, "--depth 10"),
        ("depth", 0, "--depth 0"),
        ("order", ("time", "z", "x"), "--order time,z,x"),
        ("slice_number", 3, "--slice 3"),
        ("numbers", None, "--slice A-B"),
        ("acceleration", None, "--acceleration"),
        ("box", None, "--box-size"),
        ("delay_channels", 4, "--channels-per-segment 4"),
        ("template", None, "--with template=FOLDER"),
    ],
)
def test_parameters_are_options(name, value, option):
    assert as_option(name, value) == option


class Verb:
    """A command whose run ends in an error of the library."""

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        pass

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        error = InfieldError(where="sampler smc", found="9 data", expected="at most\n 4", remedy="use {sampler}",
                             parameters={"sampler": "faps"})  # fmt: skip
        raise error.within("m.zarr") from error


def test_the_command_prints_options_and_python_arguments(monkeypatch, capsys):
    monkeypatch.setattr(cli.registry, "load", lambda group, name: Verb)
    assert cli.main(["reconstruct"]) == 2
    line = "infield reconstruct: m.zarr: sampler smc: found 9 data, expected at most 4; use --sampler faps\n"
    assert capsys.readouterr().err == line
    with pytest.raises(InfieldError, match=r'expected at most\n 4; use sampler="faps"$'):
        Verb.run(argparse.Namespace())


def test_an_existing_output_names_the_option(tmp_path, capsys):
    path = tmp_path / "f.zarr"
    command = ["simulate", "process", "--law", "gibbs", "-o", str(path), "--samples", "1"]
    (path).mkdir()
    assert cli.main(command) == 2
    expected = f"{path}: found an existing output, expected a new path; choose another, or replace it (--overwrite)\n"
    assert capsys.readouterr().err.endswith(expected)


def test_errors_of_a_task_come_back_with_their_fields():
    """From another process, as Dask sends them: the class, every field, and a line that is rendered here."""
    code = (
        "import pickle, sys; from infield.core.errors import ArgumentError\n"
        "error = ArgumentError(where='{hold_out}', found='2', expected='1', parameters=['hold_out']).within('cone 1')\n"
        "sys.stdout.buffer.write(pickle.dumps(error))"
    )
    error = pickle_of(code)
    assert type(error).__name__ == "ArgumentError" and error.found == "2"
    assert error.render(as_option) == "cone 1: --hold-out: found 2, expected 1"


def pickle_of(code: str):
    import pickle

    return pickle.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
