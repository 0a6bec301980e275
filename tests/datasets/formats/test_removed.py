"""A folder that zarr's other writers still write to is removed for good."""

import pytest

from infield.datasets.formats import zarr_group


@pytest.mark.parametrize(("written", "looks"), [((), 5), ((2,), 8), ((1, 6, 9), 15), ((4,), 10)])
def test_a_folder_is_gone_when_it_stays_away_five_times(tmp_path, monkeypatch, written, looks):
    folder, calls = tmp_path / "m.zarr.partial", []
    (folder / "c").mkdir(parents=True)

    def a_writer(seconds):
        calls.append(seconds)
        if len(calls) - 1 in written:
            (folder / "c" / "late").mkdir(parents=True)

    monkeypatch.setattr(zarr_group.time, "sleep", a_writer)
    zarr_group.remove_tree(folder)
    assert len(calls) == looks and not folder.exists()


def test_a_folder_that_cannot_be_removed_ends_the_tries(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(zarr_group.time, "sleep", calls.append)
    monkeypatch.setattr(zarr_group.shutil, "rmtree", lambda *_, **__: None)
    zarr_group.remove_tree(tmp_path)
    assert len(calls) == 100
