"""The measurement format: round trips, files written with xarray alone, and every way in which a file can be bad."""

import json
import shutil

import numpy as np
import pytest
import torch
import xarray as xr

from infield import InfieldError
from infield.core import registry
from infield.core.grid import Axis, Grid, PointSet
from infield.core.transform import Affine
from infield.datasets.formats.measurement import (
    measurement_digest,
    open_measurement,
    validate_measurement,
    write_measurement,
)
from infield.physics.measurement import Measurement
from infield.physics.mri.noise import CoilGaussianNoise
from infield.physics.noise.registry import GaussianNoise, PoissonNoise
from infield.physics.operators.registry import build_operator
from infield.posterior.inference.empirical_bayes import fit_prior
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.prior import gaussian_prior

NAN_FILL = {"data": {"fill_value": np.nan}}


def plain(**changes):
    """A measurement as somebody writes it who has xarray and docs/formats.md: a masked field of 5 x 6 points."""
    rng = np.random.default_rng(0)
    mask = rng.random((5, 6)) < 0.6
    truth = rng.standard_normal((5, 6))
    dataset = xr.Dataset(
        {
            "data": (("y", "x"), np.where(mask, truth, 0), {"units": "mK"}),
            "mask": (("y", "x"), mask),
            "truth": (("y", "x"), truth, {"units": "mK"}),
        },
        coords={
            "y": ("y", np.arange(5.0), {"units": "km", "periodic": 1}),
            "x": ("x", np.array([0.0, 1, 2, 4, 8, 16]), {"units": "km"}),
        },
        attrs={
            "Conventions": "CF-1.11",
            "infield_format": "measurement",
            "infield_version": 1,
            "field": json.dumps({"dims": ["y", "x"], "channels": ["temperature"], "units": "mK"}),
            "operator": json.dumps({"name": "mask", "arrays": {"mask": "mask"}}),
            "noise": json.dumps({"law": "gaussian", "variance": 0.01}),
        },
    )
    return dataset.assign_attrs(changes)


def save(dataset, path, **settings):
    dataset.to_zarr(path, mode="w", zarr_format=3, consolidated=False, **settings)
    return path


def measured(operator, arrays, noise, grid, channels=("field",), seed=0, truth=True):
    """A simulated measurement with numbers that need all of their bits."""
    generator = torch.Generator().manual_seed(seed)
    physics = build_operator(operator, arrays, grid, len(channels))
    x = torch.randn(1, len(channels), *grid.shape, generator=generator, dtype=torch.float64).abs()
    return Measurement(
        y=noise.sample(physics.A(x), generator) * (1.0 if physics.observed is None else physics.observed),
        operator=physics,
        noise=noise,
        grid=grid,
        channels=channels,
        units="m s-1",
        truth=x if truth else None,
        description=operator,
        arrays=arrays,
    )


def _mask(shape, seed=0):
    return np.random.default_rng(seed).random(shape) < 0.5


def _mri(noise):
    rng = np.random.default_rng(3)
    maps = rng.standard_normal((3, 7, 6)) + 1j * rng.standard_normal((3, 7, 6))
    operator = {"name": "multicoil-mri", "parameters": {}, "arrays": {"mask": "mask", "coil_maps": "maps"}}
    return measured(operator, {"mask": _mask((7, 6)), "maps": maps}, noise, Grid.regular((7, 6)), ("real", "imag"))


