"""Pages of the site that lie outside docs/: data cards, configs, the list of GPU runs, the papers of the project.

Markdown in the repository links to files as they lie there, so that it reads on any forge; here links that leave docs/
or come back into it are turned to the page that shows the file. A link to a file that has no page stays as it is, and
the strict build stops there.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

SHOWN = (
    *("datasets/*.md", "configs/*/*.yaml", "medmol_diffusion/pretrained/*/card.md", "tests/benchmarks/gpu.md"),
    *("CONTRIBUTING.md", "CHANGELOG.md"),
)
LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def uri(path: str) -> str:
    """Of a file in the repository: its page, relative to the site."""
    path = path.removeprefix("docs/")
    return re.sub(r"\.(yaml|ipynb)$", ".md", path)


def content(path: Path) -> str:
    """A file as Markdown; a config with its name over it."""
    text = path.read_text()
    if path.suffix == ".yaml":
        return f"# {path.parent.name}/{path.name}\n\n```yaml\n{text}```\n"
    return text


def on_files(files: Files, config: MkDocsConfig) -> Files:
    root = Path(config.config_file_path).parent
    for path in sorted(path for pattern in SHOWN for path in root.glob(pattern)):
        name = path.relative_to(root).as_posix()
        page = File.generated(config, uri(name), content=content(path))
        page.inclusion = page.inclusion.NOT_IN_NAV if "/" in name else page.inclusion
        files.append(page)
    return files


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    root = Path(config.config_file_path).parent
    here = page.file.src_uri
    home = posixpath.dirname(here if page.file.generated_by and (root / here).exists() else f"docs/{here}")

    def moved(match: re.Match[str]) -> str:
        target = uri(posixpath.normpath(posixpath.join(home, match[1])))
        if files.get_file_from_path(target) is None:
            return match[0]
        return f"]({posixpath.relpath(target, posixpath.dirname(here) or '.')}{match[2] or ''})"

    return LINK.sub(moved, markdown)
