"""Synthetic brains: the same sample whatever the batch, of the stated statistics; no data, no brains."""

import importlib.util
import json
import math

import numpy as np
import pytest
import torch

from infield import InfieldError
from infield.core.grid import Grid
from infield.core.randomness import SampleStreams
from infield.datasets.anatomy.brain_template import FILE, load_template
from infield.datasets.formats.simulation import open_simulation
from infield.datasets.mri import brains
from infield.datasets.mri.brains import SEQUENCES, TISSUES, BrainPhantom
from infield.datasets.mri.convert import measurement_of
from infield.datasets.mri.kspace import KSpace, fourier
from infield.datasets.training.fields import FieldFile
from infield.pipelines.cli import main
from infield.pipelines.mri.simulate import make_brains


def grid(n=64, fov=240.0):
    return Grid.regular((n, n), (fov, fov), units="mm", periodic=True)


def draw(numbers, n=64, seed=0, **parameters):
    return BrainPhantom(**parameters).draw(grid(n), SampleStreams(seed, numbers).normal)


@pytest.fixture(scope="module")
def heads():
    return draw(range(24))


def test_a_sample_depends_on_seed_and_number_alone(heads):
    assert torch.equal(draw(range(5, 7)), heads[5:7])
    assert not torch.equal(draw([5], seed=1)[0], heads[5])
    assert len({float(h.abs().sum()) for h in heads}) == len(heads)


def test_another_resolution_is_the_same_head(heads):
    fine = draw(range(4), n=128)
    k = torch.from_numpy(fourier(fine.numpy()))[:, 32:96, 32:96]
    coarse = torch.from_numpy(np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(k, (1, 2)), norm="ortho"), (1, 2))) / 2
    for seen, expected in zip(heads[:4], coarse, strict=True):
        gain = seen.abs().sum() / expected.abs().sum()  # each is scaled by its own brightest points
        assert 0.85 < gain < 1.18 and (seen / gain - expected).norm() < 0.1 * expected.norm()
    assert (heads[0] - coarse[1]).norm() > 0.5 * coarse[1].norm()  # negative control


def test_brightness_and_background(heads):
    magnitude = heads.abs()
    assert magnitude.isfinite().all()
    bright = magnitude.flatten(1).quantile(0.99, dim=1).log()
    assert abs(bright.mean() - 0.1) < 0.12 and 0.08 < bright.std() < 0.25
    border = torch.cat([magnitude[:, :2].flatten(1), magnitude[:, :, :2].flatten(1)], dim=1).amax(1)
    assert (border < 0.15).double().mean() > 0.85  # a large head touches it
    assert (0.2 < (magnitude > 0.15).double().mean((1, 2))).all()
    assert abs(heads.mean()) < 0.1 * magnitude.mean()  # any phase is as likely


def rough(image):
    """Share of neighbours in the head whose phases differ by more than half a radian."""
    bright = image.abs() > 0.15
    both = bright[1:] & bright[:-1]
    return ((image[1:] * image[:-1].conj()).angle().abs()[both] > 0.5).double().mean()


def test_the_phase_is_smooth(heads):
    assert max(rough(image) for image in heads) < 0.03
    signs = torch.where(torch.arange(64)[:, None] % 5 == 0, -1.0, 1.0)
    assert rough(heads[0] * signs) > 0.2  # negative control


def test_the_echo_is_near_the_middle_of_kspace(heads):
    power = np.abs(fourier(heads.numpy())).reshape(len(heads), -1)
    peaks = np.stack(np.unravel_index(power.argmax(1), (64, 64)), axis=1)
    assert np.abs(peaks - 32).max() <= 4 and (peaks != 32).any()


