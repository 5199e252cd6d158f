"""The tutorials: each notebook of docs/tutorials is run by nbclient when the site is built, and shown with its outputs.

Notebooks lie in the repository without outputs. A cell that fails stops the build. MEDMOL_DOCS_RUN=0 shows them
without running them, to look at a page quickly.
"""

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbclient import NotebookClient

SECONDS = 600
"""Of one cell; all of them together take less than half a minute on an idle core."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for path in sorted(Path(config.docs_dir).glob("tutorials/*.ipynb")):
        files.remove(files.src_uris[f"tutorials/{path.name}"])
        files.append(File.generated(config, f"tutorials/{path.stem}.md", content=page(path)))
    return files


def page(path: Path) -> str:
    """A notebook as Markdown, with what its cells gave."""
    notebook = nbformat.read(path, as_version=4)
    if os.environ.get("MEDMOL_DOCS_RUN") != "0":
        resources = {"metadata": {"path": str(path.parent)}}
        NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources=resources).execute()
    return "\n\n".join(cell_text(cell) for cell in notebook.cells) + "\n"


def cell_text(cell: Any) -> str:
    """Of one cell; what goes to the error stream is left out."""
    if cell.cell_type == "markdown":
        return str(cell.source)
    outputs = [shown(output) for output in cell.outputs if output.get("name") != "stderr"]
    given = "\n\n".join(output for output in outputs if output)
    return f"```python\n{cell.source}\n```" + (
        f'\n\n<div class="outputs" markdown>\n\n{given}\n\n</div>' if given else ""
    )


def shown(output: Any) -> str:
    """One output: a picture, a drawing, or text."""
    if output.output_type == "stream":
        return f"```text\n{output.text.rstrip()}\n```"
    data = output.get("data", {})
    if "image/png" in data:
        return f'<img alt="" src="data:image/png;base64,{"".join(data["image/png"].split())}">'
    if "image/svg+xml" in data:
        drawing = data["image/svg+xml"]
        drawing = drawing[drawing.index("<svg") :]
        return f'<img alt="" class="drawing" src="data:image/svg+xml,{quote(drawing, safe="")}">'
    return f"```text\n{data['text/plain'].rstrip()}\n```" if "text/plain" in data else ""
