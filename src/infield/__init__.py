"""Infield: calibrated posterior samples of physical fields from partial, noisy measurements.

    import infield as inf

    m = inf.open_measurement("m.zarr")  # or inf.Measurement(y, operator=A, noise=inf.noise.Gaussian(0.1), grid=g)
    p = inf.load_prior("brain_2d")  # a name, a checkpoint of any kind, a YAML description
    post = inf.reconstruct(m, prior=p, sampler=inf.sampler("faps", levels=20), samples=64, seed=0)  # xarray in memory
    inf.reconstruct("m.zarr", to="p.zarr", prior=p, samples=64)  # file to file

Tables: `inf.samplers()`, `operators()`, `priors()`, `networks()`, `readers()`, `configs()`. Importing this
package is cheap: nothing heavy is loaded before it is used.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

ROOMS = ("physics", "priors", "posterior", "datasets", "pipelines")
if _missing := [room for room in ROOMS if not os.path.isdir(os.path.join(os.path.dirname(__file__), room))]:
    raise ImportError(
        f"{os.path.dirname(__file__)}: found no folders {', '.join(_missing)}, expected symbolic links to those at the "
        "top of the repository; this checkout has none: install it without -e (pip install .), or clone it again with "
        "git config core.symlinks true"
    )

from infield.core.errors import InfieldError  # noqa: E402
from infield.core.renamed import install as _install_old_names  # noqa: E402
from infield.core.version import __version__ as __version__  # noqa: E402

if TYPE_CHECKING:
    from infield.core.grid import Axis as Axis
    from infield.core.grid import Grid as Grid
    from infield.core.grid import PointSet as PointSet
    from infield.core.torchvision_remedy import import_torchvision_first as import_torchvision_first
    from infield.datasets.formats.measurement import open_measurement as open_measurement
    from infield.datasets.formats.measurement import write_measurement as write_measurement
    from infield.datasets.formats.posterior import open_posterior as open_posterior
    from infield.physics.measurement import Measurement as Measurement
    from infield.physics.noise import models as noise
    from infield.pipelines.api.commands import convert as convert
    from infield.pipelines.api.commands import emulate as emulate
    from infield.pipelines.api.commands import fit as fit
    from infield.pipelines.api.commands import simulate as simulate
    from infield.pipelines.api.compare import compare as compare
    from infield.pipelines.api.loading import load_prior as load_prior
    from infield.pipelines.api.loading import operator as operator
    from infield.pipelines.api.loading import sampler as sampler
    from infield.pipelines.api.reconstruct import reconstruct as reconstruct
    from infield.pipelines.api.trust import calibrate as calibrate
    from infield.pipelines.api.trust import check as check
    from infield.pipelines.run.names import configs as configs
    from infield.pipelines.run.names import networks as networks
    from infield.pipelines.run.names import operators as operators
    from infield.pipelines.run.names import readers as readers
    from infield.pipelines.run.names import samplers as samplers

_LAZY = {
    "Axis": "infield.core.grid:Axis",
    "Grid": "infield.core.grid:Grid",
    "Measurement": "infield.physics.measurement:Measurement",
    "PointSet": "infield.core.grid:PointSet",
    "calibrate": "infield.pipelines.api.trust:calibrate",
    "check": "infield.pipelines.api.trust:check",
    "compare": "infield.pipelines.api.compare:compare",
    "configs": "infield.pipelines.run.names:configs",
    "convert": "infield.pipelines.api.commands:convert",
    "emulate": "infield.pipelines.api.commands:emulate",
    "fit": "infield.pipelines.api.commands:fit",
    "import_torchvision_first": "infield.core.torchvision_remedy:import_torchvision_first",
    "load_prior": "infield.pipelines.api.loading:load_prior",
    "networks": "infield.pipelines.run.names:networks",
    "noise": "infield.physics.noise.models",
    "open_measurement": "infield.datasets.formats.measurement:open_measurement",
    "open_posterior": "infield.datasets.formats.posterior:open_posterior",
    "operator": "infield.pipelines.api.loading:operator",
    "operators": "infield.pipelines.run.names:operators",
    "priors": "infield.priors",  # a package; called, the table of all priors
    "readers": "infield.pipelines.run.names:readers",
    "reconstruct": "infield.pipelines.api.reconstruct:reconstruct",
    "sampler": "infield.pipelines.api.loading:sampler",
    "samplers": "infield.pipelines.run.names:samplers",
    "simulate": "infield.pipelines.api.commands:simulate",
    "testing": "infield.testing",
    "write_measurement": "infield.datasets.formats.measurement:write_measurement",
}
"""Name -> where it is, imported on first use."""

__all__ = [
    "Axis",
    "Grid",
    "InfieldError",
    "Measurement",
    "PointSet",
    "__version__",
    "calibrate",
    "check",
    "compare",
    "configs",
    "convert",
    "emulate",
    "fit",
    "import_torchvision_first",
    "load_prior",
    "networks",
    "noise",
    "open_measurement",
    "open_posterior",
    "operator",
    "operators",
    "priors",
    "readers",
    "reconstruct",
    "sampler",
    "samplers",
    "simulate",
    "testing",
    "write_measurement",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'infield' has no attribute {name!r}")
    module, _, attribute = _LAZY[name].partition(":")
    found = importlib.import_module(module)
    return getattr(found, attribute) if attribute else found


def __dir__() -> list[str]:
    return __all__


_install_old_names()
