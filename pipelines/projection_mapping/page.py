"""The page of `infield project --page`: previews of a set-up in a browser on this machine, by its functions."""

from __future__ import annotations

import json
import shlex
import tempfile
import threading
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from infield.core.errors import InfieldError
from infield.core.json_text import to_json
from infield.datasets.formats.posterior import open_posterior
from infield.datasets.projection_mapping.images import eight_bits, fit_to, read_picture, write_png
from infield.datasets.projection_mapping.setup_file import open_setup
from infield.physics.projection_mapping.choices import ERRORS, SCALES
from infield.physics.projection_mapping.setup import Setup
from infield.pipelines.commands.reconstruct import reconstruct
from infield.pipelines.projection_mapping.compensation import exposure_or_default, prepared, project
from infield.pipelines.projection_mapping.cooperation import cooperative_measurement, to_camera
from infield.pipelines.projection_mapping.output import output_folder
from infield.pipelines.projection_mapping.page_text import PAGE
from infield.pipelines.projection_mapping.preview import HEIGHT, WIDTH, as_uri, preview, smaller, step_of
from infield.pipelines.run.loopback import LoopbackHandler, address_of, loopback_server, serve_until_interrupted
from infield.pipelines.run.samplers import make_sampler

LARGEST_UPLOAD = 64 * 2**20
MOST_SAMPLES = 16
SAMPLE_HEIGHT = 60
"""Rows, at most, of the pictures that the page draws."""


