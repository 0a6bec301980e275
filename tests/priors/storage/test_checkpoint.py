from __future__ import annotations

import hashlib
import pickle

import pytest
import torch
from torch import nn

import infield
from infield import InfieldError
from infield.core.grid import Grid
from infield.priors.base import Standardisation
from infield.priors.covariance.base import Covariance
from infield.priors.flows.flow import LearnedFlow
from infield.priors.gaussian.kernels import Kernel, Matern, White
from infield.priors.networks.fno import FNO
from infield.priors.networks.unet import UNet
from infield.priors.storage.checkpoint import export_prior, load_flow_prior
from infield.priors.storage.flow_entry import ENTRY, VERSION, to_entry
from infield.priors.training.flow_matching import source_on


def a_prior(network: nn.Module, law: Kernel, grid: Grid) -> LearnedFlow:
    """Stands for a trained prior: every number is random."""
    g = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    nn.init.normal_(network.head.weight)
    channels = network.channels
    source = source_on(law, grid, channels)
    shape = source.event_shape
    diagonal, factors = torch.rand(shape, generator=g).double() + 0.1, torch.randn((3, *shape), generator=g).double()
    one = torch.ones(channels, *[1] * grid.ndim).double()
    return LearnedFlow(
        name="a prior",
        network=network.eval(),
        source=source,
        covariance=Covariance(source.modes, diagonal, factors),
        mean=torch.randn(shape, generator=g).double(),
        standardisation=Standardisation(280 * one, 3 * one),
        skip="gaussian",
        grid_description=grid.to_json(),
        units="K",
        channels=tuple(f"c{i}" for i in range(channels)),
        provenance={"kind": "flow", "training": {"steps": 12}},
    )


PRIORS = [
    lambda: a_prior(UNet(2, 2, (8, 8)), Matern(0.5, 0.1), Grid.regular((9, 8), periodic=True)),
    lambda: a_prior(FNO(1, 1, 4, 8, 2), Matern(1.5, 0.3), Grid.regular((17,))),
    lambda: a_prior(FNO(1, 1, 4, 8, 2), White(), Grid.regular((17,))),
    lambda: a_prior(FNO(1, 1, 4, 8, 2, "linear", 0.25, True), Matern(0.5, 0.3, rank=8), Grid.regular((17,))),
]


@pytest.fixture
def saved(tmp_path):
    prior = PRIORS[1]()
    path = tmp_path / "prior.ckpt"
    torch.save({"state_dict": {}, "optimizer_states": [torch.zeros(1000)], ENTRY: to_entry(prior)}, path)
    return path


def edited(path, **changes):
    checkpoint = torch.load(path, weights_only=True)
    checkpoint[ENTRY].update(changes)
    torch.save(checkpoint, path)
    return path


