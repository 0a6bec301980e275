"""The one pairing of packages in which torchvision cannot be imported, mended.

The registry's torchvision is a CUDA build. Beside a CPU torch its compiled half cannot load, and then importing it
dies with "operator torchvision::nms does not exist"; deepinv and lightning die with it.

`python -m infield.core.torchvision_remedy` reports whether the two of an environment fit. Where they do not, it leaves
a hook in the environment's site-packages, so that every program that is run there may import deepinv first. `make
install` runs it. The module needs nothing but the standard library, since the hook is a copy of it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

PACKAGE = "torchvision"
COMPILER = "torch._dynamo"
HOOK = "infield_torchvision_hook"
"""Name of the copy in site-packages, and of the .pth file that starts it."""


def import_torchvision_first() -> None:
    """Import torchvision; only where its compiled half is missing, declare the two operator schemas and try again.

    Where torchvision works, nothing is changed. `core._deepinv` and `core._lightning` call this, and so must any module
    that imports deepinv, lightning or torchmetrics by themselves.
    """
    try:
        with compiler_deferred():
            importlib.import_module(PACKAGE)
    except ModuleNotFoundError:
        return  # not installed: the module that needs it raises the clearer error
    except RuntimeError as error:
        _declare(error)
        with compiler_deferred():
            importlib.import_module(PACKAGE)


@contextmanager
def compiler_deferred() -> Iterator[None]:
    """Import torchvision without the compiler of torch: a second of a processor, for a function that is hardly called.

    `torchvision.ops.roi_align` takes `is_compile_supported` from it; here it gets one that imports it when called.
    """
    if COMPILER in sys.modules or PACKAGE in sys.modules:
        yield
        return
    deferred = {name: ModuleType(name) for name in (COMPILER, f"{COMPILER}.utils")}
    deferred[COMPILER].__path__ = []
    deferred[f"{COMPILER}.utils"].is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
    sys.modules.update(deferred)
    try:
        yield
    finally:
        for name, module in deferred.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
        torch = vars(sys.modules["torch"]) if "torch" in sys.modules else {}  # asking for it would import it
        if torch.get("_dynamo") is deferred[COMPILER]:
            del torch["_dynamo"]


def _is_compile_supported(device_type: str) -> bool:
    return bool(importlib.import_module(f"{COMPILER}.utils").is_compile_supported(device_type))


def _declare(error: RuntimeError) -> None:
    """Declare the schemas that the compiled half would have, and drop modules that were imported in part."""
    if "torchvision::nms does not exist" not in str(error):
        raise error
    import torch

    schemas = torch.library.Library(PACKAGE, "FRAGMENT")
    for operator in ("nms", "qnms"):
        schemas.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    declared_schemas.append(schemas)  # the declaration is valid as long as this object exists
    for module in [m for m in sys.modules if m == PACKAGE or m.startswith(f"{PACKAGE}.")]:
        del sys.modules[module]


declared_schemas: list[Any] = []


class _Mending:
    """Loads torchvision as its own loader does, and a second time after the schemas were declared."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def create_module(self, spec: Any) -> Any:
        return self.loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        try:
            self.loader.exec_module(module)
        except RuntimeError as error:
            _declare(error)
            sys.modules[PACKAGE] = module
            self.loader.exec_module(module)


class _Finder:
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        spec: Any = PathFinder.find_spec(name, path, target) if name == PACKAGE else None
        if spec is not None and spec.loader is not None:
            spec.loader = _Mending(spec.loader)
        return spec


def install_hook() -> None:
    """From now on `import torchvision`, in whatever module it comes first, is mended where it has to be."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def main() -> int:
    """Report whether torch and torchvision of this environment fit, and install the hook if they do not."""
    import sysconfig
    from importlib.metadata import PackageNotFoundError, version
    from pathlib import Path

    folder = Path(sysconfig.get_path("purelib"))
    own = [folder / f"{HOOK}{suffix}" for suffix in (".py", ".pth")]
    try:
        pair = f"torch {version('torch')} and torchvision {version('torchvision')}"
    except PackageNotFoundError as error:
        print(f"{error.name} is not installed")
        return 0
    try:
        importlib.import_module(PACKAGE)
        fits = not declared_schemas and not any(path.exists() for path in own)
    except RuntimeError as error:
        _declare(error)
        fits = False
    if fits:
        print(f"{pair} fit each other")
        return 0
    own[0].write_text(Path(__file__).read_text(encoding="utf-8") + "\n\ninstall_hook()\n", encoding="utf-8")
    own[1].write_text(f"import {HOOK}\n", encoding="utf-8")
    print(f"{pair} do not fit: torchvision's compiled half cannot load; {own[0].name} mends its import in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
