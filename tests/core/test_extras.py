"""Packages of extras that are not installed: one line, also in a notebook."""

import builtins
import pickle
import sys

import pytest

from infield import InfieldError
from infield.core.extras import MissingExtra, missing_extra, require

LINE = "scan.h5: found no package ismrmrd, expected the extra 'mri'; pip install 'infield[mri]', or write numpy"


def test_a_package_that_is_there_is_returned():
    assert require("json", "mri") is sys.modules["json"]


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ismrmrd", None)
    with pytest.raises(MissingExtra) as caught:
        require("ismrmrd", "mri", where="scan.h5", instead="or write numpy")
    assert str(caught.value) == LINE and isinstance(caught.value, InfieldError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == LINE
    assert (
        str(missing_extra("sbi", "sbi")) == "found no package sbi, expected the extra 'sbi'; pip install 'infield[sbi]'"
    )


@pytest.mark.parametrize(("error", "shown"), [("MissingExtra", LINE), ("InfieldError", "Traceback")])
def test_a_notebook_shows_its_line_alone(capsys, monkeypatch, error, shown):
    # A shell sets it for good, and astropy relies on it.
    monkeypatch.setattr(builtins, "__IPYTHON__", True, raising=False)
    shell = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell()
    shell.run_line_magic("colors", "nocolor")
    shell.run_cell(
        "from infield.core.extras import InfieldError, MissingExtra\n"
        "def read():\n"
        f"    raise {error}(where='scan.h5', found='no package ismrmrd', expected=\"the extra 'mri'\",\n"
        "        remedy=\"pip install 'infield[mri]', or write numpy\")\n"
        "read()"
    )
    said = capsys.readouterr().out
    assert shown in said
    assert (said.strip() == f"MissingExtra: {LINE}") == (error == "MissingExtra")
