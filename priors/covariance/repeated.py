"""Values of modes with repeated variances, which a decomposition does not distinguish."""

from __future__ import annotations

import torch
from torch import Tensor

from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import Eigenbasis, LeadingDirections

SAME_VARIANCE = 1e-9
"""Variances nearer to each other than this fraction of the largest one are one that is repeated."""


def level_where_repeated(values: Tensor, source: Covariance) -> Tensor:
    """One value for all modes of one variance of the source, their mean; shape of values, `(channel, *space)`.

    The basis of the eigenvectors of a repeated eigenvalue is the library's and the processor's choice. So a covariance
    that is diagonal in them is the same everywhere only where its diagonal is the same for all of them. Where the basis
    is fixed, values are returned as they are; so are those off the leading directions, which depend on their span.

    Arguments:
        values: One a mode.
        source: Diagonal in the same modes.
    """
    if isinstance(source.modes, Eigenbasis):
        count = values[0].numel()
    elif isinstance(source.modes, LeadingDirections):
        count = len(source.modes.rotation)
    else:
        return values
    levelled = values.flatten(1).clone()
    for channel, spectrum in zip(levelled, source.diagonal.flatten(1), strict=True):
        order = spectrum[:count].argsort(descending=True, stable=True)
        ordered = spectrum[order]
        steps = ordered[:-1] - ordered[1:] > SAME_VARIANCE * spectrum.max()
        group = torch.cat([steps.new_zeros(1), steps]).long().cumsum(0)
        sums = channel.new_zeros(count).index_add(0, group, channel[order])
        channel[order] = (sums / group.bincount(minlength=count).clamp_min(1))[group]
    return levelled.reshape(values.shape)
