"""The commands as a person meets them: what they print and with what status they leave."""

import json
import logging
import os
import subprocess
import warnings
from dataclasses import dataclass

import pytest
from examples.processes import HANG, Forked, script

from infield.pipelines.cli import main


@dataclass(frozen=True)
class Said:
    """What a command left behind: exit status, standard output, standard error."""

    status: int
    out: str
    err: str

    @property
    def summary(self) -> dict:
        """The one JSON object of `--json`."""
        assert self.status == 0, self.err
        assert self.out.count("\n") == 1, self.out
        return json.loads(self.out)

    def refused(self, *words: str) -> str:
        """The one line with which a command refused its input, without a traceback, a warning or a word of success."""
        assert self.status == 2, (self.status, self.err)
        assert self.err.count("\n") == 1 and self.err.endswith("\n"), self.err
        assert "Traceback" not in self.err and self.err.startswith("infield") and self.out == "", self.out
        for word in words:
            assert word in self.err, f"{word!r} is not in: {self.err}"
        return self.err.rstrip()


class _Notes(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname}: {record.getMessage()}\n")


@pytest.fixture
def infield(capsys):
    """Run `infield ...` in this process; warnings and log records count as lines on standard error."""

    def run(*arguments: object) -> Said:
        notes, loggers = _Notes(), [logging.getLogger(), logging.getLogger("distributed")]
        capsys.readouterr()
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            warnings.simplefilter("ignore", DeprecationWarning)  # as Python does outside of tests
            warnings.simplefilter("ignore", PendingDeprecationWarning)
            for logger in loggers:
                logger.addHandler(notes)
            try:
                status = main([str(a) for a in arguments])
            finally:
                for logger in loggers:
                    logger.removeHandler(notes)
        said = capsys.readouterr()
        noise = "".join(notes.lines) + "".join(f"{w.category.__name__}: {w.message}\n" for w in warned)
        return Said(status, said.out, noise + said.err)

    return run


@pytest.fixture
def reconstruct(infield):
    """Run `infield reconstruct ...` in this process."""
    return lambda *arguments: infield("reconstruct", *arguments)


@pytest.fixture
def start():
    """Start a console script in a process of its own; whatever still runs at the end is killed."""
    started = []

    def run(name: str, *arguments: object, **settings: object) -> subprocess.Popen[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
        started.append(subprocess.Popen([*script(name), *map(str, arguments)], **{**pipes, **settings}))
        return started[-1]

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def start_held():
    """Start a command in a forked process that stops after so many blocks, until a signal ends it."""
    started = []

    def run(name: str, *arguments: object, held_after: int) -> Forked:
        started.append(Forked(name, *arguments, held_after=held_after))
        started[-1].wait_until_held()
        return started[-1]

    yield run
    for process in started:
        if process.returncode is None:
            process.kill()
        process.communicate()


@pytest.fixture
def process(start):
    """Run a console script in a process of its own, to its end."""

    def run(name: str, *arguments: object) -> Said:
        out, err = (running := start(name, *arguments)).communicate(timeout=HANG)
        return Said(running.returncode, out, err)

    return run
