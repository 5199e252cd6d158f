"""One self-contained HTML report for either domain: text, tables, pictures, nothing loaded from outside."""

import base64
import html
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --page: #fbfbfd; --line: #d9dee8; --soft: #5c677d; --accent: #2457c5;
}
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9f0; --page: #12151c; --line: #2b3242; --soft: #9aa5ba; --accent: #7aa2ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 4rem; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; } h2 { margin: 2.6rem 0 .4rem; font-size: 1.3rem;
  border-bottom: 2px solid var(--line); padding-bottom: .3rem; } h3 { margin: 1.6rem 0 .3rem; font-size: 1.05rem; }
p { max-width: 46rem; } .soft, figcaption { color: var(--soft); font-size: .9rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; margin: .6rem 0 1rem; font-variant-numeric:
tabular-nums; } th, td { text-align: left; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line);
white-space: nowrap; } td:last-child { white-space: normal; min-width: 11rem; color: var(--soft); font-size: .92rem; }
th { color: var(--soft); font-weight: 600; font-size: .85rem; }
figure { margin: 1rem 0; } img, svg { max-width: 100%; height: auto; border-radius: 6px; }
figure svg { background: #fff; border: 1px solid var(--line); }
"""


class Report:
    """Sections are added in order and written once. Everything given as text is escaped."""

    def __init__(self, title: str, subtitle: str) -> None:
        self.title = title
        self._parts = [f"<h1>{html.escape(title)}</h1><p class='soft'>{html.escape(subtitle)}</p>"]

    def heading(self, text: str, level: int = 2) -> None:
        self._parts.append(f"<h{level}>{html.escape(text)}</h{level}>")

    def text(self, text: str) -> None:
        self._parts.append(f"<p>{html.escape(text)}</p>")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        self._parts.append(f"<div class='scroll'><table><tr>{head}</tr>{body}</table></div>")

    def png(self, data: bytes, caption: str) -> None:
        source = base64.b64encode(data).decode()
        alt = html.escape(caption, quote=True)
        self._figure(f"<img alt='{alt}' src='data:image/png;base64,{source}'>", caption)

    def svg(self, markup: str, caption: str) -> None:
        """``markup`` is inserted as it is: it must come from our own drawing code."""
        self._figure(markup, caption)

    def curve(self, series: dict[str, tuple[Sequence[float], Sequence[float]]], x: str, y: str, caption: str) -> None:
        """A line for each name -> (x values, y values)."""
        figure = Figure(figsize=(7, 2.8))
        axis = figure.subplots()
        for name, (xs, ys) in series.items():
            axis.plot(xs, ys, label=name, linewidth=1.6)
        axis.set_xlabel(x)
        axis.set_ylabel(y)
        axis.grid(alpha=0.25)
        axis.legend(frameon=False)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
        figure.tight_layout()
        out = BytesIO()
        figure.savefig(out, format="png", dpi=120)
        self.png(out.getvalue(), caption)

    def write(self, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        body = "\n".join(self._parts)
        path.write_text(
            f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{html.escape(self.title)}</title>"
            f"<meta name='viewport' content='width=device-width, initial-scale=1'><style>{_STYLE}</style></head>"
            f"<body>{body}</body></html>\n",
            encoding="utf-8",
        )
        return path

    def _figure(self, content: str, caption: str) -> None:
        self._parts.append(f"<figure>{content}<figcaption>{html.escape(caption)}</figcaption></figure>")
