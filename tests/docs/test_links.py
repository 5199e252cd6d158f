"""Every link of a page leads to a file, and to a heading where it names one."""

import re
from itertools import pairwise

import pytest

from tests.docs.pages import PAGES, ROOT, inline, tokens


def slugs(page: str) -> set[str]:
    """The anchors of a page's headings."""
    found: list[str] = []
    for token, after in pairwise(tokens(page)):
        if token.type == "heading_open":
            words = "".join(child.content for child in after.children or ()).lower()
            found.append(re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", words).strip()))
    return set(found)


@pytest.mark.parametrize("page", PAGES)
def test_the_links_of_a_page_lead_somewhere(page: str) -> None:
    links = [str(link.attrs["href"]) for link in inline(page, "link_open")]
    links += [str(image.attrs["src"]) for image in inline(page, "image")]
    for link in links:
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in slugs(target.resolve().relative_to(ROOT).as_posix()), link