@dataclass
class Session:
    """What one page has: a set-up, a target, samples. Its requests are answered one after the other.

    Arguments:
        path: The set-up's file.
        output: Where "save" writes: this folder, then the same with -2, -3, ...
        prior: Of pictures, as `infield reconstruct` takes it; None for a page without samples.
        target: An image file to begin with.
        sampler, settings: Name, and `PARAMETER=VALUE` of it.
        mask, correction: Image file and offsets of the warp, as of `prepared`.
        like: An image file that samples are to be like, once it has a weight.
    """

    path: Path
    output: Path
    prior: str | None = None
    target: Path | None = None
    sampler: str = "diffpir"
    settings: tuple[str, ...] = ()
    mask: Path | None = None
    correction: Path | None = None
    like: Path | None = None
    setup: Setup = field(init=False)
    small: Setup = field(init=False)
    quick: Setup = field(init=False)
    pictures: dict[str, np.ndarray] = field(init=False, default_factory=dict)
    uploads: int = field(init=False, default=0)
    lock: threading.Lock = field(init=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._masked(self.mask)
        self.exposure = exposure_or_default(self.small, None)
        self.folder = Path(tempfile.mkdtemp(prefix="infield-page-"))
        if self.target is not None:
            self.use(self.target, "target")
        else:
            grey = np.full((*self.setup.shape, 3), 128, np.uint8)
            write_png(self.folder / "grey.png", grey)
            self.use(self.folder / "grey.png", "target")

    def _masked(self, mask: Path | None) -> None:
        """Take a mask, or none; nothing changes where it does not fit."""
        self.setup = prepared(open_setup(self.path), [], mask, self.correction)
        self.mask, self.small = mask, smaller(self.setup)
        self.quick = smaller(self.setup, HEIGHT // 2, WIDTH // 2)
        self.without: dict[tuple[bool, tuple[str, ...]], Setup] = {}

    def use(self, path: Path, name: str) -> None:
        """Take an image file as a picture of this name."""
        self.pictures[name] = fit_to(read_picture(path), self.setup.shape).code
        if name == "target":
            self.target = path

    def facts(self) -> dict[str, Any]:
        """What the page offers."""
        return {
            "setup": self.path.name,
            "camera": list(self.setup.shape),
            "preview": list(self.small.shape),
            "projectors": [p.name for p in self.setup.projectors],
            "exposure": self.exposure,
            "errors": list(ERRORS),
            "scales": list(SCALES),
            "prior": self.prior,
            "depth": self.setup.depth is not None,
            "mask": self.mask is not None,
            "like": None if self.like is None else self.like.name,
            "samples": [name for name in self.pictures if name != "target"],
        }

    def preview(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Figures and pictures of the small set-up, of one half as large while a slider moves (`quick`)."""
        choices = self._choices(asked)
        off = choices.pop("off")
        quick = asked.get("quick") is True
        whole, part = (self.quick, 2) if quick else (self.small, 1)
        step = step_of(self.setup.shape, HEIGHT // part, WIDTH // part)
        small = self.without.setdefault((quick, tuple(sorted(off))), whole.without(*off)) if off else whole
        return preview(small, np.ascontiguousarray(self._picture(asked)[:, ::step, ::step]), **choices)

    def upload(self, data: bytes, suffix: str, name: str = "target") -> dict[str, Any]:
        """Take an image that the browser sends: as target, as mask, or as what samples are to be like."""
        if suffix.lower() not in (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"):
            raise InfieldError(where=name, found=f"a file {suffix}", expected="an image")
        self.uploads += 1
        path = self.folder / f"{name}_{self.uploads}{suffix.lower()}"
        path.write_bytes(data)
        if name == "mask":
            self._masked(path)
        elif name == "like":
            read_picture(path)
            self.like = path
        else:
            self.use(path, "target")
        return {name: path.name}

    def unmask(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Leave the mask out."""
        self._masked(None)
        return {"mask": None}

    def draw(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Draw pictures that suit the set-up."""
        if self.prior is None:
            raise InfieldError(where="page", found="no prior", expected="--prior NAME with --page")
        number = lambda name, usual: _number(asked, name, usual)  # noqa: E731
        count = int(min(max(number("samples", 4), 1), MOST_SAMPLES))
        every = max(1, -(-self.setup.shape[0] // SAMPLE_HEIGHT))
        weight = number("like", 0.0)
        if weight > 0 and self.like is None:
            raise InfieldError(where="page: like", found="no picture", expected="one to be like, or a weight of 0")
        measurement = cooperative_measurement(
            self.setup,
            exposure=number("exposure", self.exposure),
            tolerance=number("tolerance", 0.01),
            every=every,
            edges=number("edges", 0.0),
            depth=number("depth", 0.0),
            like=(self.like, weight) if self.like is not None and weight > 0 else None,
        )
        where = self.folder / "posterior.zarr"
        reconstruct(
            measurement, where, prior=self.prior, sampler=make_sampler(self.sampler, self.settings), samples=count,
            seed=int(number("seed", 0)), quiet=True, overwrite=where.exists(),
        )  # fmt: skip
        with open_posterior(where) as posterior:
            fields = np.clip(np.asarray(posterior["samples"].values, np.float64), 0, 1)
        for name in [name for name in self.pictures if name != "target"]:
            del self.pictures[name]
        thumbnails = {}
        for i, sample in enumerate(fields):
            codes = eight_bits(to_camera(sample, self.setup.shape, every))
            write_png(self.folder / f"sample_{i}.png", codes)
            self.use(self.folder / f"sample_{i}.png", f"sample_{i}")
            thumbnails[f"sample_{i}"] = as_uri(codes)
        return {"samples": thumbnails}

    def save(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Write the full size; the command that gives the same bytes."""
        choices = self._choices(asked)
        source = self._source(asked)
        path = self.target if source == "target" else self.folder / f"{source}.png"
        assert path is not None
        out = self._free()
        kept = out.with_name(f"{out.name}-{source}{path.suffix}")
        kept.write_bytes(path.read_bytes())
        off = choices.pop("off")
        with output_folder(out, False) as folder:
            project(prepared(self.setup, off, None, None), kept, folder, **choices)
        words = ["infield", "project", str(self.path), "--target", str(kept), "-o", str(out)]
        for name in ("exposure", "error", "scale", "iterations"):
            words += [f"--{name}", repr(choices[name]) if name == "exposure" else str(choices[name])]
        for name in off:
            words += ["--off", name]
        if self.mask is not None:
            mask = out.with_name(f"{out.name}-mask{self.mask.suffix}")
            mask.write_bytes(self.mask.read_bytes())
            words += ["--mask", str(mask)]
        if self.correction is not None:
            words += ["--warp-correction", str(self.correction)]
        command = shlex.join(words)
        print(command, flush=True)
        return {"output": str(out), "command": command}

    def _free(self) -> Path:
        number, out = 1, self.output
        while out.exists():
            number += 1
            out = self.output.with_name(f"{self.output.name}-{number}")
        return out

    def _source(self, asked: dict[str, Any]) -> str:
        source = str(asked.get("source", "target"))
        if source not in self.pictures:
            raise InfieldError(where="page", found=f"source {source!r}", expected=", ".join(self.pictures))
        return source

    def _picture(self, asked: dict[str, Any]) -> np.ndarray:
        return self.pictures[self._source(asked)]

    def _choices(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Arguments of `project` from what the browser sends.

        Raises:
            InfieldError: A value is not possible.
        """
        off, names = asked.get("off", []), [p.name for p in self.setup.projectors]
        if not isinstance(off, list) or set(off) - set(names) or len(set(off)) == len(names):
            raise InfieldError(where="page: projectors", found=f"off {off!r}", expected="some of them, not all")
        error, scale = asked.get("error", "coded"), asked.get("scale", "none")
        if error not in ERRORS or scale not in SCALES:
            raise InfieldError(where="page", found=f"error {error!r}, scale {scale!r}", expected="one of those offered")
        iterations = int(_number(asked, "iterations", 0))
        exposure = _number(asked, "exposure", self.exposure)
        if not 0 <= iterations <= 1000 or not exposure > 0:
            raise InfieldError(
                where="page", found=f"iterations {iterations}, exposure {exposure}", expected="0 to 1000, above 0"
            )
        return {"exposure": exposure, "error": error, "scale": scale, "iterations": iterations, "off": list(off)}


def _number(asked: dict[str, Any], name: str, usual: float) -> float:
    value = asked.get(name, usual)
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise InfieldError(where=f"page: {name}", found=repr(value), expected="a number")
    return float(value)


def server(session: Session, port: int) -> ThreadingHTTPServer:
    """A server of the page, for this machine's own name and the page's own requests alone.

    Raises:
        InfieldError: The port is taken, or not allowed.
    """

    class Handler(LoopbackHandler):
        def do_GET(self) -> None:
            if not self._own():
                return
            if self.path == "/":
                self.send(200, PAGE.encode(), "text/html; charset=utf-8")
            elif self.path == "/facts":
                self.send(200, to_json(session.facts()).encode(), "application/json")
            else:
                self.send_error(404)

        def do_POST(self) -> None:
            if not self._own():
                return
            length = int(self.headers.get("Content-Length", 0) or 0)
            if length > LARGEST_UPLOAD:
                self.send_error(413)
                return
            body, (action, _, suffix) = self.rfile.read(length), self.path.lstrip("/").partition("/")
            try:
                with session.lock:
                    answer = self._answer(action, suffix, body)
            except (InfieldError, ValueError) as error:
                self.send(400, to_json({"error": str(error)}).encode(), "application/json")
                return
            if answer is None:
                self.send_error(404)
            else:
                self.send(200, to_json(answer).encode(), "application/json")

        def _answer(self, action: str, suffix: str, body: bytes) -> dict[str, Any] | None:
            if action in ("upload", "mask", "like"):
                return session.upload(body, f".{suffix}", "target" if action == "upload" else action)
            if action not in ("preview", "draw", "save", "unmask"):
                return None
            asked = json.loads(body or b"{}")
            if not isinstance(asked, dict):
                raise InfieldError(where="page", found="another request", expected="an object")
            found: dict[str, Any] = getattr(session, action)(asked)
            return found

        def _own(self) -> bool:
            """Whether a request is of this page: a foreign one may lead its own name, or its forms, here."""
            origin = self.headers.get("Origin")
            if origin not in (None, f"http://{self.headers.get('Host', '')}"):
                self.send_error(403)
                return False
            return self.own_host()

    return loopback_server(Handler, port)


def serve(session: Session, port: int, open_browser: bool) -> None:
    """Serve until Ctrl-C."""
    with server(session, port) as running:
        print(f"{session.path}: {address_of(running)}  (Ctrl-C ends it)", flush=True)
        serve_until_interrupted(running, open_browser)
