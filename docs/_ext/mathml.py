"""Formulas as MathML, which browsers draw by themselves: no script, no font and no LaTeX is needed."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator


def mathml(formula: str, as_block: bool = False) -> str:
    """A formula of LaTeX; one of several lines is aligned, as Sphinx does it for LaTeX."""
    formula = formula.replace(r"\dots", r"\ldots")  # docutils knows the second name alone
    if "&" in formula and r"\begin" not in formula:
        formula = rf"\begin{{aligned}}{formula}\end{{aligned}}"
    return tex2mathml(formula, as_block=as_block)


def write_inline(writer: HTML5Translator, node: nodes.math) -> None:
    writer.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def write_block(writer: HTML5Translator, node: nodes.math_block) -> None:
    writer.body.append(mathml(node.astext(), as_block=True))
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Make the renderer known."""
    app.add_html_math_renderer("mathml", inline_renderers=(write_inline, None), block_renderers=(write_block, None))
    return {"version": "1", "parallel_read_safe": True}
