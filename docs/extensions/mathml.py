"""Formulas as MathML: browsers draw it without a script, and the build needs neither LaTeX nor network."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)
UNREAD = re.compile(r">(\\\w+|&)<")
"""Commands and alignments that the converter leaves as they are."""


def mathml(formula: str, node: nodes.Node, block: bool) -> str:
    """A formula as MathML; one that cannot be read is a warning, and so an error of `make docs`."""
    try:
        drawn = str(convert(formula, display="block" if block else "inline"))
        fault = next(iter(UNREAD.findall(drawn)), "")
    except Exception as error:  # the library's errors have no common base
        drawn, fault = "", f"{type(error).__name__} {error}"
    if fault:
        LOGGER.warning("formula %r: %s", formula, fault, location=node)
    return drawn


def _inline(self: Any, node: nodes.math) -> None:
    self.body.append(mathml(node.astext(), node, block=False))
    raise nodes.SkipNode


def _block(self: Any, node: nodes.math_block) -> None:
    parts = [part for part in node.astext().split("\n\n") if part.strip()]
    formulas = "".join(mathml(part, node, block=True) for part in parts)
    self.body.append(f'<div class="math">{formulas}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
