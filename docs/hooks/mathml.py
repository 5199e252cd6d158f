"""Formulas as MathML, made when the site is built: browsers draw it themselves, so no script and no font is needed.

Formulas are $...$ and $$...$$ in the Markdown, as on a forge.
"""

import html
import re
from typing import Any

from latex2mathml.converter import convert

INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
FUNCTION = re.compile(r"(<mi>(?:log|exp|sin|cos|min|max)</mi>)(?!<mo)")
"""Functions set without brackets, which want a thin space after them."""
BLOCK = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.DOTALL)


def mathml(formula: str, display: str = "inline") -> str:
    """TeX, as HTML has it -> a math element."""
    return FUNCTION.sub(r'\1<mspace width="0.17em"/>', convert(html.unescape(formula), display=display))


def on_page_content(content: str, **_: Any) -> str:
    def inline(match: re.Match[str]) -> str:
        return mathml(match[1])

    def block(match: re.Match[str]) -> str:
        return f'<div class="formula">{mathml(match[1], "block")}</div>'

    return BLOCK.sub(block, INLINE.sub(inline, content))
