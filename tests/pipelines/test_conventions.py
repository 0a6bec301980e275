"""The conventions of the command line, over every parser that the registry leads to."""

import argparse
import re
from functools import cache
from pathlib import Path

import pytest

from infield import InfieldError
from infield.core import registry
from infield.pipelines import cli
from infield.pipelines.run.options import SHORT_FORMS, Parser, check_at_least, refuse_without

COMMON = ("--json", "--quiet", "--debug", "--version")

SILENT = ([], argparse.SUPPRESS)
"""Defaults of options that may be repeated, and of those that stand twice."""

UNITS = (
    r"\b(mm|Mpc|m|MHz|GiB|km/s/Mpc|rad/Mpc|hours|seconds|degrees|wall units|half heights|eddy turnovers|own units)\b"
    r"|\b(pixels|factor|camera light)\b|\bunits of the file\b|\b(years|kg|fraction|number|redshift|over|times)\b"
    r"|rho u_tau\^2"
)
"""What the help of an option with a real number says: its unit, or which pure number it is."""

RENAMED = {
    "convert mri": {"--accelerate": "--acceleration", "--center-fraction": "--centre-fraction"},
    "convert wall-sensors": {"--sample": "--index", "--share": "--fraction", "--noise": "--noise-std"},
    "convert lightcone": {"--box": "--box-size"},
    "convert lightcone-observation": {
        "--sample": "--index",
        "--hours-a-day": "--hours-per-day",
        "--channel-cells": "--cells-per-channel",
        "--delay-channels": "--channels-per-segment",
        "--buffer": "--wedge-buffer",
    },
    "simulate 21cm": {"--n": "--samples", "--box": "--box-size"},
    "simulate pet": {"--n": "--samples"},
    "emulate": {"--redshift": "--redshift-range"},
    "infer-parameters": {"--samples": "--draws", "--held-out": "--hold-out"},
    "bench cm21": {"--samples": "--draws", "--json": "--records"},
}
"""Options by their earlier names, without `--json FILE` of the other benches."""


GROUPS = {"convert": "converters", "simulate": "simulators", "bench": "benches"}
VERBS = [verb for verb in registry.names("commands") if verb != "fit"]  # fit's parser is Lightning's
WITHIN = [f"{verb} {name}" for verb, group in GROUPS.items() for name in registry.names(group)]
LEAVES = [verb for verb in VERBS if verb not in GROUPS] + WITHIN
EVERY = VERBS + WITHIN


@cache
def parsers():
    """Every parser by the words that lead to it."""
    found = {}
    for verb in VERBS:
        parser = found[verb] = cli.parser_of(verb, registry.load("commands", verb))
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for name, one in action.choices.items():
                    one.fill()
                    found[f"{verb} {name}"] = one
    return found


def options(parser):
    return [action for action in parser._actions if action.option_strings]


def each(words):
    return pytest.mark.parametrize("words", words)


def test_every_command_is_walked():
    assert sorted(parsers()) == sorted(EVERY)
    assert [words for words, parser in parsers().items() if parser._subparsers is not None] == list(GROUPS)


@each(EVERY)
def test_a_name_is_never_abbreviated(words):
    parser = parsers()[words]
    assert isinstance(parser, Parser) and not parser.allow_abbrev


def test_the_beginning_of_a_name_is_refused(infield):
    required = ("--prior", "p.ckpt", "--params", "p.yaml", "-o", "c.zarr")
    infield("emulate", *required, "--sample", 5).refused("unrecognized arguments: --sample 5")
    said = infield("fit", "--conf", "fit.yaml")
    assert said.status == 2 and "unrecognized arguments: --conf" in said.err


@each(EVERY)
def test_every_option_has_help_with_its_default(words):
    for action in parsers()[words]._actions:
        name = "/".join(action.option_strings) or action.dest
        assert action.help and action.help != argparse.SUPPRESS, name
        if action.default is not None and type(action.default) is not bool and action.default not in SILENT:
            assert "default" in action.help, name
        if action.type is float:
            assert re.search(UNITS, action.help), f"{name}: {action.help}"


@each(EVERY)
def test_a_short_form_is_one_option_everywhere(words):
    for action in options(parsers()[words]):
        short = [form for form in action.option_strings if not form.startswith("--")]
        long = set(action.option_strings) - set(short)
        assert len(long) == 1
        expected = ["-h"] if "--help" in long else [form for form, names in SHORT_FORMS.items() if long & set(names)]
        assert short == expected


