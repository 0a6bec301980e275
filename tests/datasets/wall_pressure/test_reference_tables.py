"""Reference tables: read where they are, absent where they are not, refused where they are something else."""

import os
from pathlib import Path

import numpy as np
import pytest

from infield import InfieldError
from infield.datasets.wall_pressure.reference_tables import CORRELATIONS, SPECTRA, nearest_table, read_wall_tables


def write(folder):
    (folder / SPECTRA).write_text("re_tau,axis,k_h,e_pp\n" + "".join(
        f"{re},{axis},{k},{re / 100 * 0.5**k}\n" for re in (180, 500) for axis in "xz" for k in range(4)))  # fmt: skip
    (folder / CORRELATIONS).write_text("re_tau,axis,separation_h,separation_plus,r_pp\n" + "".join(
        f"{re},{axis},{r},{r * re},{2 - r}\n" for re in (180, 500) for axis in "xz" for r in range(3)))  # fmt: skip


def test_tables_in_wall_units(tmp_path):
    write(tmp_path)
    low, high = read_wall_tables(tmp_path)
    assert (low.re_tau, high.re_tau) == (180, 500)
    k, e = high.spectra["x"]
    np.testing.assert_allclose(k, np.arange(4) / 500)
    np.testing.assert_allclose(e, 5 * 0.5 ** np.arange(4))
    r, covariance = low.correlations["z"]
    np.testing.assert_allclose(r, [0, 180, 360])
    np.testing.assert_allclose(covariance, [2, 1, 0])


def test_nearest(tmp_path):
    write(tmp_path)
    tables = read_wall_tables(tmp_path)
    assert nearest_table(tables, 200).re_tau == 180 and nearest_table(tables, 550).re_tau == 500
    assert nearest_table(tables, 1000) is None and nearest_table(tables, 300) is None and nearest_table([], 180) is None


def test_no_tables(tmp_path):
    assert read_wall_tables(tmp_path) == [] and read_wall_tables(tmp_path / "nowhere") == []
    write(tmp_path)
    (tmp_path / CORRELATIONS).unlink()
    assert read_wall_tables(tmp_path) == []


def test_another_table_is_refused(tmp_path):
    write(tmp_path)
    (tmp_path / SPECTRA).write_text("re_tau,axis,k_h,e_pp\n180,x,0,1\n180,x,many,1\n")
    with pytest.raises(InfieldError, match="found line 3 without re_tau, axis, k_h, e_pp"):
        read_wall_tables(tmp_path)


def test_real_tables():
    tables = read_wall_tables(Path(os.environ.get("INFIELD_DATA", "nowhere")) / "wall_pressure")
    if not tables:
        pytest.skip("INFIELD_DATA does not name the folder of the real data")
    assert [round(table.re_tau) for table in tables] == [178, 392, 587]
    for table in tables:
        sums = [table.spectra[axis][1].sum() for axis in "xz"]
        np.testing.assert_allclose(sums, table.correlations["x"][1][0], rtol=3e-4)  # the plain sum is R(0)
