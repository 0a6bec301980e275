"""Zarr groups of many samples, written block by block so that a killed run resumes and ends with the same bytes.

A run works in `<path>.partial` and only a finished one is renamed to `<path>`. A block counts once its flag in `done`
is 1, and that flag is written after everything else of the block, so no interruption of the process can leave a flag
without its data.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from infield.core import registry
from infield.core.errors import InfieldError
from infield.core.json_text import to_json
from infield.core.provenance import check_versions, this_run, versions
from infield.datasets.formats import output_lock
from infield.datasets.formats.zarr_group import (
    check_chunks,
    check_new,
    checked,
    explain_disk_full,
    json_attribute,
    open_group,
    publish,
    refusal,
    remove_tree,
)

RUNS = "infield_runs"
"""Attribute: command, date, host, versions and commit of each run that wrote to a file, in order, as JSON."""


class BlockWriter:
    """What the writers of all our formats of many samples have in common.

    Arguments:
        path: The group to write.
        kind: Its `infield_format`.
        version: Its `infield_version`.
        samples: Number of samples.
        block: Samples that are written together; also the chunk of the file. The last block may be smaller.
        run: What makes the samples what they are, in JSON types. A run is only continued where all of it is the same.
        known: Tells of keys of `run` whose values have another form in former files whether a value is the same.
        lay_out: Writes the group, in which nothing is done yet, to a directory.
        overwrite: Whether an existing group may be replaced, once the new one is finished.

    Raises:
        InfieldError: `path` exists, `<path>.partial` is of another run, or the disk is full.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        kind: str,
        version: int,
        samples: int,
        block: int,
        run: Mapping[str, Any],
        lay_out: Callable[[Path], None],
        overwrite: bool = False,
        known: Mapping[str, Callable[[Any], bool]] | None = None,
    ) -> None:
        self.path = Path(path)
        self.partial = self.path.with_name(self.path.name + ".partial")
        self.samples, self.block, self.overwrite, self._known = samples, block, overwrite, known or {}
        if samples < 0 or block < 1:
            raise InfieldError(
                where=path, found=f"{samples} samples in blocks of {block}", expected="no less than 0 and 1"
            )
        check_new(self.path, overwrite)
        with self._disk_full():
            new = output_lock.acquire(self.path)
            try:
                check_new(self.path, overwrite)  # another run may have finished it meanwhile
                if self.partial.exists():
                    self._check_same_run(kind, version, run)
                else:
                    self._create(lay_out)
                self._group = zarr.open_group(self.partial, mode="r+", use_consolidated=False)
                self._arrays: dict[str, zarr.Array] = {}
                self._group.attrs[RUNS] = json.dumps([*self._recorded(RUNS), this_run()])
            except BaseException:
                if new:
                    self.release()
                raise

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.samples // self.block)

    def sample_range(self, b: int) -> range:
        """Numbers of the samples of block `b`."""
        return range(b * self.block, min((b + 1) * self.block, self.samples))

    def samples_in(self, blocks: Iterable[int]) -> int:
        """How many samples some blocks hold."""
        return sum(len(self.sample_range(block)) for block in blocks)

    def missing_blocks(self) -> list[int]:
        """Blocks that are not yet on disk, in order."""
        done = self._read("done")
        return [b for b in range(self.blocks) if not done[b * self.block]]

    def refuse_missing_blocks(self) -> None:
        """InfieldError unless every block is on disk."""
        missing = self.missing_blocks()
        if missing:
            raise refusal(self.partial, "done", f"{len(missing)} missing blocks", f"all {self.blocks} blocks written")

    def _write_block(self, b: int, rows: Mapping[str, np.ndarray], numbers: Mapping[str, float] | None = None) -> None:
        """Write what a block holds for each of its samples, then a number each for the whole of it, then its flag."""
        own = self.sample_range(b)
        with self._disk_full():
            for name, values in rows.items():
                self._array(name)[own.start : own.stop] = values
            for name, number in (numbers or {}).items():
                self._array(name)[b : b + 1] = float(number)
            self._array("done")[own.start : own.stop] = 1
        output_lock.renew(self.path)

    def _record_report(self, b: int, name: str, report: Mapping[str, float]) -> None:
        """Keep the report of one block in an attribute of the group: JSON, by number of the block."""
        with self._disk_full():
            reports = {**self._reports(name), str(b): dict(report)}
            self._group.attrs[name] = to_json(dict(sorted(reports.items(), key=lambda block: int(block[0]))))

    def _reports(self, name: str) -> dict[str, dict[str, float]]:
        reports = self._group.attrs.get(name, "{}")
        assert isinstance(reports, str)
        return dict(json.loads(reports))

    def _complete(self, arrays: Mapping[str, np.ndarray], attributes: Mapping[str, Any]) -> None:
        """Write what is known of all samples together, mark the group complete and rename it to its path."""
        with self._disk_full(), zarr.config.set({"array.write_empty_chunks": True}):  # values may equal the fill value
            for name, values in arrays.items():
                self._array(name)[...] = values
            self._group.attrs.update(dict(attributes))
            publish(self.partial, self.path, self.overwrite, {"infield_complete": 1})
        self.release()

    def release(self) -> None:
        """Let other processes write the output; the end of the process does it, too."""
        output_lock.release(self.path)

    def record_workers(self, hosts: Sequence[str]) -> None:
        """Add the hosts of a scheduler's workers to what is stored of this run; they have the versions of the run."""
        runs = self._recorded(RUNS)
        if hosts and runs:
            with self._disk_full():
                self._group.attrs[RUNS] = json.dumps([*runs[:-1], {**runs[-1], "workers": list(hosts)}])

    def _recorded(self, name: str) -> list[dict[str, Any]]:
        stored = self._group.attrs.get(name, "[]")
        return list(json.loads(stored)) if isinstance(stored, str) else []

    def _array(self, name: str) -> zarr.Array:
        """An array of the group; its metadata, which no block changes, are read once."""
        if name not in self._arrays:
            array = self._group[name]
            assert isinstance(array, zarr.Array)
            self._arrays[name] = array
        return self._arrays[name]

    def _read(self, name: str) -> np.ndarray:
        return np.asarray(self._array(name)[...])

    def _disk_full(self) -> Any:
        remedy = f"make room and start the same command again, it resumes from {self.partial.name}"
        return explain_disk_full(self.path, remedy)

    def _check_same_run(self, kind: str, version: int, run: Mapping[str, Any]) -> None:
        remedy = f"finish that run with its own settings, or remove {self.partial} to start afresh"
        try:
            group = open_group(self.partial, kind, version, indexes=False)
            found = json_attribute(self.partial, group, "infield_run")
        except InfieldError as error:
            raise error.with_remedy(f"remove {self.partial} to start afresh") from error
        for key in sorted(found.keys() | run.keys()):
            same = key in self._known and self._known[key](found.get(key))
            if found.get(key) != run.get(key) and not same:
                raise refusal(self.partial, key, repr(found.get(key)), repr(run.get(key)), remedy)
        made_by = json.loads(group.attrs.get("versions", "{}"))
        check_versions(made_by, self.partial, f"finish it with that version, or remove {self.partial} to start afresh")

    def _create(self, lay_out: Callable[[Path], None]) -> None:
        """Lay out the partial group; it appears under its name only when the layout is whole."""
        draft = self.partial.with_name(self.partial.name + ".draft")
        shutil.rmtree(draft, ignore_errors=True)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lay_out(draft)
            draft.rename(self.partial)
        except BaseException:
            remove_tree(draft)
            raise


