"""The commands `infield VERB ...` and `reconstruct ...`. A verb's module is imported only when it is called."""

from __future__ import annotations

import io
import os
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import Any

from infield.core import registry
from infield.core.errors import InfieldError
from infield.core.provenance import command_line
from infield.core.version import __version__
from infield.pipelines.options import as_option
from infield.pipelines.run.options import Parser, add_common, silence

GROUP = "commands"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `infield`; returns the exit status (0 well, 1 our fault, 2 something to mend)."""
    if argv is None:
        _print_any_text()
        return _leave(main(sys.argv[1:]))
    arguments = list(argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        print(f"infield {__version__}")
        return 0
    verb, *rest = arguments
    if not registry.known(GROUP, verb):
        verbs = ", ".join(registry.names(GROUP))
        print(f"infield: no command '{verb}'; expected one of {verbs}", file=sys.stderr)
        return 2
    return _run(verb, rest)


def reconstruct(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script `reconstruct`, the same command as `infield reconstruct`."""
    if argv is None:
        _print_any_text()
        return _leave(reconstruct(sys.argv[1:]))
    return _run("reconstruct", list(argv))


def _print_any_text() -> None:
    """Escape what a terminal's encoding lacks, so that no run ends in an error because of the name of a file."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _leave(status: int) -> int:
    """Hand back the exit status of a process; at once where samples are still being drawn that are no longer needed.

    A thread in the middle of tensor algebra cannot be stopped, and the interpreter aborts when it meets one at its end.
    """
    if status and any(t.daemon for t in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        locks = sys.modules.get("infield.datasets.formats.output_lock")
        if locks is not None:
            locks.release_all()
        os._exit(status)
    return status


def _run(verb: str, arguments: list[str]) -> int:
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    try:
        module = registry.load(GROUP, verb)
        if verb == "fit":  # LightningCLI reads the rest by itself
            return int(module.run(arguments))
        chosen = parser_of(verb, module).parse_args(arguments)
        with silence(getattr(chosen, "quiet", False)), command_line(f"infield {verb}", arguments):
            return int(module.run(chosen))
    except InfieldError as error:
        if debug:
            traceback.print_exc()
        print(f"infield {verb}: {' '.join(error.render(as_option).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        how = "add --ckpt_path last to resume" if verb == "fit" else "rerun the same command to resume"
        print(f"infield {verb}: interrupted; {how}", file=sys.stderr)
        return 130
    except SystemExit as leave:  # a parser that has printed its message
        if isinstance(leave.code, str):
            print(f"infield {verb}: {' '.join(leave.code.split())}", file=sys.stderr)
        return leave.code if isinstance(leave.code, int) else 2 * (leave.code is not None)
    except BrokenPipeError:  # the reader of the output, such as `head`, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except Exception as error:
        if debug:
            traceback.print_exc()
        print(
            f"infield {verb}: {type(error).__name__}: {' '.join(str(error).split())} (unexpected: please report it "
            "with the --debug output)",
            file=sys.stderr,
        )
        return 1


def parser_of(verb: str, module: Any) -> Parser:
    """The parser of a command, with all its options."""
    parser = Parser(prog=f"infield {verb}", description=module.__doc__)
    module.add_arguments(parser)
    add_common(parser)
    return parser


def _usage() -> str:
    commands = registry.table(GROUP)
    width = max(map(len, commands))
    verbs = "\n".join(f"  {verb.ljust(width)}  {entry.help}" for verb, entry in commands.items())
    more = "infield VERB --help lists options; --debug shows tracebacks; -V prints the version."
    return f"usage: infield VERB ...\n\n{verbs}\n\n{more}"
