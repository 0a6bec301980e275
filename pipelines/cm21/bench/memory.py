"""How the memory of drawing a lightcone grows with its depth.

Peak memory is that of a process of its own that draws one cone of 128 or of 1024 cells. Where the prior's line of sight
has fewer, it gets as many places between its two ends, closer together: a cone of no universe, but the same
work.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch
from torch import Generator

from infield.core.errors import InfieldError
from infield.pipelines.bench.peak_memory import peak_mib
from infield.pipelines.bench.records import Bench
from infield.priors.cm21.prior_entry import load_lightcone_prior

DEPTHS = (128, 1024)
FLOW_STEPS = 2
"""Of the integration; more of them need no more memory."""


def add_memory(bench: Bench, prior: Path, depths: tuple[int, ...] = DEPTHS) -> float:
    """Peak memory of each depth, and the last one's over the first one's, which is returned."""
    peaks = []
    for depth in depths:
        command = [sys.executable, "-m", __name__, str(prior), str(depth)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise InfieldError((done.stderr.strip().splitlines() or ["killed"])[-1], where=f"bench cm21: depth {depth}")
        found = json.loads(done.stdout.strip().splitlines()[-1])
        for name, value in found.items():
            bench.add("memory", f"depth {depth}", name, value, "MiB")
        peaks.append(found["peak_mib"])
    return peaks[-1] / peaks[0]


def _draw(path: str, depth: int) -> dict[str, float]:
    """Peak memory of drawing one cone, and what the process had before it."""
    torch.set_num_threads(1)
    prior = load_lightcone_prior(path)
    before = peak_mib()
    theta = torch.full((len(prior.ranges),), 0.5, dtype=torch.float64)
    generator = Generator().manual_seed(0)
    if prior.emulator is None:
        s = torch.linspace(0, 1, depth, dtype=torch.float64)[None]
        cone = prior.integrate(prior.on(theta, s, prior.points), generator, 1, FLOW_STEPS)
    else:
        cone = prior.conditioned_emulator(theta, depth=depth).draw(generator)
    assert cone.shape[-1] == depth
    return {"peak_mib": peak_mib(), "added_mib": peak_mib() - before}


if __name__ == "__main__":
    print(json.dumps(_draw(sys.argv[1], int(sys.argv[2]))))
