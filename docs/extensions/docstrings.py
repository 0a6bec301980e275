"""Docstrings as Sphinx reads them: the sources write Markdown's code and tables, Sphinx expects reStructuredText.

Per docstring: `name` becomes literal text; `|`, `*` and a trailing `_` lose their special meaning; tables
"paper | here" become list tables; indented formulas become literal blocks. Sections ("Arguments:", ...) are napoleon's.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

SECTION = re.compile(r"^(Arguments|Returns|Raises|Yields|References|Note|Example|Examples):$")
TABLE = re.compile(r"^\s*\|.*\|\s*$")
RULE = re.compile(r"^\s*\|[\s:|-]+\|\s*$")
DIRECTIVE = re.compile(r"^\s*\.\. ")
LITERAL = re.compile(r"(:\w+:`[^`]*`|``.*?``|`[^`]+`_?_?|\*\*\w[^*]*\*\*)")


def to_restructuredtext(lines: list[str]) -> list[str]:
    """The same text as reStructuredText."""
    out: list[str] = []
    i, section = 0, False
    while i < len(lines):
        line = lines[i]
        if TABLE.match(line) and i + 1 < len(lines) and RULE.match(lines[i + 1]):
            j = i
            while j < len(lines) and TABLE.match(lines[j]):
                j += 1
            out += ["", *_list_table(lines[i], lines[i + 2 : j]), ""]
            i = j
            continue
        if SECTION.match(line):
            section = True
        elif line.strip() and not line.startswith(" "):
            section = False
        after_blank = bool(out) and not out[-1].strip()
        if DIRECTIVE.match(line) or line.lstrip().startswith(">>>"):
            i = _copy_block(lines, i, out)
            continue
        if line.startswith("    ") and after_blank and not section:
            if not _previous(out).endswith("::"):
                out += ["::", ""]
            i = _copy_block(lines, i, out)
            continue
        out.append(_escape(line))
        i += 1
    return out


def _previous(out: list[str]) -> str:
    return next((line for line in reversed(out) if line.strip()), "")


def _copy_block(lines: list[str], start: int, out: list[str]) -> int:
    """Copy a directive, a doctest or an indented block as it is; returns the index behind it."""
    first = lines[start]
    indent = len(first) - len(first.lstrip())
    directive = bool(DIRECTIVE.match(first))
    out.append(first)
    i = start + 1
    while i < len(lines):
        line = lines[i]
        own = len(line) - len(line.lstrip())
        if line.strip() and (own <= indent if directive else own < indent):
            break
        if first.lstrip().startswith(">>>") and not line.strip():
            break
        out.append(line)
        i += 1
    out.append("")
    return i


def _list_table(header: str, rows: list[str]) -> list[str]:
    lines = [".. list-table::", "   :header-rows: 1", ""]
    width = len(_cells(header))
    for row in (header, *rows):
        cells = _cells(row)
        cells = [*cells[: width - 1], " | ".join(cells[width - 1 :])] + [""] * (width - len(cells))
        for k, cell in enumerate(cells):
            lines.append(f"   {'* -' if k == 0 else '  -'} {_escape(cell)}".rstrip())
    return lines


def _cells(row: str) -> list[str]:
    """Cells of a row; a bar within brackets or code, as in p(y | x), is none between cells."""
    cells, depth, code = [""], 0, False
    for character in row.strip().strip("|"):
        code ^= character == "`"
        depth += (character in "([{") - (character in ")]}") if not code else 0
        if character == "|" and depth <= 0 and not code and not cells[-1].endswith("\\"):
            cells.append("")
        else:
            cells[-1] += character
    return [cell.strip() for cell in cells]


def _escape(line: str) -> str:
    """Literal text in double backticks; nothing else is markup."""
    parts = LITERAL.split(line)
    for k, part in enumerate(parts):
        if k % 2 == 0:
            part = re.sub(r"([*|])", r"\\\1", part)
            part = re.sub(r"(\w)_(?=\W|$)", r"\1\\_", part)
            part = part.replace("`", "\\`")
            parts[k] = f"\\ {part}" if k and re.match(r"[\w(]", part) else part
        elif part.startswith("`") and not part.startswith("``"):
            parts[k] = f"``{part.strip('`')}``"
    return "".join(parts)


def _process(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    lines[:] = to_restructuredtext(lines)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("autodoc-process-docstring", _process, priority=400)  # before napoleon
    return {"parallel_read_safe": True, "parallel_write_safe": True}
