"""What MRI adds to the registry; see `core.registry`."""

from __future__ import annotations

from infield.core.registry import Entry

ENTRIES = {
    "converters": {"mri": Entry("infield.pipelines.mri.convert_options", "k-space of a scanner to a measurement")},
    "simulators": {
        "brain": Entry("infield.pipelines.mri.simulate_options:COMMAND", "complex slices of synthetic heads")
    },
    "evaluations": {
        "kspace": Entry("infield.pipelines.mri.bench.evaluation:kspace", "an eighth of the k-space of a head"),
        "exact-kspace": Entry("infield.pipelines.mri.bench.evaluation:exact_kspace", "the same without noise"),
        "volumes": Entry("infield.pipelines.mri.bench.evaluation:volumes", "an eighth of the k-space of a volume"),
    },
    "benches": {
        "trust-mri": Entry(
            "infield.pipelines.mri.bench.trust", "faulty k-space files found, overconfident posteriors mended"
        ),
        "kspace": Entry("infield.pipelines.mri.bench.kspace", "measured k-space of a head"),
        "mri": Entry("infield.pipelines.mri.bench.run", "slices of heads under several masks"),
        "one-step": Entry("infield.pipelines.mri.bench.one_step", "posteriors in one step, of heads"),
        "volumes": Entry("infield.pipelines.mri.bench.volumes", "volumes by priors of slices"),
    },
}
