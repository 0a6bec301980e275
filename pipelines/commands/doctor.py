"""Checks the installation: versions, devices, torchvision, the extras, folders that can be written.

    infield doctor
    infield doctor --json

The status is 1 where something is broken that Infield needs.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from infield.core.json_text import to_json
from infield.core.provenance import commit, versions
from infield.pipelines.run.options import Parser, add_json

EXTRAS = {
    "mri": ("ismrmrd", "nilearn"),
    "pet": ("nibabel", "nilearn", "pydicom", "indexed_gzip"),
    "cm21": ("py21cmfast",),
    "sbi": ("sbi",),
    "tables": ("pyarrow",),
    "maps": ("rasterio", "pyproj"),
    "kriging": ("gpboost", "pykrige", "gstools", "gpytorch"),
}
"""Extra of the package -> modules that it brings."""


def add_arguments(parser: Parser) -> None:
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    facts, faults = examined()
    if arguments.json:
        print(to_json({**facts, "faults": faults}))
    else:
        from infield.pipelines.run.console import table  # not for --help

        table("infield doctor", {**facts, "faults": "; ".join(faults) or "none"})
    return 1 if faults else 0


def examined() -> tuple[dict[str, str], list[str]]:
    """Descriptions of what is found, and of what is broken."""
    faults: list[str] = []
    facts = {name: text for name, text in versions().items() if name != "python"}
    facts["commit"] = commit() or "no checkout"
    facts["python"] = f"{platform.python_version()} ({sys.executable})"
    facts["machine"] = f"{platform.node()}, {platform.platform()}, {os.cpu_count()} cores"
    facts["lightning, dask"] = ", ".join(_version(name, faults) for name in ("lightning", "distributed"))
    facts["torchvision"] = _torchvision(faults)
    facts["devices"] = _devices()
    for extra, modules in EXTRAS.items():
        missing = [module for module in modules if find_spec(module) is None]
        facts[f"extra {extra}"] = "installed" if not missing else f"without {', '.join(missing)}"
    for name, folder in (("current folder", Path.cwd()), ("temporary folder", Path(tempfile.gettempdir()))):
        facts[name] = f"{folder}: {_written(folder)}"
    facts["file names"] = f"{sys.getfilesystemencoding()}, standard output {getattr(sys.stdout, 'encoding', 'unknown')}"
    return facts, faults


def _version(name: str, faults: list[str]) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        faults.append(f"{name} is not installed")
        return f"{name} missing"


def _torchvision(faults: list[str]) -> str:
    from infield.core.torchvision_remedy import declared_schemas, import_torchvision_first

    try:
        import_torchvision_first()
        import_module("infield.core._deepinv")
    except Exception as error:  # whatever a broken pair of builds raises
        faults.append(f"deepinv cannot be imported: {' '.join(str(error).split())}")
        return "broken; python -m infield.core.torchvision_remedy"
    return f"{_version('torchvision', faults)}, {'mended at import' if declared_schemas else 'fits torch'}"


def _devices() -> str:
    import torch

    found = ["cpu", f"{torch.get_num_threads()} threads"]
    for i in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(i)
        found.append(f"cuda:{i} {torch.cuda.get_device_name(i)}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free")
    if torch.backends.mps.is_available():
        found.append("mps")
    return "; ".join(found)


def _written(folder: Path) -> str:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return "can be written"
    except OSError as error:
        return f"cannot be written ({error.strerror})"
