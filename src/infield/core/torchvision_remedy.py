"""The one pairing of packages in which torchvision cannot be imported, mended.

The registry's torchvision is a CUDA build. Beside a CPU torch its compiled half cannot load, and then importing it
dies with "operator torchvision::nms does not exist"; deepinv and lightning die with it.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any


def import_torchvision_first() -> None:
    """Import torchvision; only where its compiled half is missing, declare the two operator schemas and try again.

    Where torchvision works, nothing is changed. `core._deepinv` and `core._lightning` call this, and so must whoever
    imports deepinv, lightning or torchmetrics by themselves.
    """
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
        declared_schemas.append(schemas)  # the declaration lives as long as this object
        for module in [m for m in sys.modules if m == "torchvision" or m.startswith("torchvision.")]:
            del sys.modules[module]
        importlib.import_module("torchvision")


declared_schemas: list[Any] = []