def open_finished(path: str | Path, kind: str, version: int) -> xr.Dataset:
    """Open a group that is marked complete, its arrays still on disk.

    Raises:
        InfieldError: The path is missing or no zarr group; the group is foreign, newer or not complete.
    """
    path = Path(path)
    group = open_group(path, kind, version)
    found = group.attrs.get("infield_complete")
    if found != 1:
        remedy = "this run is not finished, start it again to resume"
        raise refusal(path, "infield_complete", repr(found), "1", remedy)
    return group


def check_samples(path: str | Path, group: xr.Dataset, names: tuple[str, ...]) -> None:
    """Check that variables of a finished group are there, whole, and every sample written.

    Raises:
        InfieldError: A variable or a part of one is missing, or a sample is not written.
    """
    path = Path(path)
    for name in (*names, "done"):
        if name not in group.variables:
            raise refusal(path, name, "no such variable", f"one of {sorted(map(str, group.variables))}")
        check_chunks(path, name, zeros_may_be_absent=False)
    undone = int((group["done"] != 1).sum())
    if undone:
        raise refusal(path, "done", f"{undone} samples that are not written", "every sample written")


def create_done_flags(group: zarr.Group, samples: int, block: int) -> None:
    """Create the flags of a group's samples."""
    flag = {"flag_values": [0, 1], "flag_meanings": "missing written"}
    settings: dict[str, Any] = {"dtype": "int8", "fill_value": 0, "compressors": checked(), "attributes": flag}
    group.create_array("done", shape=(samples,), chunks=(block,), dimension_names=("sample",), **settings)


def makers() -> dict[str, str]:
    """Attributes that name what made a file: `versions`, and `plugins`, the other packages that took part, if any."""
    plugins = registry.plugins_so_far()
    found = {"versions": json.dumps(versions())}
    return {**found, "plugins": json.dumps(plugins)} if plugins else found