def test_shares_of_tissues_are_shares(monkeypatch):
    law, streams = BrainPhantom(lesions=1.0), SampleStreams(3, range(4)).normal
    axes = [torch.arange(-60, 60, dtype=torch.float64) * 2] * 2
    shares, bright = law._anatomy(axes, brains._Waves(axes, 240.0, streams), streams)
    assert shares.min() >= 0 and shares.sum(0).max() <= 1.02 and bright.min() > 0
    named = dict(zip(TISSUES, shares, strict=True))
    assert all(0.01 < named[name].mean() < 0.4 for name in ("white", "grey", "fluid", "fat"))
    assert named["lesion"].max() > 0.4 and named["lesion"].mean() < 0.05
    whole = shares.sum(0)[:, 55:65, 55:65]
    assert whole.min() > 0.9  # the middle of a head is full
    law = BrainPhantom(lesions=0.0)
    streams = SampleStreams(3, range(4)).normal
    shares, _ = law._anatomy(axes, brains._Waves(axes, 240.0, streams), streams)
    assert dict(zip(TISSUES, shares, strict=True))["lesion"].max() == 0


@pytest.mark.parametrize(
    ("sequence", "order"),
    [
        ("T1", ("fluid", "grey", "white", "fat")),
        ("T1 after inversion", ("grey", "white", "fat")),
        ("T2", ("white", "grey", "lesion", "fluid")),
        ("FLAIR", ("fluid", "white", "grey", "lesion")),
    ],
)
def test_contrast_of_the_sequences(monkeypatch, sequence, order):
    """From dark to bright, as radiologists know them; signals are never negative."""
    monkeypatch.setattr(brains, "SEQUENCES", {sequence: SEQUENCES[sequence]})
    signals = brains._signals(SampleStreams(0, range(200)).normal)
    assert signals.min() >= 0
    typical = [signals[:, list(TISSUES).index(name)].median() for name in order]
    assert typical == sorted(typical)


def test_a_turn_is_a_turn():
    angles = torch.tensor([[0.3, -0.2, 0.7], [0.0, 0.0, 0.5]], dtype=torch.float64)
    turns = brains._rotation(angles)
    torch.testing.assert_close(turns @ turns.mT, torch.eye(3).double().expand(2, 3, 3))
    torch.testing.assert_close(turns[1, :2, :2], torch.tensor([[0.87758, -0.47943], [0.47943, 0.87758]]).double(),
                               atol=1e-5, rtol=0)  # fmt: skip