@each(LEAVES)
def test_every_command_has_the_common_options(words):
    names = {name for action in options(parsers()[words]) for name in action.option_strings}
    assert names.issuperset(COMMON)
    assert (
        "--output" in names
        or words.startswith("bench ")
        or words in ("check", "cite", "doctor", "evaluate", "list", "view")
    )


@each(EVERY)
def test_no_option_has_a_name_of_one_letter_or_an_underscore(words):
    for action in options(parsers()[words]):
        assert all(re.fullmatch(r"-[A-Za-z]|--[a-z]+(-[a-z]+)*", form) for form in action.option_strings)


def value_of(action):
    """Words that an option or a positional argument can be given."""
    if action.nargs == 0:
        return []
    one = str(action.choices[0]) if action.choices else {int: "3", float: "0.5"}.get(action.type, "1")
    return [one] * (action.nargs if isinstance(action.nargs, int) else 1)


def required_of(parser, without):
    """The least that a parser takes, but for one option."""
    words = []
    for action in parser._actions:
        if action.required and action is not without:
            words += [*action.option_strings[-1:], *value_of(action)]
    for group in parser._mutually_exclusive_groups:
        if group.required and without not in group._group_actions:
            first = group._group_actions[0]
            words += [first.option_strings[-1], *value_of(first)]
    return words


@pytest.mark.parametrize(
    ("words", "old", "new"), [(words, *pair) for words, table in RENAMED.items() for pair in table.items()]
)
def test_an_old_name_warns_and_means_the_new_one(words, old, new, capsys):
    parser = parsers()[words]
    action = next(action for action in options(parser) if new in action.option_strings)
    values, least = value_of(action), required_of(parser, action)

    def parsed(*given):
        namespace = parser.parse_args([*least, *given])
        return vars(namespace), capsys.readouterr().err

    expected = parsed(new, *values)
    assert expected[1] == ""
    warning = f"infield {words}: {old} is now {new}; the old name goes in the next minor version\n"
    assert parsed(old, *values) == (expected[0], warning)
    if len(values) == 1:
        assert parsed(f"{old}={values[0]}") == (expected[0], warning)


def test_no_other_name_is_old():
    found = {
        words: {old: renamed.new for old, renamed in parser.renamed.items()} for words, parser in parsers().items()
    }
    benches = {f"bench {name}": {"--json": "--records"} for name in registry.names("benches")}
    assert {w: t for w, t in found.items() if t} == {"bench": {"--json": "--records"}, **benches, **RENAMED}


def test_json_of_a_bench_is_a_switch_and_once_was_a_file(capsys):
    def parsed(*words):
        found = cli.parser_of("bench", registry.load("commands", "bench")).parse_args(words)
        return found.json, found.records, capsys.readouterr().err.count("--json is now --records")

    assert parsed("mixture", "--json") == parsed("--json", "mixture") == (True, None, 0)
    assert parsed("mixture", "--json", "--seed", "1") == (True, None, 0)
    expected = (False, Path("m.json"), 1)
    assert parsed("mixture", "--json", "m.json") == parsed("--json", "m.json", "mixture") == expected
    assert parsed("mixture", "--json=m.json") == expected


def test_words_behind_two_dashes_are_no_options(capsys):
    parser = Parser(prog="infield")
    parser.add_argument("--new", action="store_true")
    parser.add_argument("rest", nargs="*")
    parser.rename("--old", "--new")
    found = parser.parse_args(["--old", "--old", "--", "--old"])
    assert found.new and found.rest == ["--old"]
    assert capsys.readouterr().err.count("--old is now --new") == 1


