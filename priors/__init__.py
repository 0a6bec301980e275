"""What do fields look like before measuring? Source measures, closed-form priors and learned flows.

Called, `infield.priors()` is the table of all priors by name.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Priors(ModuleType):
    """The package, which is also the function that `infield.samplers` and its like are."""

    def __call__(self) -> Any:
        from infield.core.registry import load

        return load("tables", "priors")()


sys.modules[__name__].__class__ = _Priors