@pytest.mark.parametrize("n", [32, 33])
def test_upside_down_keeps_the_point_in_the_middle(n):
    image = torch.arange(n * 3.0).reshape(1, n, 3)
    turned = brains._upside_down(image)
    assert torch.equal(turned[0, n // 2], image[0, n // 2]) and torch.equal(turned[0, n // 2 + 1], image[0, n // 2 - 1])


def test_smooth_fields_have_unit_variance_and_the_stated_length():
    axis = torch.arange(-48, 48, dtype=torch.float64) * 2.5
    field = brains._Waves([axis, axis], 240.0, SampleStreams(0, range(200)).normal)(20.0)
    assert abs(field.var() - 1) < 0.1
    for steps, expected in ((4, 0.882), (8, 0.607), (16, 0.135)):
        assert abs((field[:, steps:] * field[:, :-steps]).mean() / field.var() - expected) < 0.05


def test_a_brain_becomes_a_measurement(heads):
    """Of one uniform coil and all samples: the zero-filled image is the brain itself."""
    k = fourier(heads[0].numpy())[None]
    converted = measurement_of(KSpace(samples=k, mask=np.ones((64, 64), dtype=bool)), name="a brain")
    m = converted.measurement
    found = torch.complex(*m.operator.A_adjoint(m.y)[0]) * converted.scale
    torch.testing.assert_close(found, heads[0], atol=1e-10, rtol=0)


def test_by_the_command(tmp_path, capsys):
    path = tmp_path / "b.zarr"
    arguments = ["-o", str(path), "--samples", "17", "--points", "32", "--seed", "4", "--workers", "1", "--json"]
    assert main(["simulate", "brain", *arguments, "--with", "lesions=0.5"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["variables"] == ["image"] and summary["parameters"]["law"]["lesions"] == 0.5
    group = open_simulation(path)
    assert group["image"].dtype == np.complex64 and group["image"].dims == ("sample", "y", "x")
    assert group["y"].attrs["units"] == "mm" and group["y"].attrs["periodic"] == 1
    np.testing.assert_allclose(np.diff(group["y"]), 7.5)
    expected = draw([16], n=32, seed=4, lesions=0.5)[0]
    np.testing.assert_allclose(group["image"][16], expected, atol=1e-6)
    data = FieldFile(path=str(path), variable="image", batch_size=4)
    data.setup("fit")
    assert data.channels == ("real", "imag") and data.training[[3]].shape == (1, 2, 32, 32)


def _cut(folder):
    for name in ("t1", "gm", "wm"):
        (folder / FILE.format(name)).write_bytes(b"\x1f\x8b\x08")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["colour=2"], "found no parameter colour of a brain, expected fov, lowest, highest, lesions, template"),
        (["fov=100"], "fov: found 100, expected at least 180 mm"),
        (["fov=wide"], "--with: found a value of another kind"),
        (["lowest=70"], "found slices from 70 to 60.0 mm"),
        (["lesions=2"], "lesions: found 2, expected a probability"),
    ],
)
def test_bad_parameters(settings, words):
    with pytest.raises(InfieldError) as caught:
        make_brains(settings=settings)
    assert words in str(caught.value)


def test_without_the_template_it_says_how_to_get_it(tmp_path, monkeypatch, capsys):
    arguments = ["simulate", "brain", "-o", str(tmp_path / "b.zarr")]
    assert main([*arguments, "--with", f"template={tmp_path}"]) == 2
    said = capsys.readouterr().err
    assert f"found no {FILE.format('t1')} in {tmp_path}" in said and said.count("\n") == 1
    find = importlib.util.find_spec
    absent = "nilearn"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == absent else find(name, *more))
    assert main(arguments) == 2
    assert "found no MNI152 template, expected the one that nilearn carries; pip install 'infield[mri]'" in (
        capsys.readouterr().err
    )
    _cut(tmp_path)
    with pytest.raises(InfieldError, match=r"_t1_.*found no readable NIfTI file"):
        load_template(str(tmp_path))
    with pytest.raises(InfieldError, match="expected two numbers of at least 32 points"):
        make_brains(shape=(128,))


def test_another_field_of_view_is_refused():
    with pytest.raises(InfieldError, match="expected two axes of 240 mm"):
        BrainPhantom().draw(grid(fov=220.0), SampleStreams(0, [0]).normal)


def test_lesions_are_ellipses_of_one_area_turned_by_their_angle(monkeypatch):
    """One large lesion without ragged edges, of radius r and stretch s: semi-axes r / s at the angle, and r s."""
    turns, half = torch.arange(5).double() / 5, torch.full((5,), 0.5).double()
    calls = iter([0 * half, 2 * half, half, turns, 0 * half, *[half, turns, 2 * half] * 7])
    monkeypatch.setattr(brains, "_uniform", lambda white: next(calls))
    monkeypatch.setattr(brains, "_between", lambda white, low, high: 2 * half)
    axis = torch.arange(-100, 101).double() / 4

    def white(shape):
        return torch.full((5, *shape), float(shape == ())).double()

    drawn = BrainPhantom(lesions=1.0)._lesions([axis, axis], lambda length: torch.zeros(5, 201, 201).double(), white)
    r, s = (4.0 * 17.0) ** 0.5, math.exp(0.25)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    for field, turn in zip(drawn, turns, strict=True):
        inside = field > 0.5
        assert float(inside.sum()) / 16 == pytest.approx(math.pi * r**2, rel=0.01)
        along = torch.tensor([math.cos(math.pi * turn), math.sin(math.pi * turn)]).double()
        across = torch.tensor([-along[1], along[0]]).double()
        moments = torch.cov(torch.stack([y[inside], x[inside]]))
        assert float(along @ moments @ along) == pytest.approx((r / s) ** 2 / 4, rel=0.02)
        assert float(across @ moments @ across) == pytest.approx((r * s) ** 2 / 4, rel=0.02)
