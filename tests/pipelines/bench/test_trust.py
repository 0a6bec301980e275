"""`infield bench trust`: what it keeps."""

from collections import Counter

from infield.pipelines.bench import trust
from infield.pipelines.bench.kept import Kept
from infield.pipelines.bench.records import Bench


class Recorded(Kept):
    """Takes the names of cases, and runs none."""

    names: Counter[str] = Counter()

    def number(self, name, make):
        self.names[name] += 1
        return 1.0


def test_every_kept_case_has_a_name_of_its_own(tmp_path):
    """One part read the cases of another: 40 right files were given the verdicts of 40 right draws."""
    kept, bench = Recorded(tmp_path), Bench("trust", 0)
    for part in (trust._faults, trust._around, trust._prior, trust._check):
        part(bench, 0, kept, 10)
    assert len(kept.names) > 40 and max(kept.names.values()) == 1
