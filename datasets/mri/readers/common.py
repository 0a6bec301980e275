"""What readers of k-space share: an open file, how a plain array is to be read, and errors on a damaged one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from infield.core.errors import InfieldError
from infield.datasets.mri.kspace import KSpace


@dataclass(frozen=True, kw_only=True)
class KSpaceFile:
    """An open file.

    Arguments:
        path: The file.
        format: What it is, in a word or two.
        slices: Number of its slices.
        read: Reads one slice by its number, and nothing else of the data.
    """

    path: Path
    format: str
    slices: int
    read: Callable[[int], KSpace]

    def slice(self, number: int | None) -> KSpace:
        """Read a slice; of a file with one slice the number may be None.

        Raises:
            InfieldError: There is no such slice, or it cannot be read.
        """
        if self.slices < 1:
            raise InfieldError(where=self.path, found="an empty array: no slices", expected="one or more")
        if number is None and self.slices > 1:
            raise InfieldError(
                where=self.path,
                found=f"{self.slices} slices",
                expected="one",
                remedy=f"choose it ({{slice_number}} 0 to {self.slices - 1})",
                parameters=["slice_number"],
            )
        if not 0 <= (number or 0) < self.slices:
            raise InfieldError(
                where=self.path,
                found="{slice_number}",
                expected=f"0 to {self.slices - 1}",
                parameters={"slice_number": number},
            )
        with readable(self.path, self.format):
            return self.read(number or 0)


@dataclass(frozen=True, kw_only=True)
class ArrayLayout:
    """How a plain array is to be read, where its format leaves it open.

    Arguments:
        variable: Name of the array in a file of several.
        order: Names of its axes, of `slice`, `coil`, `ky`, `kx`, `time`, `echo` and `average`, slowest first as numpy
            and MATLAB print the shape.
        at: Which time and which echo, pairs of a name and a number from 0; averages are averaged.
        image: Whether it holds complex images, whose k-space is then computed.
    """

    variable: str | None = None
    order: tuple[str, ...] | None = None
    at: tuple[tuple[str, int], ...] = ()
    image: bool = False

    @property
    def given(self) -> bool:
        """Whether anything is given."""
        return self != ArrayLayout()


@contextmanager
def readable(path: Path, kind: str) -> Iterator[None]:
    """Turn a library's error on a file that it cannot read, and what is wrong with a slice, into one line."""
    try:
        yield
    except InfieldError as error:
        raise error.within(path) from error
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, TypeError, IndexError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise InfieldError(
            where=path,
            found=f"something that cannot be read as {kind} ({reason})",
            expected="a whole file",
            remedy="it is truncated, damaged or of another format, copy it again",
        ) from error
