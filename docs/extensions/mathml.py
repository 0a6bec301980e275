"""Formulas as MathML: browsers draw it without a script, and the build needs neither LaTeX nor network."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.utils.math import latex2mathml
from sphinx.application import Sphinx


def _inline(self: Any, node: nodes.math) -> None:
    self.body.append(latex2mathml.tex2mathml(node.astext(), as_block=False))
    raise nodes.SkipNode


def _block(self: Any, node: nodes.math_block) -> None:
    lines = [part for part in node.astext().split("\n\n") if part.strip()]
    formulas = "".join(latex2mathml.tex2mathml(line, as_block=True) for line in lines)
    self.body.append(f'<div class="math">{formulas}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
