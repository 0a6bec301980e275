"""Packages of the extra `projection`, imported where they are needed."""

from __future__ import annotations

import importlib
from typing import Any

from infield.core.errors import InfieldError

PACKAGES = {"cv2": "opencv-contrib-python-headless", "skimage": "scikit-image"}  # others are named as their modules


def require(module: str) -> Any:
    """A module of the extra.

    Raises:
        InfieldError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        name = module.partition(".")[0]
        raise InfieldError(
            where="projection mapping",
            found=f"no package {PACKAGES.get(name, name)}",
            expected="the extra projection",
            remedy="pip install 'infield[projection]'",
        ) from None
