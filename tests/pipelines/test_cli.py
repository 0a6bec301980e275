"""The commands' front door: help, versions, exit statuses, and no traceback whatever happens behind it."""

import os
import subprocess
import sys
import types

import pytest
from examples.processes import HANG

import infield as package
from infield import InfieldError
from infield.core import registry

VERBS = (
    "convert simulate fit reconstruct explain calibrate check evaluate bench list cite view doctor demo emulate "
    "compare-cones infer-parameters project"
).split()


def test_help_names_every_verb(infield):
    for flag in ("--help", "-h"):
        said = infield(flag)
        assert said.status == 0 and said.err == "" and said.out.startswith("usage: infield VERB")
        assert all(f"  {verb} " in said.out for verb in VERBS)
    assert tuple(VERBS) == registry.names("commands")


def test_no_arguments_at_all(infield):
    said = infield()
    assert said.status == 2 and "usage: infield VERB" in said.out


def test_version(infield):
    assert infield("--version").out == f"infield {package.__version__}\n"


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "fit"])
def test_help_of_a_verb(infield, verb):
    said = infield(verb, "--help")
    assert said.status == 0 and said.err == ""
    assert f"usage: infield {verb}" in said.out and "--json" in said.out and "--debug" in said.out


@pytest.mark.parametrize("verb", ["recon", "--colour", "", "cli", "../fit"])
def test_unknown_verb(infield, verb):
    infield(verb).refused(
        f"'{verb}'",
        "expected one of convert, simulate, fit, reconstruct, explain, calibrate, check, evaluate, bench, list",
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["reconstruct"], "MEASUREMENT.zarr"),
        (["reconstruct", "m.zarr", "-o"], "-o/--output"),
        (["reconstruct", "m.zarr", "-o", "p.zarr", "--samples", "1.5"], "--samples"),
        (["convert", "ultrasound", "k.npy", "-o", "m.zarr"], "'ultrasound'"),
        (["bench"], "name"),
        (["bench", "speed"], "'speed'"),
        (["demo", "--colour"], "--colour"),
    ],
)
def test_wrong_arguments_are_one_line(infield, arguments, words):
    infield(*arguments).refused(words, f"'infield {arguments[0]} --help' lists the options")


def test_help_of_the_script_imports_no_package_of_others(start):
    """The script itself, not only the function: as the interpreter lists what it imports."""
    imports = {"env": {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}}

    def imported(*arguments):
        running = start("infield", *arguments, **imports)
        out, err = running.communicate(timeout=HANG)
        assert running.returncode == 0 and "usage: infield" in out
        return {line.rsplit("|", 1)[1].strip() for line in err.splitlines() if line.startswith("import time:")}

    first = imported("--help")
    assert "infield.pipelines.cli" in first and not {"torch", "numpy", "xarray", "yaml"} & first
    assert "torch" in imported("fit", "--help-all")  # negative control: Lightning's own options need it


class Odd(Exception):
    def __str__(self):
        return "two\nlines"


RAISED = {
    "ours": (
        InfieldError("m.zarr: 'mask':\n found 3,  expected 4"),
        2,
        "infield demo: m.zarr: 'mask': found 3, expected 4",
    ),
    "a bug": (KeyError("speed"), 1, "infield demo: KeyError: 'speed' (unexpected: please report it"),
    "two lines": (Odd(), 1, "infield demo: Odd: two lines (unexpected"),
    "group": (ExceptionGroup("many", [ValueError("a"), OSError("b")]), 1, "infield demo: ExceptionGroup: many"),
    "memory": (MemoryError(), 1, "infield demo: MemoryError:"),
    "assertion": (AssertionError(), 1, "infield demo: AssertionError:"),
    "Control-C": (KeyboardInterrupt(), 130, "infield demo: interrupted; rerun the same command to resume"),
    "words at leaving": (SystemExit("no such\nthing"), 2, "infield demo: no such thing"),
}


def verb_that_raises(error):
    module = types.ModuleType("infield.pipelines.commands.demo")

    def run(arguments):
        raise error

    module.add_arguments, module.run = lambda parser: None, run
    return module


@pytest.mark.parametrize("case", RAISED)
def test_whatever_is_raised_is_one_line(infield, monkeypatch, case):
    error, status, words = RAISED[case]
    monkeypatch.setitem(sys.modules, "infield.pipelines.commands.demo", verb_that_raises(error))
    said = infield("demo")
    assert said.status == status and said.out == ""
    assert said.err.startswith(words) and said.err.count("\n") == 1 and "Traceback" not in said.err
    if isinstance(error, Exception):
        said = infield("demo", "--debug")
        assert said.status == status and "Traceback (most recent call last)" in said.err


@pytest.mark.parametrize(("code", "status"), [(None, 0), (0, 0), (2, 2), (3, 3)])
def test_a_parser_that_leaves_keeps_its_status(infield, monkeypatch, code, status):
    monkeypatch.setitem(sys.modules, "infield.pipelines.commands.demo", verb_that_raises(SystemExit(code)))
    said = infield("demo")
    assert said.status == status and said.err == ""


def test_a_thread_that_still_computes_does_not_change_the_status():
    """After an error, threads may still hold blocks of samples; the interpreter aborts on those with status 134."""
    program = """
import sys, threading, torch
from infield.pipelines import cli

def work():
    x = torch.randn(1500, 1500)
    while True:
        started.set()
        x @ x

started = threading.Event()
threading.Thread(target=work, daemon=True).start()
started.wait()
sys.argv = ["infield", "nothing"]
sys.exit(cli.main())
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=HANG, check=False)
    assert ended.returncode == 2
    expected = ", ".join(VERBS)
    assert ended.stderr == f"infield: no command 'nothing'; expected one of {expected}\n"


def test_text_that_the_terminal_cannot_show_is_escaped():
    program = (
        "import sys; from infield.pipelines.cli import main; sys.argv = ['infield', 'm\u00e4\u00df']; sys.exit(main())"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
    words = [sys.executable, "-c", program.encode("unicode_escape").decode()]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=HANG, check=False, env=environment)
    assert ended.returncode == 2 and ended.stderr.startswith(r"infield: no command 'm\xe4\xdf'"), ended.stderr
