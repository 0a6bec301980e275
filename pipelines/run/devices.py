"""Where networks run, by the name that a person gives."""

from __future__ import annotations

import torch

from infield.core.errors import InfieldError


def device_named(name: str) -> str:
    """A device of torch: "auto" is an accelerator where there is one.

    Raises:
        InfieldError: It is not there.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].split(". ")[0].rstrip(".")
        raise InfieldError(where=f"--device {name}", found=reason, expected="auto, cpu or an available cuda") from error
    if torch.device(name).type == "meta":
        raise InfieldError(
            where=f"--device {name}", found="a device that holds no values", expected="auto, cpu or an available cuda"
        )
    return name
