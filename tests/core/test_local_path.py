"""Addresses as people write them: what is elsewhere is refused, for every option that names a file."""

import os
from pathlib import Path

import pytest

from infield import InfieldError
from infield.core import registry
from infield.core.local_path import local_path
from infield.pipelines.cli import parser_of


@pytest.mark.parametrize(
    "text", ["s3://bucket/p.zarr", "gs://b/p", "https://x.org/p.zarr", "s3:/bucket/p.zarr", "hdfs:///p"]
)
def test_addresses_of_elsewhere_are_refused(text):
    with pytest.raises(InfieldError, match="expected a path on this machine"):
        local_path(text)
    with pytest.raises(InfieldError, match="expected a path on this machine"):
        local_path(Path(text))


def test_paths_of_this_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert local_path("~/p.zarr") == tmp_path / "p.zarr"
    assert local_path("file:///data/a%20b.zarr") == Path("/data/a b.zarr")
    assert local_path("file://localhost/data/p.zarr") == Path("/data/p.zarr")
    for plain in ("p.zarr", "./s3/p.zarr", "a:b.zarr", "10:30/p.zarr", "C:/p.zarr"):
        assert local_path(plain) == Path(plain)
    with pytest.raises(InfieldError, match="no home folder of that name"):
        local_path("~nobody-of-that-name/p.zarr")
    with pytest.raises(InfieldError, match="the host elsewhere"):
        local_path("file://elsewhere/p.zarr")


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (("reconstruct", "m.zarr", "-o", "{}"), "-o/--output"),
        (("reconstruct", "m.zarr", "-o", "p.zarr", "--report", "{}"), "--report"),
        (("reconstruct", "{}", "-o", "p.zarr"), "MEASUREMENT.zarr"),
        (("simulate", "process", "-o", "{}"), "-o/--output"),
        (("convert", "table", "t.csv", "--value", "v", "--at", "x", "--grid", "1", "-o", "{}"), "-o/--output"),
        (("convert", "pet", "t.nii", "-o", "p.zarr", "--reference", "{}"), "--reference"),
        (("bench", "mixture", "--records", "{}"), "--records"),
        (("demo", "-o", "{}"), "-o/--output"),
    ],
)
def test_every_option_of_a_file_refuses_them(tmp_path, monkeypatch, command, option):
    monkeypatch.chdir(tmp_path)
    verb, *rest = command
    parser = parser_of(verb, registry.load("commands", verb))
    with pytest.raises(InfieldError, match=rf"argument {option}.*s3://bucket/p.zarr: found an address"):
        parser.parse_args([word.format("s3://bucket/p.zarr") for word in rest])
    assert os.listdir(tmp_path) == []
    parser.parse_args([word.format("p2.zarr") for word in rest])  # negative control