@pytest.mark.parametrize("build", PRIORS)
def test_a_prior_comes_back_bit_for_bit(build, tmp_path):
    prior = build()
    path = tmp_path / "prior.ckpt"
    torch.save({ENTRY: to_entry(prior)}, path)
    again = load_flow_prior(path)
    x = torch.randn(4, *prior.mean.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for t in (0.0, 0.37, 0.99):
        v = prior.velocity(x, t)
        assert v.dtype == torch.float64 and not v.requires_grad
        assert torch.equal(again.velocity(x, t), v)
    for name in ("diagonal", "factors"):
        assert torch.equal(getattr(again.covariance, name), getattr(prior.covariance, name))
    assert torch.equal(again.standardisation.to_units(x), prior.standardisation.to_units(x))
    assert (again.name, again.units, again.channels, again.skip) == (
        prior.name,
        prior.units,
        prior.channels,
        prior.skip,
    )
    assert Grid.from_json(again.grid_description) == Grid.from_json(prior.grid_description)
    assert again.sha256 == hashlib.sha256(path.read_bytes()).hexdigest() == again.provenance["sha256"]
    assert not again.gaussian and not again.network.training


def test_other_weights_give_another_prior(saved):
    weights = {k: v + 0.1 for k, v in torch.load(saved, weights_only=True)[ENTRY]["weights"].items()}
    x = torch.ones(1, 1, 17, dtype=torch.float64)
    before = load_flow_prior(saved).velocity(x, 0.5)
    assert not torch.allclose(load_flow_prior(edited(saved, weights=weights)).velocity(x, 0.5), before, rtol=1e-3)


def test_the_slim_file_is_the_same_prior(saved, tmp_path):
    slim = export_prior(saved, tmp_path / "slim.ckpt")
    x = torch.ones(1, 1, 17, dtype=torch.float64)
    assert torch.equal(load_flow_prior(slim).velocity(x, 0.5), infield.load_prior(saved).velocity(x, 0.5))
    assert set(torch.load(slim, weights_only=True)) == {ENTRY}
    with pytest.raises(InfieldError, match="found an existing file"):
        export_prior(saved, slim)
    export_prior(saved, slim, overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["prior.ckpt", "slim.ckpt"]


def test_weights_in_half_precision_give_nearly_the_same_prior(saved, tmp_path):
    slim = export_prior(saved, tmp_path / "half.ckpt", half=True)
    kept, full = (torch.load(path, weights_only=True)[ENTRY] for path in (slim, saved))
    assert {w.dtype for w in kept["weights"].values() if w.is_floating_point()} == {torch.float16}
    assert all(torch.equal(kept["weights"][k], w.half()) for k, w in full["weights"].items())
    assert torch.equal(kept["covariance"]["diagonal"], full["covariance"]["diagonal"])
    x = torch.ones(1, 1, 17, dtype=torch.float64)
    exact, found = (load_flow_prior(path).velocity(x, 0.5) for path in (saved, slim))
    assert 0 < (found - exact).norm() < 2e-3 * exact.norm()


def test_a_weight_too_large_for_half_precision_is_refused(saved, tmp_path):
    weights = torch.load(saved, weights_only=True)[ENTRY]["weights"]
    next(iter(weights.values())).view(-1)[0] = 1e5
    with pytest.raises(InfieldError, match="found a weight of 1e\\+05, expected at most 65504"):
        export_prior(edited(saved, weights=weights), tmp_path / "half.ckpt", half=True)
    assert not (tmp_path / "half.ckpt").exists()


class Surprise:
    def __reduce__(self):
        return print, ("code in a checkpoint was run",)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def with_code(path):
    path.write_bytes(pickle.dumps({ENTRY: Surprise()}, protocol=2))
    return path


def foreign(path):
    torch.save({"state_dict": {"weight": torch.zeros(2)}}, path)
    return path


def text(path):
    path.write_text("not a checkpoint")
    return path


def without(path, key):
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint[ENTRY][key]
    torch.save(checkpoint, path)
    return path


def other_shape(path):
    network = {"name": "fno", "arguments": FNO(1, 1, 4, 16, 2).arguments}
    return edited(path, network=network)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.with_name("missing.ckpt"), "found no file"),
        (lambda path: path.parent, "found no file"),
        (truncate, "cannot be read as a checkpoint"),
        (text, "cannot be read as a checkpoint"),
        (with_code, "cannot be read as a checkpoint"),
        (foreign, f"'{ENTRY}': found no such entry"),
        (lambda path: edited(path, version=VERSION + 1), "needs a newer Infield"),
        (lambda path: edited(path, network={"name": "dit", "arguments": {}}), "found 'dit', expected one of fno, unet"),
        (lambda path: edited(path, modes={"name": "wavelets"}), "found 'wavelets'"),
        (lambda path: without(path, "covariance"), "found no 'covariance'"),
        (other_shape, "do not fit together"),
    ],
)
def test_a_file_that_is_no_prior_is_refused_in_one_line(saved, damage, words, capfd):
    path = damage(saved)
    with pytest.raises(InfieldError, match=words) as error:
        load_flow_prior(path)
    message = str(error.value)
    assert "\n" not in message and message.startswith(str(path)) and len(message) < 700
    assert "code in a checkpoint was run" not in capfd.readouterr().out
