"""Every checkpoint that ships with the package is loaded by the one public name, as the object that it is."""

from __future__ import annotations

import pytest

import infield
from infield import InfieldError
from infield.pipelines.package_data import CHECKPOINTS
from infield.priors.amortised.average_velocity import AverageVelocity
from infield.priors.bridges.region_bridge import RegionBridge
from infield.priors.cm21.prior import LightconePrior
from infield.priors.flows.flow import LearnedFlow

KINDS = {"lightcones": LightconePrior, "one_step": AverageVelocity, "pet_bridge": RegionBridge}
SHIPPED = sorted(CHECKPOINTS.glob("*.ckpt"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_checkpoint_loads_as_what_it_is(path):
    kind = next((kind for name, kind in KINDS.items() if path.stem.startswith(name)), LearnedFlow)
    found = infield.load_prior(path)
    assert type(found) is kind and len(found.sha256) == 64


def test_there_are_eighteen_and_another_file_is_refused(tmp_path):
    assert len(SHIPPED) == 18
    other = tmp_path / "other.ckpt"
    other.write_bytes(b"no checkpoint")
    with pytest.raises(InfieldError, match=r"other\.ckpt: found a file that cannot be read as a checkpoint"):
        infield.load_prior(other)
