"""Random mutants of a room, and those that no test notices: `make mutants ROOM=posterior SEED=0 N=40`.

A mutant is the code with one operator, comparison, number or truth value changed (`changes.py`). Each is run with those
tests alone that reach the changed place (`reach.py`), in the test files that import its module, nearest first, until
one fails (`hunt.py`). At most `--files` files that are not yet known are tried: who survives could still be noticed by
one further away, but nobody is called killed who is not, since a test counts only if it passes, alone too, where
nothing is changed. A mutant that takes several times the processor time (an endless loop) is killed.

With `--keep FILE` the mutants and what became of them are kept: a run that was ended goes on, and `--again` runs the
survivors once more, with the tests of today. `equivalent.yaml` argues, one by one, which mutants are the same program.

A module of our own because cosmic-ray runs one fixed test command for every mutant of every module and neither it nor
mutmut draws a number of mutants by a seed; all mutants of a room with all of its tests would take weeks.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from mutants.changes import FOLDERS, Mutant, again, mutants
from mutants.hunt import Hunt
from mutants.runner import Runner

ROOT = Path(__file__).resolve().parents[2]
EQUIVALENT = Path(__file__).with_name("equivalent.yaml")
ALLOWED = 0.03
"""Share of survivors from which on the command fails."""


def equivalent(mutant: Mutant, argued: list[dict[str, str]]) -> bool:
    """Whether a mutant is in the list of those that are the same program; the file's folder does not count."""
    key = {"file": mutant.path.name, "code": mutant.code, "before": mutant.before, "after": mutant.after}
    return any(entry.get("why") and {name: entry[name] for name in key} == key for entry in argued)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("room", choices=FOLDERS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=40, help="mutants that are drawn")
    parser.add_argument("--files", type=int, default=10, help="test files a mutant is run with at most")
    parser.add_argument("--seconds", type=float, default=120, help="processor time of the tests of one mutant at most")
    parser.add_argument("--reach", action="store_true", help="find out first which tests reach what: dear, but kept")
    parser.add_argument("--python", default=sys.executable, help="interpreter of the tests")
    parser.add_argument("--only", default="", help="only the mutants of modules whose path holds this")
    parser.add_argument("--list", action="store_true", help="list the mutants and run none")
    parser.add_argument("--keep", type=Path, help="file of the mutants and what became of them; a run goes on from it")
    parser.add_argument("--again", action="store_true", help="with --keep: run its survivors once more")
    asked = parser.parse_args()
    records = json.loads(asked.keep.read_text()) if asked.keep and asked.keep.exists() else []
    if not records:
        drawn = mutants(ROOT, asked.room, asked.seed, asked.count)
        records = [{**mutant.key, "killer": None} for mutant in drawn]
    chosen = []
    for record in records:
        mutant = again(ROOT, record)
        if mutant is None:
            record["killer"] = record["killer"] or "gone"
        elif asked.only in record["path"]:
            chosen.append((record, mutant))
    if asked.keep:
        asked.keep.write_text(json.dumps(records, indent=1))
    if asked.list:
        print(*(mutant for _, mutant in chosen), sep="\n")
        return 0
    argued = yaml.safe_load(EQUIVALENT.read_text(encoding="utf-8")) or []
    with tempfile.TemporaryDirectory(prefix="mutants-") as scratch:
        runner = Runner(asked.python, ROOT)
        hunt = Hunt(ROOT, Path(scratch), ROOT / "build" / "mutants", runner, asked.files, asked.seconds, asked.reach)
        for number, (record, mutant) in enumerate(chosen):
            if (record["killer"] is None or (record["killer"] == "" and asked.again)) and not equivalent(
                mutant, argued
            ):
                record["killer"] = hunt.killer(mutant, number)
                if asked.keep:
                    asked.keep.write_text(json.dumps(records, indent=1))
            print(f"killed   {mutant}    by {record['killer']}" if record["killer"] else f"SURVIVED {mutant}")
            sys.stdout.flush()
        runner.close()
    standing = [mutant for record, mutant in chosen if not record["killer"]]
    survivors = [mutant for mutant in standing if not equivalent(mutant, argued)]
    print(f"\ntests that fail on the unchanged tree, and were left out: {sorted(hunt.left_out) or 'none'}")
    print("survivors:", *(survivors or ["none"]), sep="\n  ")
    print(
        f"{asked.room}, seed {asked.seed}: {len(chosen)} mutants, {len(chosen) - len(standing)} killed, "
        f"{len(standing) - len(survivors)} argued equivalent, {len(survivors)} survived"
    )
    return int(len(survivors) >= ALLOWED * len(chosen))


if __name__ == "__main__":
    sys.exit(main())
