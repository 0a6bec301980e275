"""Infield: calibrated posterior samples of physical fields from partial, noisy measurements.

Importing this package is cheap: nothing heavy is loaded until it is asked for.
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from infield.core.errors import InfieldError

if TYPE_CHECKING:
    from infield.datasets.formats.measurement import open_measurement as open_measurement
    from infield.datasets.formats.posterior import open_posterior as open_posterior
    from infield.priors.storage.checkpoint import load_prior as load_prior

try:
    __version__ = version("infield")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

_LAZY = {
    "open_measurement": "infield.datasets.formats.measurement",
    "open_posterior": "infield.datasets.formats.posterior",
    "load_prior": "infield.priors.storage.checkpoint",
}
__all__ = ["InfieldError", "import_torchvision_first", "load_prior", "open_measurement", "open_posterior"]


def import_torchvision_first() -> None:
    """Import torchvision, mending the one pairing in which its import fails.

    The registry's torchvision is a CUDA build. Beside a CPU torch its compiled half cannot load, and then importing it
    dies with "operator torchvision::nms does not exist"; deepinv and lightning die with it. Only in that case are the
    two missing operator schemas declared and the import tried again. Where torchvision works, nothing is changed.
    Every module of ours that imports deepinv, lightning or torchmetrics calls this first.
    """
    import sys

    try:
        importlib.import_module("torchvision")
    except ModuleNotFoundError:
        return  # not installed: who needs it says so better than we can
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
        import torch

        schemas = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            schemas.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared_schemas.append(schemas)  # the declaration lives as long as this object
        for module in [m for m in sys.modules if m == "torchvision" or m.startswith("torchvision.")]:
            del sys.modules[module]
        importlib.import_module("torchvision")


_declared_schemas: list[Any] = []


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'infield' has no attribute {name!r}")
