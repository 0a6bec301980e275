"""Samplers that serve every domain; see `core.registry`."""

from __future__ import annotations

from infield.core.registry import Entry

ENTRIES = {
    "samplers": {
        "faps": Entry(
            "infield.posterior.samplers.faps:FAPS",
            "flow with an annealed posterior, exact for Gaussian data",
            ("faps-flow",),
        ),
        "faps-published": Entry(
            "infield.posterior.samplers.faps_published:FAPSPublished", "the same, step by step as published"
        ),
        "smc": Entry("infield.posterior.samplers.twisted_smc:TwistedSMC", "twisted sequential Monte Carlo"),
        "source-slice": Entry(
            "infield.posterior.samplers.elliptical_slice:EllipticalSlice", "elliptical slice sampling of the source"
        ),
        "mgvi": Entry(
            "infield.posterior.samplers.mgvi:MGVI", "Gaussian approximation for counts and links, in seconds"
        ),
        "snap": Entry("infield.posterior.samplers.snap:SNaP", "a posterior in one step"),
        "null-flow": Entry("infield.posterior.samplers.null_flow:NullFlow", "a posterior in one step, for exact data"),
        "unrolled": Entry(
            "infield.posterior.samplers.unrolled:UnrolledEstimate",
            "estimate of the posterior mean by an unrolled network",
        ),
        "pmrf": Entry("infield.posterior.samplers.pmrf:PMRF", "posterior-mean rectified flow"),
        "red-diff": Entry("infield.posterior.samplers.red_diff:REDDiff", "an optimum under a prior as regulariser"),
        "dds": Entry("infield.posterior.samplers.dds:DDS", "decomposed diffusion sampling"),
        "diffusion-mbir": Entry(
            "infield.posterior.samplers.diffusion_mbir:DiffusionMBIR",
            "slices by a diffusion, joined by total variation",
        ),
        "kriging": Entry("infield.posterior.samplers.kriging:Kriging", "closed form, for point data without a prior"),
        "exact": Entry("infield.posterior.samplers.exact:Exact", "closed form, for Gaussian priors and linear data"),
    },
}
