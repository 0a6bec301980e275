"""Warps for other programs: positions of a known warp, read back by other libraries."""

from __future__ import annotations

import zipfile
from xml.etree import ElementTree

import numpy as np
import pytest

from infield.core.errors import InfieldError
from infield.physics.projection_mapping.setup import Projector, Setup
from infield.pipelines.projection_mapping.exchange import inverse_warp, write_mpcdi, write_uv_maps

cv2 = pytest.importorskip("cv2")
CAMERA, RASTER = (24, 32), (30, 40)


@pytest.fixture(scope="module")
def setup():
    """Camera pixel (y, x) sees (1.2 y + 1, x + 3) of the first projector, and of the second on the right half alone."""
    y, x = np.meshgrid(*(np.arange(float(n)) for n in CAMERA), indexing="ij")
    mixing = np.tile(np.eye(3)[..., None, None], (1, 1, *CAMERA))
    ramp = np.tile(np.linspace(0, 1, 5), (3, 1))
    warp = np.stack([1.2 * y + 1, x + 3])
    right = np.where(x >= 16, warp, np.nan)
    names = ("a", "b")
    parts = [Projector(n, RASTER, w, mixing, ramp) for n, w in zip(names, (warp, right), strict=True)]
    return Setup(np.zeros((3, *CAMERA)), tuple(parts))


def expected_uv():
    v, u = np.meshgrid(*(np.arange(float(n)) for n in RASTER), indexing="ij")
    y, x = (v - 1) / 1.2, u - 3
    seen = (y >= 0) & (y <= 23) & (x >= 0) & (x <= 31)
    return np.where(seen, np.stack([(x + 0.5) / 32, (y + 0.5) / 24]), np.nan), seen


def test_positions_and_shares(setup):
    expected, seen = expected_uv()
    uv, share = inverse_warp(setup, 0)
    np.testing.assert_allclose(uv, expected, atol=1e-9)
    other = inverse_warp(setup, 1)[1]
    both = np.isfinite(inverse_warp(setup, 1)[0]).all(0)
    np.testing.assert_allclose((share + other)[both], 1, atol=1e-9)
    left = seen.copy()
    left[:, 18:] = False
    np.testing.assert_allclose(share[left], 1, atol=1e-9)
    assert share[~seen].max() == 0 and 0 < share[15, 25] < 1
    assert np.abs(uv[:, seen] - expected[::-1][:, seen]).max() > 0.3  # u is not v


def test_an_mpcdi_archive(setup, tmp_path):
    write_mpcdi(tmp_path / "w.mpcdi", setup)
    with zipfile.ZipFile(tmp_path / "w.mpcdi") as archive:
        archive.extractall(tmp_path)
        root = ElementTree.fromstring(archive.read("mpcdi.xml"))
    assert root.tag == "MPCDI" and root.attrib["profile"] == "2d"
    regions = {r.attrib["id"]: (r.attrib["Xresolution"], r.attrib["Yresolution"]) for r in root.iter("region")}
    assert regions == {"a": ("40", "30"), "b": ("40", "30")}
    filesets = {f.attrib["region"]: f.findtext("geometryWarpFile/path") for f in root.iter("fileset")}
    assert filesets == {"a": "a.pfm", "b": "b.pfm"} and root.findtext("files/fileset/alphaMap/gammaEmbedded") == "2.2"
    read = cv2.imread(str(tmp_path / "a.pfm"), cv2.IMREAD_UNCHANGED)[..., ::-1]  # OpenCV knows the order of rows
    expected, seen = expected_uv()
    np.testing.assert_allclose(read[..., :2][seen], expected[:, seen].T, atol=1e-6)
    assert (read[..., :2][~seen] == -1).all()
    share = (cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED) / 65535) ** 2.2
    np.testing.assert_allclose(share, inverse_warp(setup, 0)[1], atol=1e-3)
    write_mpcdi(tmp_path / "again.mpcdi", setup)
    assert (tmp_path / "again.mpcdi").read_bytes() == (tmp_path / "w.mpcdi").read_bytes()


def test_uv_maps(setup, tmp_path):
    OpenEXR = pytest.importorskip("OpenEXR")
    pytest.importorskip("tifffile")
    write_uv_maps(tmp_path, setup, ".exr")
    write_uv_maps(tmp_path, setup, ".tif")
    expected, seen = expected_uv()
    (channel,) = OpenEXR.File(str(tmp_path / "a_uv.exr")).channels().values()
    np.testing.assert_allclose(channel.pixels[..., :2][seen], expected[:, seen].T, atol=1e-6)
    sixteen = cv2.imread(str(tmp_path / "b_uv.tif"), cv2.IMREAD_UNCHANGED)[..., ::-1]
    assert sixteen.dtype == np.uint16
    both = np.isfinite(inverse_warp(setup, 1)[0]).all(0)
    np.testing.assert_allclose(sixteen[..., 0][both] / 65535, expected[0][both], atol=1e-5)
    with pytest.raises(InfieldError, match="UV map"):
        write_uv_maps(tmp_path, setup, ".png")
