"""Commands, simulations and benches of every domain; see `core.registry`."""

from __future__ import annotations

from infield.core.registry import Entry

FIELDS = "infield.pipelines.commands.simulate_options:FIELDS"

ENTRIES = {
    "commands": {
        "convert": Entry(
            "infield.pipelines.commands.convert", "tables, grids and raw data to a measurement; posteriors to maps"
        ),
        "simulate": Entry(
            "infield.pipelines.commands.simulate_options",
            "data sets of random fields and of solutions of partial differential equations",
        ),
        "fit": Entry(
            "infield.pipelines.commands.fit_options",
            "train a prior, a surrogate or an amortised posterior from a YAML configuration",
        ),
        "reconstruct": Entry(
            "infield.pipelines.commands.reconstruct_options", "posterior samples of the field behind a measurement file"
        ),
        "explain": Entry("infield.pipelines.commands.explain", "what each datum contributes to a feature"),
        "calibrate": Entry(
            "infield.pipelines.commands.calibrate", "is a sampler right on a measurement file, and what mends it"
        ),
        "check": Entry(
            "infield.pipelines.commands.check", "do prior, operator and noise of a posterior fit its own data"
        ),
        "evaluate": Entry("infield.pipelines.commands.evaluate", "calibration of every sampler, case by case"),
        "bench": Entry("infield.pipelines.commands.bench", "calibration and cost beside named peers, in one run"),
        "list": Entry("infield.pipelines.commands.list", "names of priors, samplers, operators, configurations, ..."),
        "cite": Entry("infield.pipelines.commands.cite", "BibTeX of what to cite, also of a posterior"),
        "view": Entry("infield.pipelines.commands.view", "the report of a posterior in a browser"),
        "doctor": Entry("infield.pipelines.commands.doctor", "checks the installation: versions, devices, folders"),
        "demo": Entry(
            "infield.pipelines.commands.demo_options",
            "the whole workflow in three minutes: measurement, posterior, report",
        ),
        "emulate": Entry("infield.pipelines.commands.emulate", "new fields drawn from a prior"),
    },
    "emulators": {
        "prior": Entry("infield.pipelines.commands.emulate_fields_options", "fields of a prior, learned or described"),
    },
    "checkpoint_folders": {"infield": Entry("infield.pipelines", "checkpoints of this package")},
    "tables": {"priors": Entry("infield.pipelines.run.names:priors", "all priors by name")},
    "converters": {
        "table": Entry("infield.pipelines.tables.table", "a table of scattered data to a measurement"),
        "grid": Entry("infield.pipelines.tables.grid", "a gridded field with gaps to a measurement"),
        "stack": Entry("infield.pipelines.tables.stack", "measurements of one field by several instruments to one"),
        "posterior": Entry("infield.pipelines.tables.posterior", "a posterior to a map: netCDF or GeoTIFF"),
    },
    "simulators": {
        "darcy": Entry(FIELDS, "permeabilities of two phases, and pressures"),
        "poisson": Entry(FIELDS, "sources, and solutions of -Laplacian u = f"),
        "helmholtz": Entry(FIELDS, "sources, and solutions of -Laplacian u + k^2 u = f"),
        "navier-stokes": Entry(FIELDS, "vorticities, and those at a later time"),
        "process": Entry(FIELDS, "random functions"),
    },
    "report_sections": {
        "contributions": Entry("infield.pipelines.report.contributions:section", "which data move the mean"),
    },
    "evaluations": {
        "points": Entry("infield.pipelines.bench.evaluation_cases:points", "values of a Gaussian field at points"),
        "counts": Entry("infield.pipelines.bench.evaluation_cases:counts", "Poisson counts of a log-normal field"),
        "modes": Entry("infield.pipelines.bench.evaluation_cases:modes", "a mixture of Gaussian priors"),
        "learned-modes": Entry("infield.pipelines.bench.evaluation_cases:learned_modes", "the mixture, learned"),
    },
    "benches": {
        "all": Entry("infield.pipelines.bench.all", "every other bench, to see that it runs"),
        "calibration": Entry("infield.pipelines.bench.calibration", "simulation-based calibration of samplers"),
        "gp-regression": Entry("infield.pipelines.bench.gp_regression", "regression beside its closed form"),
        "kriging-counts": Entry("infield.pipelines.bench.kriging_counts", "former name of kriging --parts counts"),
        "kriging": Entry("infield.pipelines.bench.kriging.run", "point data to a map beside geostatistics"),
        "learned-prior": Entry("infield.pipelines.bench.learned_prior", "a learned prior beside its exact one"),
        "mixture": Entry("infield.pipelines.bench.mixture", "posteriors of several modes"),
        "pde": Entry("infield.pipelines.bench.pde.run", "coefficients of partial differential equations"),
        "scaling": Entry("infield.pipelines.bench.scaling", "cost against the size of a field"),
        "trust": Entry("infield.pipelines.bench.trust", "are faulty posteriors found, and right ones left alone"),
        "spectrum": Entry("infield.pipelines.bench.spectrum", "spectra of draws of learned priors"),
        "steps": Entry("infield.pipelines.bench.steps", "steps that are exact for Gaussian priors; denoisers; data"),
    },
}
