"""What lies in a folder, to compare runs with each other."""

import json
from pathlib import Path


def contents(path: Path) -> dict[str, bytes]:
    """Every file under a folder with its bytes; of a group of ours without the record of the runs that wrote it."""
    return {str(f.relative_to(path)): _without_runs(f) for f in sorted(path.rglob("*")) if f.is_file()}


def _without_runs(file: Path) -> bytes:
    found = file.read_bytes()
    if file.name != "zarr.json" or b"infield_runs" not in found:
        return found
    group = json.loads(found)
    del group["attributes"]["infield_runs"]
    return json.dumps(group).encode()
