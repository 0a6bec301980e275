"""The gate: are the outputs of all commands what they were?

    python tests/gate record FILE            # digests of every case, at this commit
    python tests/gate compare FILE           # every byte, on the machine that recorded
    python tests/gate compare FILE --rounding
    python tests/gate show CASE              # the digests of one case

The package that runs is the one that Python finds first (PYTHONPATH), so that one gate runs on any commit.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import json
import logging
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from gate.cases import Refused, cases, make_inputs
from gate.digests import differences


def run_all(only: str = "") -> dict[str, dict]:
    """Digests by case; a case that a command refuses has none."""
    found: dict[str, dict] = {}
    logging.disable(logging.WARNING)
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        make_inputs(Path(folder))
        os.chdir(folder)
        for name, run in cases():
            if only not in name:
                continue
            quiet = io.StringIO()
            with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                start = time.process_time()
                try:
                    found[name] = run()
                except Refused as refused:
                    found[name] = {f"(status {refused.status})": []}
            if os.environ.get("GATE_VERBOSE"):
                said = quiet.getvalue().strip().splitlines() if "(status" in str(found[name]) else []
                print(f"{time.process_time() - start:6.2f} s  {name}  {said[-1:] or ''}", file=sys.stderr)
        os.chdir(here)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="gate", description=__doc__, formatter_class=argparse.RawTextHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("verb", choices=["record", "compare", "show"])
    parser.add_argument("file", metavar="FILE or CASE")
    parser.add_argument("--rounding", action="store_true", help="compare to rounding, not every byte")
    parser.add_argument("--only", default="", metavar="WORD", help="cases whose names hold this")
    arguments = parser.parse_args()
    if arguments.verb == "show":
        print(json.dumps(run_all(arguments.file), indent=1))
        return 0
    path = Path(arguments.file).resolve()
    now = run_all(arguments.only)
    served = sum(not any(k.startswith("(status") for k in found) for found in now.values())
    if arguments.verb == "record":
        path.write_bytes(gzip.compress(json.dumps(now, separators=(",", ":")).encode(), mtime=0))
        print(f"{path}: {len(now)} cases, {served} served, {len(now) - served} refused")
        return 0
    before = {k: v for k, v in json.loads(gzip.decompress(path.read_bytes())).items() if arguments.only in k}
    changed = 0
    for name in sorted(before.keys() | now.keys()):
        if name not in now or name not in before:
            found = ["case gone" if name in before else "case new"]
        elif "(status 2)" in before[name] and "(status 1)" not in now[name]:
            found = []  # what was refused may be served
        else:
            found = differences(before[name], now[name], rounding=arguments.rounding)
        if found:
            changed += 1
            print(f"{name}: {', '.join(found)}")
    print(f"{len(now)} cases, {served} served, {changed} differ")
    return int(changed > 0)


if __name__ == "__main__":
    sys.exit(main())
