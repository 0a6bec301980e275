"""Infield: calibrated posterior samples of physical fields from partial, noisy measurements.

Importing this package is cheap: nothing heavy is loaded until it is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from infield.core.errors import InfieldError
from infield.core.renamed import install as _install_old_names
from infield.core.version import __version__ as __version__

if TYPE_CHECKING:
    from infield.core.torchvision_remedy import import_torchvision_first as import_torchvision_first
    from infield.datasets.formats.measurement import open_measurement as open_measurement
    from infield.datasets.formats.posterior import open_posterior as open_posterior
    from infield.priors.storage.checkpoint import load_checkpoint as load_prior

_LAZY = {
    "open_measurement": "infield.datasets.formats.measurement",
    "open_posterior": "infield.datasets.formats.posterior",
    "load_prior": "infield.priors.storage.checkpoint:load_checkpoint",
    "import_torchvision_first": "infield.core.torchvision_remedy",
}
__all__ = ["InfieldError", "import_torchvision_first", "load_prior", "open_measurement", "open_posterior"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        module, _, attribute = _LAZY[name].partition(":")
        return getattr(importlib.import_module(module), attribute or name)
    raise AttributeError(f"module 'infield' has no attribute {name!r}")


_install_old_names()
