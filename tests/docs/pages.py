"""The pages of the repository, and what stands in them: code blocks, commands, links."""

import re
import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
SHIPPED = "medmol_diffusion/pretrained"
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "datasets/*.md", "tests/benchmarks/*.md", f"{SHIPPED}/*/*.md")
    for path in ROOT.glob(pattern)
)
CONFIGS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("configs/*/*.yaml"))
PYTHON = re.compile(r"^(from|import) \w|^model\.\w", re.MULTILINE)
"""What makes a block that does not name its language Python."""
STAND_INS = ((r"\$\(\(.*?\)\)|\$\w+", "2"), (r"\$\(\[.*?\]\s*&&\s*echo (.*?)\)", r"\1"), (r"\b(STEPS|N|K|NODE)\b", "4"))
"""What stands for numbers, and what the shell works out, as parsers can read it."""


@dataclass(frozen=True)
class Block:
    """A block of code: fenced, with its language, or indented."""

    page: str
    line: int
    language: str
    text: str

    @property
    def is_python(self) -> bool:
        return self.language == "python" or (not self.language and PYTHON.search(self.text) is not None)

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Command:
    """One command of a block.

    Attributes:
        synopsis: whether it shows alternatives or options in brackets, and is no command as it stands.
    """

    block: Block
    words: tuple[str, ...]
    synopsis: bool = False

    def __str__(self) -> str:
        return f"{self.block.page}: {' '.join(self.words)}"


@cache
def tokens(page: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse((ROOT / page).read_text())


def blocks(page: str) -> list[Block]:
    """The blocks of code of a page."""
    return [
        Block(page, (token.map or [0])[0] + 1, token.info.strip(), token.content)
        for token in tokens(page)
        if token.type in ("fence", "code_block")
    ]


def inline(page: str, kind: str) -> list[Token]:
    """The inline parts of a kind, "code_inline", "link_open" or "image"."""
    return [child for token in tokens(page) for child in token.children or () if child.type == kind]


def commands(page: str) -> list[Command]:
    """The commands of a page: lines of its blocks, put together where a backslash ends them, and cut at &&."""
    return [
        command
        for block in blocks(page)
        if not block.is_python
        for line in block.text.replace("\\\n", " ").splitlines()
        for command in _commands(block, line)
    ]


def commented(config: str) -> list[Command]:
    """The commands of the comments of a config, each on a line, without what stands two blanks behind it."""
    text = (ROOT / config).read_text()
    lines = [line.split("  ")[0].removeprefix("# ") for line in text.splitlines() if line.startswith("# medmol ")]
    return [command for line in lines for command in _commands(Block(config, 1, "", text), line)]


def _commands(block: Block, line: str) -> list[Command]:
    for pattern, stand_in in STAND_INS:
        line = re.sub(pattern, stand_in, line)
    if not re.match(r"\s*(\w+=\S+ )?(medmol|srun|torchrun|python|make) ", line):
        return []
    found: list[list[str]] = [[]]
    for word in shlex.split(line, comments=True):
        if word == "&&":
            found.append([])
        elif word != "...":
            found[-1].append(word)
    synopsis = re.search(r" \| | \[-", line) is not None
    return [Command(block, tuple(word for word in words if "=." not in word), synopsis) for words in found]
