"""Formulas as MathML, made when the site is built: browsers draw it themselves, so no script and no font is needed.

Formulas are $...$ and $$...$$ in the Markdown, as on a forge.
"""

import html
import re
from typing import Any

from latex2mathml.converter import convert

INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
BLOCK = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.DOTALL)


def on_page_content(content: str, **_: Any) -> str:
    def inline(match: re.Match[str]) -> str:
        return convert(html.unescape(match[1]))

    def block(match: re.Match[str]) -> str:
        return f'<div class="formula">{convert(html.unescape(match[1]), display="block")}</div>'

    return BLOCK.sub(block, INLINE.sub(inline, content))
