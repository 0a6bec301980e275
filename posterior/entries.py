"""Samplers of every domain; see `core.registry`."""

from __future__ import annotations

from collections.abc import Mapping

from infield.core.registry import Entry

GAUSSIAN_DATA = "linear operators with Gaussian noise"
AMORTISED = "the operators and the noise of its training (linear operators, Gaussian noise of one variance)"
DIFFERENTIABLE = "any differentiable operator, any noise model"
NOTHING = "nothing: it is an estimate"


def facts(valid_for: str, exact_for: str, cost: str, paper: str) -> Mapping[str, str]:
    """Columns of the table of samplers.

    Arguments:
        valid_for: Operators, noise models and priors.
        exact_for: Problems whose posterior it draws from without approximation.
        cost: Evaluations per sample with default parameters.
        paper: Reference, with a link if there is one.
    """
    return {"valid for": valid_for, "exact for": exact_for, "cost per sample": cost, "paper": paper}


def arxiv(authors: str, number: str) -> str:
    """Link to a paper on arXiv."""
    return f"[{authors}](https://arxiv.org/abs/{number})"


ENTRIES = {
    "samplers": {
        "faps": Entry(
            "infield.posterior.samplers.faps:FAPS",
            "flow with an annealed posterior, exact for Gaussian data",
            ("faps-flow",),
            papers=("shi2026faps",),
            facts=facts(
                f"{GAUSSIAN_DATA} in closed form; {DIFFERENTIABLE}, by Metropolis-corrected chains",
                f"Gaussian priors with {GAUSSIAN_DATA}; otherwise the mean of its conditional law is exact and the "
                "covariance Gaussian",
                "1 velocity evaluation if the prior is Gaussian, else 40 (`levels`); chains add 120 evaluations of the "
                "operator and of its adjoint",
                arxiv("Shi, Ross & Yue 2026", "2606.22346"),
            ),
        ),
        "faps-published": Entry(
            "infield.posterior.samplers.faps_published:FAPSPublished",
            "the same, step by step as published",
            papers=("shi2026faps",),
            facts=facts(
                DIFFERENTIABLE,
                "nothing: it is biased even under a perfect prior, and is for comparisons",
                "about 820 velocity evaluations, 2000 Langevin steps",
                arxiv("Shi, Ross & Yue 2026", "2606.22346"),
            ),
        ),
        "smc": Entry(
            "infield.posterior.samplers.twisted_smc:TwistedSMC",
            "twisted sequential Monte Carlo",
            papers=("wu2023tds",),
            facts=facts(
                f"{GAUSSIAN_DATA}; priors with modes; estimates the evidence (up to 1500 data)",
                "Gaussian priors, at any number of steps; any prior, as steps and particles grow",
                "200 velocity evaluations; up to 32 data, a vector-Jacobian product a datum in each step",
                arxiv("Wu et al. 2023", "2306.17775"),
            ),
        ),
        "source-slice": Entry(
            "infield.posterior.samplers.elliptical_slice:EllipticalSlice",
            "elliptical slice sampling of the source",
            papers=("murray2010elliptical",),
            facts=facts(
                "any operator, any noise model, no derivatives",
                "any prior, once its chains have converged (`r_hat_max`)",
                "thousands of velocity evaluations",
                arxiv("Murray, Adams & MacKay 2010", "1001.0740"),
            ),
        ),
        "mgvi": Entry(
            "infield.posterior.samplers.mgvi:MGVI",
            "Gaussian approximation for counts and links, in seconds",
            papers=("knollmueller2019mgvi",),
            facts=facts(
                "Gaussian priors, any differentiable operator, noise of independent data; the default if a prior is "
                "fitted to counts or links",
                f"Gaussian priors with {GAUSSIAN_DATA}",
                "no velocity evaluation; a few linear solves",
                arxiv("Knollmüller & Enßlin 2019", "1901.11033"),
            ),
        ),
        "snap": Entry(
            "infield.posterior.samplers.snap:SNaP",
            "a posterior in one step",
            papers=("shoushtari2026snap", "shi2026nullflow", "geng2025meanflow"),
            facts=facts(
                f"{AMORTISED}; takes an amortised posterior (`one-step`) in place of a prior",
                "nothing: as good as its training",
                "1 network evaluation",
                "Shoushtari, Chandler, Shi & Kamilov 2026, SNaP",
            ),
        ),
        "null-flow": Entry(
            "infield.posterior.samplers.null_flow:NullFlow",
            "a posterior in one step, for exact data",
            papers=("shi2026nullflow", "geng2025meanflow"),
            facts=facts(
                "the operators of its training, data without noise; takes an amortised posterior (`one-step`)",
                "the data: every sample agrees with them to rounding",
                "1 network evaluation",
                arxiv("Shi et al. 2026", "2606.22696"),
            ),
        ),
        "unrolled": Entry(
            "infield.posterior.samplers.unrolled:UnrolledEstimate",
            "estimate of the posterior mean by an unrolled network",
            papers=("aggarwal2019modl",),
            facts=facts(
                f"{AMORTISED}; takes an unrolled network in place of a prior",
                NOTHING,
                "1 network evaluation",
                arxiv("Aggarwal, Mani & Jacob 2019", "1712.02862"),
            ),
        ),
        "pmrf": Entry(
            "infield.posterior.samplers.pmrf:PMRF",
            "posterior-mean rectified flow",
            papers=("ohayon2025pmrf",),
            facts=facts(
                f"{AMORTISED}; takes a posterior-mean rectified flow in place of a prior",
                NOTHING,
                "25 network evaluations (`levels`)",
                arxiv("Ohayon, Michaeli & Elad 2025", "2410.00418"),
            ),
        ),
        "red-diff": Entry(
            "infield.posterior.samplers.red_diff:REDDiff",
            "an optimum under a prior as regulariser",
            papers=("mardani2023reddiff",),
            facts=facts(
                DIFFERENTIABLE,
                NOTHING,
                "1000 velocity evaluations (`steps`)",
                arxiv("Mardani et al. 2023", "2305.04391"),
            ),
        ),
        "diffpir": Entry(
            "infield.posterior.samplers.diffpir:DiffPIR",
            "draws of the prior that are guided to any data",
            papers=("zhu2023diffpir",),
            facts=facts(
                DIFFERENTIABLE,
                NOTHING,
                "40 velocity evaluations (`levels`); about 1300 evaluations of the operator and of its derivatives",
                arxiv("Zhu et al. 2023", "2305.08995"),
            ),
        ),
        "dds": Entry(
            "infield.posterior.samplers.dds:DDS",
            "decomposed diffusion sampling",
            papers=("chung2024dds",),
            facts=facts(
                f"volumes (z, y, x) under a prior of slices; {GAUSSIAN_DATA}",
                NOTHING,
                "50 velocity evaluations per slice",
                arxiv("Chung, Lee & Ye 2024", "2303.05754"),
            ),
        ),
        "diffusion-mbir": Entry(
            "infield.posterior.samplers.diffusion_mbir:DiffusionMBIR",
            "slices by a diffusion, joined by total variation",
            papers=("chung2023mbir",),
            facts=facts(
                f"volumes (z, y, x) under a prior of slices; {GAUSSIAN_DATA}",
                NOTHING,
                "4000 velocity evaluations per slice",
                arxiv("Chung et al. 2023", "2211.10655"),
            ),
        ),
        "kriging": Entry(
            "infield.posterior.samplers.kriging:Kriging",
            "closed form, for point data without a prior",
            papers=("rasmussen2006gpml", "vecchia1988"),
            facts=facts(
                "operators `points` and `mask`, Gaussian noise, no prior; the default there",
                "the Gaussian process fitted to the data; up to 500 data its hyperparameters are drawn as well",
                "no velocity evaluation; small dense solves",
                "Krige 1951; Matheron 1963; Rasmussen & Williams 2006",
            ),
        ),
        "exact": Entry(
            "infield.posterior.samplers.exact:Exact",
            "closed form, for Gaussian priors and linear data",
            papers=("rasmussen2006gpml",),
            facts=facts(
                f"Gaussian and Gaussian-mixture priors, {GAUSSIAN_DATA}",
                "all of these",
                "no velocity evaluation; one linear solve",
                "closed form",
            ),
        ),
    },
}
