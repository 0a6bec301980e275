"""Operators and noise models common to all domains; see `core.registry`."""

from __future__ import annotations

from infield.core.registry import Entry

ENTRIES = {
    "operators": {
        "affine": Entry("infield.physics.operators.composition:build_affine", "scale and shift of each channel"),
        "bounded": Entry("infield.physics.operators.links:build_bounded", "logistic function onto an interval, a link"),
        "convolution": Entry("infield.physics.operators.convolution:build_convolution", "blur by a kernel"),
        "darcy": Entry("infield.physics.pde.darcy:build_darcy", "pressure of a flow through a porous medium"),
        "exp": Entry(
            "infield.physics.operators.links:build_exponential",
            "exponential of every value times a scale, a link of counts",
            ("exponential",),
        ),
        "fourier": Entry("infield.physics.operators.fourier:build_fourier", "some of the Fourier coefficients"),
        "helmholtz": Entry("infield.physics.pde.elliptic:build_helmholtz", "solution of -Laplacian u + k^2 u = f"),
        "mask": Entry("infield.physics.operators.sensors:build_mask", "values at some points of the grid"),
        "navier-stokes": Entry("infield.physics.pde.navier_stokes:build_navier_stokes", "vorticity at a later time"),
        "phases": Entry("infield.physics.operators.level_set:build_phases", "two phases from a level set"),
        "points": Entry("infield.physics.operators.sensors:build_points", "values at points between those of the grid"),
        "poisson": Entry("infield.physics.pde.elliptic:build_poisson", "solution of -Laplacian u = f"),
        "softplus": Entry("infield.physics.operators.links:build_softplus", "log(1 + exp) of every value, a link"),
        "window": Entry("infield.physics.operators.crop:build_window", "the part of a torus that is the domain"),
    },
    "noise_models": {
        "gaussian": Entry("infield.physics.noise.gaussian:GaussianNoise", "independent Gaussian noise"),
        "poisson": Entry("infield.physics.noise.poisson:PoissonNoise", "counts"),
        "poisson-gaussian": Entry(
            "infield.physics.noise.poisson:PoissonGaussianNoise", "counts with Gaussian read-out noise"
        ),
        "low-rank-gaussian": Entry(
            "infield.physics.noise.low_rank:LowRankGaussianNoise", "Gaussian noise with a few common directions"
        ),
    },
}
