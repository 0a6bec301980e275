"""Operators and noise models common to all domains; see `core.registry`."""

from __future__ import annotations

from collections.abc import Mapping

from infield.core.registry import Entry


def operator(parameters: str, arrays: str, output: str) -> Mapping[str, str]:
    """Columns of the table of operators: C is the number of channels, *space* the shape of the field."""
    return {"parameters": parameters, "arrays (role: shape)": arrays, "output S": output}


def noise(entries: str, meaning: str) -> Mapping[str, str]:
    """Columns of the table of noise models: z are the noiseless data."""
    return {"entries": entries, "meaning, with z the noiseless data": meaning}


VARIANCE = "`variance`: a positive number, or the name of a variable"
EVERY_VALUE = "(C, *space*)"
BOUNDARY = "u = 0 on the boundary"

ENTRIES = {
    "operators": {
        "affine": Entry(
            "infield.physics.operators.composition:build_affine",
            "scale and shift of each channel",
            facts=operator(
                "",
                "`scale`, and optionally `shift`: (C, 1, ...) or (C, *space*)",
                f"{EVERY_VALUE}: shift + scale x",
            ),
        ),
        "bounded": Entry(
            "infield.physics.operators.links:build_bounded",
            "logistic function onto an interval, a link",
            facts=operator(
                "`low`, `high`: ends of an interval (0 and 1)",
                "",
                f"{EVERY_VALUE}: low + (high − low) / (1 + exp(−x)) of every value",
            ),
        ),
        "convolution": Entry(
            "infield.physics.operators.convolution:build_convolution",
            "blur by a kernel",
            facts=operator(
                "`gaussian_width`: standard deviation in the units of the axes, one number or one per axis; "
                '`boundary`: `"periodic"` (default) or `"zero"`',
                "in place of the width, `kernel`: at most *space*, centre at `size // 2`",
                EVERY_VALUE,
            ),
        ),
        "darcy": Entry(
            "infield.physics.pde.darcy:build_darcy",
            "pressure of a flow through a porous medium",
            facts=operator(
                '`coefficient`: `"log"` (default: the field is log a) or `"value"`; `forcing`: a number (default 1); '
                "`tolerance`, `max_iterations` of the solver",
                "optionally `forcing`: *space*",
                f"(1, *space*): u with −div(a grad u) = forcing, {BOUNDARY}; C is 1",
            ),
        ),
        "exp": Entry(
            "infield.physics.operators.links:build_exponential",
            "exponential of every value times a scale, a link of counts",
            ("exponential",),
            facts=operator(
                "`scale`: a factor above zero (1)",
                "",
                f"{EVERY_VALUE}: scale · exp(x) of every value: the link from a field of any sign to a positive "
                "quantity, such as the rate of counts",
            ),
        ),
        "fourier": Entry(
            "infield.physics.operators.fourier:build_fourier",
            "some of the Fourier coefficients",
            facts=operator(
                "",
                "`mask`: *space*",
                "(2, *space*): centred orthonormal transform, frequency zero at `n // 2`; C is 1 or 2",
            ),
        ),
        "helmholtz": Entry(
            "infield.physics.pde.elliptic:build_helmholtz",
            "solution of -Laplacian u + k^2 u = f",
            facts=operator(
                "`wavenumber_squared`: k², may be negative",
                "",
                f"{EVERY_VALUE}: u with −Δu + k² u = field, {BOUNDARY} of a uniform open grid",
            ),
        ),
        "mask": Entry(
            "infield.physics.operators.sensors:build_mask",
            "values at some points of the grid",
            facts=operator("", "`mask`: *space* or (C, *space*)", f"{EVERY_VALUE}, 0 where masked"),
        ),
        "navier-stokes": Entry(
            "infield.physics.pde.navier_stokes:build_navier_stokes",
            "vorticity at a later time",
            facts=operator(
                '`viscosity` (0.001), `time` (1), `steps`, `forcing`: `"none"` or `"li"`',
                "optionally `forcing`: *space*",
                "(1, *space*): vorticity at `time` from that at 0, on a periodic square; C is 1",
            ),
        ),
        "phases": Entry(
            "infield.physics.operators.level_set:build_phases",
            "two phases from a level set",
            facts=operator(
                "`low`, `high`: values of the two phases; `width` of the step between them, in the units of the field",
                "",
                "(1, *space*): low + (high − low) / (1 + exp(−field / width)), the field being the signed distance to "
                "the interface; C is 1",
            ),
        ),
        "points": Entry(
            "infield.physics.operators.sensors:build_points",
            "values at points between those of the grid",
            facts=operator(
                "",
                "`coordinates`: (sensors, axes), in the units of the axes, multilinear interpolation; or `indices`: "
                "(sensors,), integers, flat index of a grid point (last axis fastest) or of a scattered point",
                "(C, sensors)",
            ),
        ),
        "poisson": Entry(
            "infield.physics.pde.elliptic:build_poisson",
            "solution of -Laplacian u = f",
            facts=operator("", "", f"{EVERY_VALUE}: u with −Δu = field, {BOUNDARY} of a uniform open grid"),
        ),
        "softplus": Entry(
            "infield.physics.operators.links:build_softplus",
            "log(1 + exp) of every value, a link",
            facts=operator("", "", f"{EVERY_VALUE}: log(1 + exp(x)) of every value, a link as `exp`"),
        ),
        "window": Entry(
            "infield.physics.operators.crop:build_window",
            "the part of a torus that is the domain",
            facts=operator(
                "",
                "",
                "the part of a periodic field that is the domain; derived by `Measurement.pullback`, never in files",
            ),
        ),
    },
    "noise_models": {
        "gaussian": Entry(
            "infield.physics.noise.gaussian:GaussianNoise",
            "independent Gaussian noise",
            facts=noise(
                f'{VARIANCE}; in version 2 of the format also `{{"estimate": true}}`: it is estimated with the field',
                "independent; variance of each real number. For complex data: of the real and of the imaginary part "
                "each, i.e. half of E\\|n\\|²",
            ),
        ),
        "poisson": Entry(
            "infield.physics.noise.poisson:PoissonNoise",
            "counts",
            facts=noise("`gain`: a positive number", "data = gain × Poisson(z / gain)"),
        ),
        "poisson-gaussian": Entry(
            "infield.physics.noise.poisson:PoissonGaussianNoise",
            "counts with Gaussian read-out noise",
            facts=noise("`gain`; `variance` as above", "data = gain × Poisson(z / gain) + Gaussian"),
        ),
        "low-rank-gaussian": Entry(
            "infield.physics.noise.low_rank:LowRankGaussianNoise",
            "Gaussian noise with a few common directions",
            facts=noise(
                "`diagonal`: a positive number, or the name of a variable; `factors`: the name of a variable (rows, "
                "data)",
                "covariance D + FᵀF: errors that data share, beside the independent error of each",
            ),
        ),
        "stack": Entry(
            "infield.physics.noise.stack:StackedNoise",
            "a noise model for each part of stacked data",
            facts=noise(
                "`laws`: a list of noise models, in the order of the operator `stack`; `sizes`: the number of data of "
                "each part; variables that a law names hold its flattened data alone",
                "each part has its own law; parts are independent",
            ),
        ),
    },
}