MASK = {"name": "mask", "parameters": {}, "arrays": {"mask": "mask"}}
BLUR = {"name": "convolution", "parameters": {"gaussian_width": 0.2}, "arrays": {}}
CASES = {
    "mask": lambda: measured(
        MASK, {"mask": _mask((4, 5))}, GaussianNoise(0.01), Grid.regular((4, 5), 2.0, periodic=True)
    ),
    "mask-channels": lambda: measured(
        MASK, {"mask": _mask((3, 4, 5))}, GaussianNoise(0.1), Grid.regular((4, 5)), ("u", "v", "wind speed")
    ),
    "complex-channels": lambda: measured(
        MASK, {"mask": _mask((4, 5))}, GaussianNoise(0.1), Grid.regular((4, 5)), ("real", "imag")
    ),
    "complex-mask-by-part": lambda: measured(
        MASK, {"mask": _mask((2, 4, 5))}, GaussianNoise(0.1), Grid.regular((4, 5)), ("real", "imag")
    ),
    "variance-per-datum": lambda: measured(
        BLUR, {}, GaussianNoise(torch.linspace(0.1, 1, 20).reshape(1, 4, 5)), Grid.regular((4, 5))
    ),
    "variance-by-part": lambda: measured(
        MASK,
        {"mask": np.ones((4, 5), dtype=bool)},
        GaussianNoise(torch.linspace(0.1, 1, 40).reshape(2, 4, 5)),
        Grid.regular((4, 5)),
        ("real", "imag"),
    ),
    "points": lambda: measured(
        {"name": "points", "parameters": {}, "arrays": {"indices": "sensors"}},
        {"sensors": np.array([3, 0, 7])},
        GaussianNoise(0.1),
        PointSet(tuple((float(i), float(i * i)) for i in range(8)), ("lon", "lat"), "degree"),
        truth=False,
    ),
    "counts": lambda: measured(BLUR, {}, PoissonNoise(0.5), Grid.regular((8,))),
    "coils": lambda: _mri(
        CoilGaussianNoise(torch.tensor(np.diag([1.0, 2, 3]) + 0.2j * np.eye(3, k=1) - 0.2j * np.eye(3, k=-1)))
    ),
    "coils-composed": lambda: _mri(GaussianNoise(0.1)).pullback(
        Affine(torch.ones(2, 1, 1), torch.full((2, 1, 1), 3.0))
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_round_trip_is_bit_exact(tmp_path, case):
    """What is written is read: data, truth, observed, law and operator, bit for bit."""
    written = CASES[case]()
    write_measurement(tmp_path / "m.zarr", written, title="a title")
    read = open_measurement(tmp_path / "m.zarr")
    assert read.y.dtype == torch.float64 and torch.equal(read.y, written.y)
    assert (read.truth is None) == (written.truth is None)
    assert written.truth is None or torch.equal(read.truth, written.truth)
    assert (read.grid, read.channels, read.units) == (written.grid, written.channels, written.units)
    assert read.count == written.count
    x = torch.randn(2, *read.event_shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).abs()
    assert torch.equal(read.operator.A(x), written.operator.A(x))
    torch.testing.assert_close(read.log_likelihood(x), written.log_likelihood(x), rtol=1e-14, atol=0)
    write_measurement(tmp_path / "again.zarr", read)
    assert torch.equal(open_measurement(tmp_path / "again.zarr").y, written.y)


@pytest.mark.filterwarnings("error::zarr.errors.UnstableSpecificationWarning")
def test_written_files_open_with_plain_xarray(tmp_path):
    write_measurement(tmp_path / "m.zarr", CASES["coils"](), data_units="V")
    group = xr.open_zarr(tmp_path / "m.zarr", consolidated=False)
    assert group["data"].dtype == np.complex128 and group["data"].attrs["units"] == "V"
    assert group["truth"].dims == ("y", "x") and group["truth"].attrs["units"] == "m s-1"
    assert group.attrs["Conventions"] == "CF-1.11" and group["y"].attrs["units"] == "1"


def test_plain_xarray_file_is_read(tmp_path):
    """The promise of docs/formats.md: a file written without this package."""
    dataset = plain()
    read = open_measurement(save(dataset, tmp_path / "m.zarr"))
    assert torch.equal(read.y[0, 0], torch.from_numpy(dataset["data"].values))
    assert read.count == int(dataset["mask"].sum()) and read.units == "mK" and read.channels == ("temperature",)
    assert read.grid.axes[0] == Axis("y", (0.0, 1.0, 2.0, 3.0, 4.0), "km", True)
    assert read.grid.axes[1].coordinates == (0.0, 1.0, 2.0, 4.0, 8.0, 16.0) and not read.grid.axes[1].periodic


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_consolidated_and_older_zarr_files_are_read(tmp_path, zarr_format):
    dataset = plain().assign(observed=("y", np.ones(5, dtype=int)))
    dataset["mask"][:], dataset["data"][:] = True, dataset["truth"]
    dataset = dataset.assign(nothing=("y", np.zeros(5, dtype=int)))
    dataset.to_zarr(tmp_path / "m.zarr", consolidated=True, zarr_format=zarr_format)
    measurement_digest(tmp_path / "m.zarr")
    assert torch.equal(open_measurement(tmp_path / "m.zarr").y[0, 0], torch.from_numpy(dataset["data"].values))


def test_chunks_of_zeros_that_xarray_leaves_out_are_zeros(tmp_path):
    """xarray stores no chunk of a mask or of complex data that is 0 all over; such a file is whole."""
    dataset = plain()
    dataset["mask"][:2], dataset["data"][:2] = False, 0
    chunks = {"mask": {"chunks": (1, 6)}, "data": {"chunks": (1, 6)}}
    save(dataset, tmp_path / "m.zarr", encoding=chunks)
    assert not (tmp_path / "m.zarr" / "mask" / "c" / "0").exists()
    assert open_measurement(tmp_path / "m.zarr").count == int(dataset["mask"].sum())


def test_json_may_be_a_nested_attribute(tmp_path):
    nested = {key: json.loads(plain().attrs[key]) for key in ("field", "operator", "noise")}
    validate_measurement(save(plain(**nested), tmp_path / "m.zarr"))


def test_observed_spreads_over_the_data_by_name(tmp_path):
    """`observed` may have some of the data's dimensions, in any order."""
    dataset = plain(operator=json.dumps({"name": "convolution", "parameters": {"gaussian_width": 1.0}}))
    dataset = dataset.assign_coords(x=("x", np.arange(6.0), {"units": "km"}))
    dataset["observed"] = ("x", np.array([1, 0, 1, 1, 1, 0]))
    dataset["data"] = (("y", "x"), dataset["truth"].values * dataset["observed"].values, {"units": "mK"})
    read = open_measurement(save(dataset, tmp_path / "m.zarr"))
    assert torch.equal(read.observed, torch.tensor([1, 0, 1, 1, 1, 0]).bool().expand(1, 5, 6)) and read.count == 20


def bad(change):
    """A way to spoil the plain file before it is saved."""

    def spoil(dataset, path):
        result = change(dataset)
        save(dataset if result is None else result, path)

    return spoil


def _set(name, value):
    def change(dataset):
        values = dataset[name].values.astype(float)
        values[1, 2] = value
        dataset[name] = (dataset[name].dims, values, dataset[name].attrs)

    return bad(change)


def _without(name):
    return bad(
        lambda d: (
            d.drop_vars(name)
            if name in d.variables
            else d.drop_attrs(deep=False).assign_attrs({k: v for k, v in d.attrs.items() if k != name})
        )
    )


def _attribute(name, value):
    return bad(lambda d: d.assign_attrs({name: value if isinstance(value, str | int) else json.dumps(value)}))


def _variable(name, dims, values, **attributes):
    return bad(lambda d: d.drop_vars([name], errors="ignore").assign({name: (dims, values, attributes)}))


def _cut(name):
    """Cut a file of the saved group in half."""

    def spoil(dataset, path):
        save(dataset, path)
        (path / name).write_bytes((path / name).read_bytes()[: (path / name).stat().st_size // 2])

    return spoil


def _lost(name, **settings):
    """Lose a file of the saved group."""

    def spoil(dataset, path):
        save(dataset, path, **settings)
        (path / name).unlink()

    return spoil


def _no_data(dataset, path):
    dataset["data"] = (("y", "x"), dataset["data"].values + 0j, {"units": "mK"})
    save(dataset, path)
    shutil.rmtree(path / "data" / "c")


FIELD = {"dims": ["y", "x"], "channels": ["temperature"], "units": "mK"}
BAD = {
    "missing path": (lambda d, p: None, "nothing there"),
    "no zarr": (lambda d, p: p.write_text("hello"), "no zarr group"),
    "empty directory": (lambda d, p: p.mkdir(), "no zarr group"),
    "cut group metadata": (_cut("zarr.json"), "'zarr.json': found JSONDecodeError"),
    "cut array metadata": (_cut("data/zarr.json"), "'zarr.json': found JSONDecodeError"),
    "lost array metadata": (_lost("truth/zarr.json"), "'truth': found a directory without zarr metadata"),
    "cut chunk": (_cut("data/c/0/0"), "'data': found RuntimeError"),
    "lost chunk": (_lost("data/c/0/0"), "'data': found 0 of 1 chunks on disk"),
    "lost chunk of several": (
        _lost("data/c/1/0", encoding={"data": {"chunks": (2, 6)}}),
        "'data': found 2 of 3 chunks on disk",
    ),
    "lost coordinate": (_lost("x/c/0"), "'x': found 0 of 1 chunks on disk"),
    "not one chunk of complex data": (_no_data, "'data': found 0 of 1 chunks on disk"),
    "foreign": (
        _attribute("infield_format", "posterior"),
        "'infield_format': found 'posterior', expected 'measurement'",
    ),
    "no format": (_without("infield_format"), "'infield_format': found nothing, expected 'measurement'"),
    "newer": (_attribute("infield_version", 3), "'infield_version': found 3, expected at most 2"),
    "odd version": (_attribute("infield_version", "one"), "'infield_version': found 'one', expected a whole number"),
    "no data": (_without("data"), "'data': found no such variable"),
    "no field": (_without("field"), "'field': found no such attribute"),
    "no operator": (_without("operator"), "'operator': found no such attribute"),
    "no noise": (_without("noise"), "'noise': found no such attribute"),
    "no mask": (_without("mask"), "'mask': found no such variable"),
    "no coordinate": (_without("x"), "'x': found no such variable"),
    "no units of data": (_variable("data", ("y", "x"), np.ones((5, 6))), "'data.units': found None"),
    "no units of coordinate": (_variable("x", ("x",), np.arange(6.0)), "'x.units': found None"),
    "odd periodic": (_variable("x", ("x",), np.arange(6.0), units="m", periodic="yes"), "'x.periodic': found 'yes'"),
    "unsorted coordinate": (_variable("x", ("x",), np.array([0.0, 2, 1, 3, 4, 5]), units="m"), "axis 'x'"),
    "words": (_variable("mask", ("y", "x"), np.full((5, 6), "yes", dtype=object)), "'mask': found values of type"),
    "no units of field": (_attribute("field", {"dims": ["y", "x"], "channels": ["t"]}), "'field.units': found None"),
    "no channels": (_attribute("field", FIELD | {"channels": []}), "'field.channels': found []"),
    "twice a dim": (_attribute("field", FIELD | {"dims": ["y", "y"]}), "'field.dims': found ['y', 'y']"),
    "bad JSON": (_attribute("operator", "{name: mask}"), "'operator': found text that is no JSON"),
    "JSON list": (_attribute("noise", [1, 2]), "'noise': found list, expected a JSON object"),
    "unknown operator": (_attribute("operator", {"name": "telescope"}), "'telescope'"),
    "unknown law": (_attribute("noise", {"law": "cauchy"}), "'cauchy'"),
    "NaN in data": (_set("data", np.nan), "'data': found NaN or infinity in 1 of 30 values"),
    "Inf in data": (_set("data", np.inf), "'data': found NaN or infinity in 1 of 30 values"),
    "NaN in mask": (_set("mask", np.nan), "'mask': found NaN or infinity in 1 of 30 values"),
    "Inf in truth": (_set("truth", -np.inf), "'truth': found NaN or infinity in 1 of 30 values"),
    "two in mask": (_set("mask", 2.0), "found 2.0 in the mask"),
    "mask of another shape": (_variable("mask", ("a", "b"), np.ones((5, 5))), "found mask of shape (5, 5)"),
    "data of another shape": (
        _variable("data", ("a", "b"), np.ones((4, 6)), units="mK"),
        "real values of shape (4, 6)",
    ),
    "complex data for a real field": (
        _variable("data", ("y", "x"), np.ones((5, 6)) + 0j, units="mK"),
        "complex values of shape (5, 6), expected what the operator gives, real of shape (1, 5, 6)",
    ),
    "truth of another shape": (
        _variable("truth", ("a", "x"), np.ones((3, 6))),
        "found float64 along ('a', 'x')",
    ),
    "truth along another axis": (_variable("truth", ("y", "a"), np.ones((5, 6))), "found float64 along ('y', 'a')"),
    "zero variance": (_attribute("noise", {"law": "gaussian", "variance": 0.0}), "variance 0.0, expected"),
    "negative variance": (_attribute("noise", {"law": "gaussian", "variance": -1}), "variance -1, expected"),
    "NaN variance": (_attribute("noise", {"law": "gaussian", "variance": float("nan")}), "variance nan, expected"),
    "missing variance": (_attribute("noise", {"law": "gaussian", "variance": "v"}), "'v': found no such variable"),
    "variance along another axis": (
        bad(lambda d: d.assign(v=("a", np.ones(3))).assign_attrs(noise='{"law": "gaussian", "variance": "v"}')),
        "'v': found dimensions ('a',), expected some or all of the data's ('y', 'x')",
    ),
    "zero variance of a datum": (
        bad(lambda d: d.assign(v=("y", np.arange(5.0))).assign_attrs(noise='{"law": "gaussian", "variance": "v"}')),
        "expected finite values above zero",
    ),
    "nothing observed": (_variable("observed", ("y", "x"), np.zeros((5, 6))), "'observed': found 0 everywhere"),
    "odd observed": (
        _variable("observed", ("y", "x"), np.full((5, 6), 3)),
        "'observed': found values other than",
    ),
    "more observed than the mask": (_variable("observed", ("y", "x"), np.ones((5, 6))), "'observed': found 1 where"),
    "data where nothing is observed": (
        _variable("data", ("y", "x"), np.ones((5, 6)), units="mK"),
        "'data': found values other than 0 where",
    ),
    "negative counts": (_attribute("noise", {"law": "poisson", "gain": 1.0}), "negative counts"),
    "scattered points in two dimensions": (
        _attribute("field", FIELD | {"coordinates": ["y", "x"]}),
        "'field.dims': found ['y', 'x'], expected one dimension",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_file_is_refused_in_one_line(tmp_path, case):
    spoil, expected = BAD[case]
    path = tmp_path / "m.zarr"
    spoil(plain(), path)
    with pytest.raises(InfieldError) as caught:
        validate_measurement(path)
    message = str(caught.value)
    assert expected in message
    assert str(path) in message and "\n" not in message


def test_the_file_that_is_spoilt_is_good(tmp_path):
    """Negative control of the test above."""
    validate_measurement(save(plain(), tmp_path / "m.zarr"))


def test_scattered_coordinates_share_their_units(tmp_path):
    dataset = plain(
        field=json.dumps({"dims": ["point"], "coordinates": ["lon", "lat"], "channels": ["t"], "units": "K"})
    )
    dataset = dataset.drop_vars(["y", "x", "mask", "data", "truth"]).assign(
        lon=("point", np.arange(3.0), {"units": "degree"}),
        lat=("point", np.arange(3.0), {"units": "m"}),
        data=("point", np.ones(3), {"units": "K"}),
        mask=("point", np.ones(3)),
    )
    with pytest.raises(InfieldError, match=r"'lat\.units': found degree and m"):
        open_measurement(save(dataset, tmp_path / "m.zarr"))
    dataset["lat"].attrs["units"] = "degree"
    assert open_measurement(save(dataset, tmp_path / "m.zarr")).grid.names == ("lon", "lat")


def test_our_files_notice_every_lost_chunk(tmp_path):
    """Each array is stored so that a lost chunk, of zeros or not, is refused; so is a bent bit."""
    write_measurement(tmp_path / "m.zarr", CASES["coils"]())
    needed = [c for c in (tmp_path / "m.zarr").glob("*/c*") if c.parent.name != "channel"]
    chunks = [file for c in needed for file in ([c] if c.is_file() else c.rglob("*")) if file.is_file()]
    assert len(chunks) >= 6
    for chunk in chunks:
        whole = chunk.read_bytes()
        chunk.unlink()
        with pytest.raises(InfieldError, match="chunks on disk"):
            open_measurement(tmp_path / "m.zarr")
        bent = bytearray(whole)
        bent[len(bent) // 2] ^= 1
        chunk.write_bytes(bytes(bent))
        with pytest.raises(InfieldError, match="truncated or corrupt"):
            open_measurement(tmp_path / "m.zarr")
        chunk.write_bytes(whole)
    open_measurement(tmp_path / "m.zarr")


def test_digest_sees_contents_and_nothing_else(tmp_path):
    digest = measurement_digest(save(plain(), tmp_path / "a.zarr"))
    rechunked = {"data": {"chunks": (2, 3)}, "truth": {"chunks": (1, 6)}}
    assert measurement_digest(save(plain(title="other"), tmp_path / "b.zarr", encoding=rechunked)) == digest
    other = plain()
    other["data"][0, 0] += 1e-12
    assert measurement_digest(save(other, tmp_path / "c.zarr")) != digest
    assert measurement_digest(save(plain(noise='{"law": "poisson", "gain": 1.0}'), tmp_path / "d.zarr")) != digest
    units = plain()
    units["data"].attrs["units"] = "K"
    assert measurement_digest(save(units, tmp_path / "e.zarr")) != digest


def test_further_variables_of_any_kind_are_let_be(tmp_path):
    """Words, missing values and dates beside the measurement are nobody's business, but part of the digest."""
    dataset = plain().assign(
        station=("s", np.array(["north", ""], dtype=object)),
        gaps=("s", [np.nan, 1]),
        day=("s", [0, 1], {"units": "days since 2020-01-01"}),
    )
    validate_measurement(save(dataset, tmp_path / "a.zarr"))
    dataset["station"][1] = "south"
    assert measurement_digest(tmp_path / "a.zarr") != measurement_digest(save(dataset, tmp_path / "b.zarr"))


def test_existing_output_is_refused_and_replaced_only_when_asked(tmp_path):
    first, second = CASES["mask"](), CASES["counts"]()
    path = tmp_path / "deep" / "m.zarr"
    write_measurement(path, first)
    with pytest.raises(InfieldError, match="existing"):
        write_measurement(path, second)
    assert torch.equal(open_measurement(path).y, first.y)
    write_measurement(path, second, overwrite=True)
    assert torch.equal(open_measurement(path).y, second.y)
    assert [p.name for p in path.parent.iterdir()] == ["m.zarr"]


def test_what_is_no_zarr_is_never_overwritten(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(InfieldError, match="never overwritten"):
        write_measurement(tmp_path / "home", CASES["mask"](), overwrite=True)
    assert (tmp_path / "home" / "letter.txt").exists()


def test_full_disk_leaves_nothing_behind(tmp_path, full_disk):
    with full_disk(after=3), pytest.raises(InfieldError, match="full; make room"):
        write_measurement(tmp_path / "m.zarr", CASES["mask"]())
    assert list(tmp_path.iterdir()) == []
    write_measurement(tmp_path / "m.zarr", CASES["mask"]())


def test_other_failures_are_not_called_a_full_disk(tmp_path, full_disk):
    with full_disk(after=3, number=5), pytest.raises(OSError):  # EIO
        write_measurement(tmp_path / "m.zarr", CASES["mask"]())


ESTIMATE = json.dumps({"law": "gaussian", "variance": {"estimate": True}})


def test_a_variance_to_be_estimated_is_of_version_2_and_only_that(tmp_path):
    path = save(plain(infield_version=2, noise=ESTIMATE), tmp_path / "m.zarr", encoding=NAN_FILL)
    measurement = open_measurement(path)
    values = measurement.y[0][measurement.observed].numpy()
    assert measurement.noise.estimated
    np.testing.assert_allclose(measurement.noise.variance.item(), values.var(ddof=1))
    write_measurement(tmp_path / "again.zarr", measurement)
    assert xr.open_zarr(tmp_path / "again.zarr", consolidated=False).attrs["infield_version"] == 2
    assert open_measurement(tmp_path / "again.zarr").noise.variance == measurement.noise.variance
    known = open_measurement(save(plain(), tmp_path / "known.zarr", encoding=NAN_FILL))
    assert not known.noise.estimated
    write_measurement(tmp_path / "known_again.zarr", known)
    assert xr.open_zarr(tmp_path / "known_again.zarr", consolidated=False).attrs["infield_version"] == 1


def test_version_1_has_no_variance_to_be_estimated(tmp_path):
    path = save(plain(noise=ESTIMATE), tmp_path / "m.zarr", encoding=NAN_FILL)
    with pytest.raises(InfieldError, match="'infield_version': found 1, expected 2"):
        open_measurement(path)


def test_samplers_and_fits_refuse_a_variance_to_be_estimated(tmp_path):
    path = save(plain(infield_version=2, noise=ESTIMATE), tmp_path / "m.zarr", encoding=NAN_FILL)
    measurement, known = open_measurement(path), open_measurement(save(plain(), tmp_path / "k.zarr", encoding=NAN_FILL))
    prior = gaussian_prior(Matern(nu=1.5, length=3.0), known.grid)
    for name in ("faps", "exact", "source-slice", "smc"):
        with pytest.raises(InfieldError, match="a variance that is to be estimated"):
            registry.load("samplers", name)()(prior, measurement, 1, torch.Generator())
    with pytest.raises(InfieldError, match="a variance that is to be estimated"):
        fit_prior(measurement)
