"""Formulas as MathML: browsers draw it without a script, and the build needs neither LaTeX nor network."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)


def mathml(formula: str, node: nodes.Node, block: bool) -> str:
    """A formula as MathML; one that docutils cannot read is a warning, and so an error of `make docs`."""
    try:
        return latex2mathml.tex2mathml(formula, as_block=block)
    except MathError as error:
        LOGGER.warning("formula %r: %s", formula, error, location=node)
        return f"<code>{nodes.Text(formula)}</code>"


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
