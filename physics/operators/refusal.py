"""A field that an operator cannot serve, told apart from an operator that was set up wrongly."""

from __future__ import annotations

from infield.core.errors import InfieldError


class Refused(InfieldError):
    """A field has no data: a coefficient out of range, a solve that does not converge, a flow that blows up.

    The message names the field by its number in the batch. A sampler that proposed the field may reject it and go on.
    """
