"""Failure of a forward model at one field, as opposed to an operator that is set up wrongly."""

from __future__ import annotations

from infield.core.errors import InfieldError


class ForwardModelError(InfieldError):
    """The forward model fails at a field: a coefficient is out of range, a solve does not converge, a flow blows up.

    The message names the field by its index in the batch. A sampler that proposed the field may reject it and continue.
    """
