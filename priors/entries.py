"""Kernels, networks, described priors and kinds of checkpoint common to all domains; see `core.registry`."""

from __future__ import annotations

from infield.core.registry import Entry

ENTRIES = {
    "kernels": {
        "white": Entry("infield.priors.gaussian.kernels:White", "independent values"),
        "matern": Entry("infield.priors.gaussian.kernels:Matern", "Matern covariance of any order"),
    },
    "networks": {
        "fno": Entry("infield.priors.networks.fno:FNO", "Fourier neural operator"),
        "unet": Entry("infield.priors.networks.unet:UNet", "U-Net"),
        "points": Entry("infield.priors.networks.point_network:PointNetwork", "network of fields on scattered points"),
        "patched": Entry("infield.priors.networks.patched:Patched", "another network, patch by patch"),
        "perceptron": Entry("infield.priors.networks.mlp:Perceptron", "fully connected layers"),
        "local unet": Entry("infield.priors.networks.local_unet:LocalUNet", "U-Net of small receptive field"),
    },
    "priors": {
        "gaussian": Entry("infield.priors.storage.from_yaml:gaussian", "Gaussian field"),
        "mixture": Entry("infield.priors.storage.from_yaml:mixture", "mixture of Gaussian fields"),
    },
    "checkpoints": {
        "prior": Entry("infield.priors.storage.flow_entry:STORED", "flow-matching prior"),
        "surrogate": Entry("infield.priors.surrogates.learned_map:STORED", "stand-in for a solver"),
        "one-step": Entry("infield.priors.amortised.average_velocity:STORED", "posterior in one step"),
        "unrolled": Entry("infield.priors.amortised.unrolled:STORED", "unrolled network"),
        "bridge": Entry("infield.priors.bridges.region_bridge:STORED", "bridge from a baseline to follow-ups"),
        "pmrf": Entry("infield.priors.amortised.rectified_flow:STORED", "posterior-mean rectified flow"),
    },
}