IGNORED = {
    "two kinds of workers": (
        ("simulate", "poisson", "-o", "p.zarr", "-j", 2, "--scheduler", "nowhere"),
        "--workers: found --scheduler nowhere",
    ),
    "workers": (("simulate", "poisson", "-o", "p.zarr", "-j", 0), "--workers: found 0, expected at least 1"),
    "samples": (("simulate", "poisson", "-o", "p.zarr", "-n", 0), "--samples: found 0, expected at least 1"),
    "multiple": (
        ("simulate", "wall-pressure", "--re-tau", 180, "-o", "p.zarr", "--multiple", 0),
        "--multiple: found 0, expected at least 1",
    ),
    "setting twice": (
        ("simulate", "poisson", "-o", "p.zarr", "--with", "tau=5", "--with", "tau=6"),
        "--with: found tau twice",
    ),
    "sampler's setting twice": (
        ("reconstruct", "m.zarr", "-o", "p.zarr", "--with", "levels=5", "--with", "levels=6"),
        "--with: found levels twice",
    ),
    "halo": (("reconstruct", "m.zarr", "-o", "p.zarr", "--halo", 2), "--halo: found no --tiles"),
    "slices and tiles": (
        ("reconstruct", "m.zarr", "-o", "p.zarr", "--slices", 2, "--tiles", 8, 8),
        "--slices: found --tiles",
    ),
    "parameters of tiles": (
        ("reconstruct", "m.zarr", "-o", "p.zarr", "--at", "A=2", "--tiles", 8, 8),
        "--at A=2: found --tiles",
    ),
    "parameters of slices": (
        ("reconstruct", "m.zarr", "-o", "p.zarr", "--at", "A=2", "--slices", 2),
        "--at A: found --slices",
    ),
    "fit of tiles": (
        ("reconstruct", "m.zarr", "-o", "p.zarr", "--trend", "linear", "--tiles", 8, 8),
        "--trend: found no fit to data at points",
    ),
    "seed of nothing": (("convert", "mri", "k.npy", "-o", "m.zarr", "--seed", 1), "--seed: found nothing random"),
    "seed beside the mask's": (
        ("convert", "mri", "k.npy", "-o", "m.zarr", "--seed", 1, "--acceleration", 4, "--mask-seed", 2),
        "--seed: found nothing random",
    ),
    "lines of points": (
        ("convert", "mri", "k.npy", "-o", "m.zarr", "--acceleration", 4, "--mask", "poisson", "--along", "ky"),
        "--along: found --mask poisson",
    ),
    "centre": (
        ("convert", "mri", "k.npy", "-o", "m.zarr", "--centre-fraction", 0.1),
        "--centre-fraction: found no --acceleration R",
    ),
    "seed of a bench": (("bench", "mixture", "--seed", -1), "--seed: found -1, expected at least 0"),
    "draws of no part": (("bench", "cm21", "--parts", "costs", "-n", 4), "--draws: found no part emulation"),
    "steps of no part": (
        ("bench", "cm21", "--parts", "telescope", "--steps", 4),
        "--steps: found no part emulation or costs",
    ),
    "Python of no part": (
        ("bench", "cm21", "--parts", "emulation", "--python", "p"),
        "--python: found no part costs",
    ),
    "Python of nothing": (
        ("bench", "cm21", "--python", "p", "--simulator-seconds", 8),
        "--python: found --simulator-seconds",
    ),
}


@pytest.mark.parametrize("case", IGNORED)
def test_what_would_have_no_effect_is_refused(infield, tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    arguments, words = IGNORED[case]
    infield(*arguments).refused(words)
    assert not any(tmp_path.iterdir())


def test_a_zero_is_given_and_a_default_is_not():
    given = argparse.Namespace(buffer=0.0, cut=None, volume=False, settings=[])
    refuse_without("--wedge", False, given, "cut", "volume", "settings")
    refuse_without("--wedge", True, given, "buffer")
    with pytest.raises(InfieldError, match="--buffer: found no --wedge"):
        refuse_without("--wedge", False, given, "buffer")
    with pytest.raises(InfieldError, match="--spin-up: found nan"):
        check_at_least(0, spin_up=float("nan"))


QUIET = {
    "simulate": ("simulate", "poisson", "--points", 6, "-n", 2, "-j", 1, "-o", "p.zarr"),
    "sensors": ("convert", "wall-sensors", "w.zarr", "--fraction", 0.1, "--noise-std", 0.1, "-o", "s.zarr"),
}


def test_quiet_prints_nothing_and_json_one_object(infield, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wall = ("simulate", "wall-pressure", "--re-tau", 180, "--length", "2pi", "--dx-plus", 80, "--dz-plus", 60)
    assert infield(*wall, "-n", 1, "-j", 1, "-q", "-o", "w.zarr").out == ""
    for arguments in QUIET.values():
        said = infield(*arguments)
        assert said.status == 0 and said.out != ""  # negative control: a table
        quiet = infield(*arguments, "-q", "--overwrite")
        assert quiet.status == 0 and quiet.out == "" and quiet.err == ""
        assert infield(*arguments, "-q", "--json", "--overwrite").summary["output"] in map(str, arguments)
