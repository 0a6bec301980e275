"""Build the wheels from a copy of the repository without symbolic links, and try them in an empty environment.

    python tests/wheel.py dist                    # infield and infield-checkpoints; what `make wheel` does
    python tests/wheel.py dist --python python3.12
    python tests/wheel.py dist --python 3.13 --uv uv
    python tests/wheel.py dist --build-only       # without the environment, seconds

The copy has files in place of links, as Git for Windows checks them out. In the environment: the version, the demo, six
lines of Python, and every shipped prior by its name.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LARGER = "pipelines/checkpoints/large"
ROOMS = ("physics", "priors", "posterior", "datasets", "pipelines")
SUFFIXES = {".py", ".yaml", ".md", ".ckpt", ".npz", ".bib"}
MOST_MEGABYTES = 20

SIX_LINES = """
import infield as inf
m = inf.open_measurement("demo/measurement.zarr")
p = inf.load_prior("demo/prior.yaml")
post = inf.reconstruct(m, prior=p, sampler=inf.sampler("faps", levels=20), samples=8, seed=0)
print(post["mean"].units, dict(post.sizes))
print(inf.samplers())
"""

EVERY_PRIOR = """
from pathlib import Path
import infield as inf
from infield.pipelines.package_data import checkpoint_path, shipped_checkpoints
assert "site-packages" in inf.__file__, inf.__file__
for name in shipped_checkpoints():
    print(name, checkpoint_path(name).parent.name, str(inf.load_prior(name))[:100])
"""


def tracked(root: Path = ROOT) -> list[str]:
    """Files that git tracks, and those that it would not ignore."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=root, capture_output=True, check=True, text=True).stdout.split("\0")
    return [name for name in names if name and (root / name).exists()]


def copy_without_links(target: Path) -> None:
    """The repository with each link as a text file that holds where it leads."""
    for name in tracked():
        source, copy = ROOT / name, target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            copy.write_text(os.readlink(source), encoding="utf-8")
        else:
            shutil.copy2(source, copy)


def run(*command: object, **settings: object) -> str:
    print("$", *command, flush=True)
    done = subprocess.run([str(word) for word in command], check=False, capture_output=True, text=True, **settings)
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}\nfailed with status {done.returncode}")
    return done.stdout


def build(python: str, source: Path, output: Path) -> list[Path]:
    """Both wheels; those of an earlier build are removed."""
    for old in output.glob("infield*.whl"):
        old.unlink()
    for folder in (source, source / LARGER):
        run(python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", output, folder)
    return sorted(output.glob("infield*.whl"))


def expected_files() -> set[str]:
    """What the wheels must hold of the repository, by its names there."""
    rooms = {name for name in tracked() if name.split("/")[0] in ROOMS and Path(name).suffix in SUFFIXES}
    own = {name for name in tracked() if name.startswith("src/infield/") and name.endswith((".py", "py.typed"))}
    return {name for name in rooms if not name.startswith(LARGER)} | own


def packed_files(wheels: Iterable[Path]) -> Counter[str]:
    """What they hold, by the names of the repository."""
    found: Counter[str] = Counter()
    for wheel in wheels:
        for name in zipfile.ZipFile(wheel).namelist():
            first, _, rest = name.partition("/")
            if first == "infield":
                found[rest if rest.split("/")[0] in ROOMS else f"src/infield/{rest}"] += 1
            elif first == "infield_checkpoints" and rest.endswith(".ckpt"):
                found[f"pipelines/checkpoints/{rest}"] += 1
    return found


def check_contents(wheels: list[Path]) -> None:
    found, expected = packed_files(wheels), expected_files()
    missing, twice = expected - set(found), [name for name, count in found.items() if count > 1]
    if missing or twice:
        sys.exit(f"not in the wheels: {sorted(missing)}; twice: {sorted(twice)}")
    for wheel in wheels:
        size = wheel.stat().st_size / 1e6
        print(f"{wheel.name}: {size:.1f} MB")
        if wheel.name.startswith("infield-") and size > MOST_MEGABYTES:
            sys.exit(f"{wheel.name}: found {size:.1f} MB, expected at most {MOST_MEGABYTES}")
    print(f"all {len(expected)} files are there")


def install(python: str, uv: str | None, wheels: list[Path], environment: Path) -> Path:
    """Install the wheels in an empty environment, by pip or by uv; the folder of its programs."""
    bin = environment / ("Scripts" if os.name == "nt" else "bin")
    if uv is None:
        run(python, "-m", "venv", environment)
        pip: tuple[object, ...] = (bin / "python", "-m", "pip", "install", "--quiet")
    else:
        run(uv, "venv", "--quiet", "--python", python, environment)
        pip = (uv, "pip", "install", "--quiet", "--python", bin / "python")
    run(*pip, "-c", ROOT / "constraints.txt", "torch", "torchvision")
    run(*pip, "-c", ROOT / "constraints.txt", *wheels)
    return bin


def try_out(python: str, uv: str | None, wheels: list[Path], folder: Path) -> None:
    """Install the wheels in an empty environment and use them."""
    bin = install(python, uv, wheels, folder / "venv")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    here = {"cwd": folder, "env": environment}
    print(run(bin / "infield", "--version", **here), end="")
    print(run(bin / "python", "-m", "infield", "-V", **here), end="")
    print(run(bin / "infield", "demo", "-o", "demo", **here))
    print(run(bin / "python", "-c", SIX_LINES, **here))
    print(run(bin / "python", "-c", EVERY_PRIOR, **here))
    print(run(bin / "infield", "cite", "demo/posterior.zarr", **here))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--python", default=sys.executable, help="of the environment")
    parser.add_argument("--uv", help="the program uv, which installs in place of pip")
    parser.add_argument("--build-only", action="store_true")
    parser.add_argument("--keep", type=Path, help="a new folder for copy and environment, kept afterwards")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    with nullcontext(arguments.keep) if arguments.keep else tempfile.TemporaryDirectory() as folder:
        copy_without_links(Path(folder) / "copy")
        wheels = build(sys.executable, Path(folder) / "copy", arguments.output)
        check_contents(wheels)
        if not arguments.build_only:
            try_out(arguments.python, arguments.uv, [wheel.resolve() for wheel in wheels], Path(folder).resolve())


if __name__ == "__main__":
    main()
