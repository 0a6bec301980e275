"""Parameters as the command line spells them: what the library calls `hold_out` is the option `--hold-out`."""

from __future__ import annotations

from typing import Any

OPTIONS = {
    "box": "--box-size",
    "delay_channels": "--channels-per-segment",
    "numbers": "--slice A-B",
    "sample_axis": "--data.init_args.sample_axis",
    "slice_number": "--slice",
    "template": "--with template=FOLDER",
    "training_variable": "--data.init_args.variable",
}
"""Options that have another name than their parameter, or show what they take."""


def as_option(name: str, value: Any = None) -> str:
    """A parameter of an error as the option that sets it, e.g. `--sampler faps`.

    Arguments:
        name: Of the parameter in Python.
        value: Value to give it; None for the option alone, True for a switch.
    """
    option = OPTIONS.get(name, f"--{name.replace('_', '-')}")
    if value is None or value is True:
        return option
    return f"{option} {','.join(map(str, value)) if isinstance(value, tuple | list) else value}"
