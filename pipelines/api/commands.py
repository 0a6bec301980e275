"""Commands as functions with keyword arguments: options of the command, underscores for hyphens."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from infield.core import registry
from infield.core.errors import InfieldError
from infield.pipelines.run.options import Parser, silence
from infield.pipelines.run.process import one_thread, process_restored

if TYPE_CHECKING:
    from infield.datasets.tables.given import Given
    from infield.physics.measurement import Measurement


def fit(config: str | Path, **options: Any) -> Path:
    """Train a prior, or another model, from a configuration; `infield fit`.

    Arguments:
        config: A name that `infield.configs()` shows, or a YAML file.
        options: Entries of the configuration to replace, with `__` for the dots: `data__init_args__path="fields.zarr"`,
            `trainer__max_steps=1000`, `trainer__default_root_dir="runs/mine"`.

    Returns:
        The slim checkpoint, for `load_prior`.

    Raises:
        InfieldError: The configuration, the data or an option are not as expected.
    """
    from infield.pipelines.commands.fit import train

    words = ["--config", str(config)]
    for name, value in options.items():
        words.append(f"--{name.replace('__', '.')}={_text(value)}")
    try:
        with process_restored():
            path = train(words)
    except SystemExit as leave:
        raise InfieldError(
            where="fit", found="an option or entry of the configuration that is wrong", expected="see the line above"
        ) from leave
    if path is None:
        raise InfieldError(where="fit", found="no checkpoint", expected="one; another process of the training wrote it")
    return path


def simulate(kind: str, to: str | Path, **options: Any) -> dict[str, Any]:
    """Simulate fields or data sets; `infield simulate KIND -o TO`.

    Arguments:
        kind: A name that `infield list simulators` shows, e.g. "darcy".
        to: The file to write.
        options: Options of the command: `samples=100`, `points=64`, `seed=1`; a mapping for those that repeat,
            `with_={"tau": 5}`.

    Returns:
        The summary that the command prints with `--json`.

    Raises:
        InfieldError: Whatever the caller can mend.
    """
    return _run("simulate", [kind, "--output", os.fspath(to)], options)


def convert(kind: str, source: Any, to: str | Path | None = None, **options: Any) -> dict[str, Any] | Measurement:
    """Convert a file to a measurement, or a posterior to a map; `infield convert KIND SOURCE -o TO`.

    Arguments:
        kind: A name that `infield list converters` shows, e.g. "table".
        source: The file, or several; for "table" also a `pandas.DataFrame`, for "grid" an `xarray.Dataset` or
            `DataArray`.
        to: The file to write; None for a measurement in memory.
        options: Options of the command: `value="sst", at=["lon", "lat"], units="degC", grid=0.1`.

    Returns:
        The measurement where `to` is None, else the summary that the command prints with `--json`.

    Raises:
        InfieldError: Whatever the caller can mend.
    """
    given, words = _sources(kind, source)
    if to is not None:
        return _run("convert", [kind, *words, "--output", os.fspath(to)], options, source=given)
    from infield.datasets.formats.measurement import open_measurement

    with TemporaryDirectory() as folder:
        path = Path(folder) / "measurement.zarr"
        _run("convert", [kind, *words, "--output", str(path)], options, source=given)
        return replace(open_measurement(path), source=None)


def _sources(kind: str, source: Any) -> tuple[Given | None, list[str]]:
    """Data in memory, if they are, and the words that stand for the sources on the command line."""
    import pandas as pd
    import xarray as xr

    from infield.datasets.tables.given import Given

    given = None
    if kind == "table" and isinstance(source, pd.DataFrame):
        given = Given.table(source)
    elif kind == "grid" and isinstance(source, xr.Dataset | xr.DataArray):
        given = Given.fields(source)
    if given is not None:
        return given, [given.name]
    sources = source if isinstance(source, list | tuple) else [source]
    for one in sources:
        if not isinstance(one, str | os.PathLike):
            raise InfieldError(
                where=f"source of '{kind}'",
                found=f"{type(one).__module__}.{type(one).__qualname__}",
                expected="the path of a file; in memory a pandas.DataFrame for 'table', an xarray.Dataset or DataArray "
                "for 'grid'",
            )
    return None, [os.fspath(one) for one in sources]


def emulate(prior: str | Path, to: str | Path, params: str | Path | None = None, **options: Any) -> dict[str, Any]:
    """Draw new fields from a prior, lightcones at parameters, follow-ups of a scan; `infield emulate`.

    Arguments:
        prior: A checkpoint, its name, or a YAML description.
        to: The file to write.
        params: YAML file of the parameters, of a prior of lightcones.
        options: Options of the command: `samples=8`, `like="measurement.zarr"`, `points=64`; of a bridge
            `from_="baseline.nii.gz"`, `years=2.5`.

    Returns:
        The summary that the command prints with `--json`.

    Raises:
        InfieldError: Whatever the caller can mend.
    """
    words = [] if params is None else ["--params", os.fspath(params)]
    return _run("emulate", ["--prior", str(prior), *words, "--output", os.fspath(to)], options)


def _run(verb: str, words: list[str], options: Mapping[str, Any], source: Given | None = None) -> dict[str, Any]:
    """Run a command in this process, as its parser reads the options, and give its summary."""
    from infield.pipelines.cli import parser_of

    module = registry.load("commands", verb)
    parser: Parser = parser_of(verb, module)
    arguments = parser.parse_args([*words, *_words(options), "--json"])
    if source is not None:
        arguments.source = source
    with one_thread(), silence(True), redirect_stdout(StringIO()) as printed:
        module.run(arguments)
    summary: dict[str, Any] = json.loads(printed.getvalue().strip().splitlines()[-1])
    return summary


def _words(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        option = f"--{name.rstrip('_').replace('_', '-')}"
        if isinstance(value, Mapping):
            for key, entry in value.items():
                yield from (option, f"{key}={_text(entry)}")
        elif isinstance(value, list | tuple):
            yield from (option, *map(_text, value))
        elif value is True:
            yield option
        elif value is not False and value is not None:
            yield from (option, _text(value))


def _text(value: Any) -> str:
    if isinstance(value, Mapping | list | bool):
        return json.dumps(value)
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)
