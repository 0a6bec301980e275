"""A network: one affine map of each value and the time."""

import torch
from torch import nn


class PointwiseNetwork(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.arguments = {"channels": channels}
        self.weight = nn.Parameter(torch.full((channels, 1), 0.25))

    def forward(self, x, t):
        return (x.flatten(2) * self.weight + t[:, None, None]).reshape(x.shape)
