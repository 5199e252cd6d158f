"""One self-contained HTML report for either domain: text, tables, pictures, nothing loaded from outside."""

import base64
import html
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from medmol_diffusion.whole_file import whole_file

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --page: #fbfbfd; --line: #d9dee8; --soft: #5c677d; --accent: #2457c5;
  --shade: #1c233045; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9f0; --page: #12151c; --line: #2b3242; --soft: #9aa5ba; --accent: #7aa2ff;
    --shade: #000c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 4rem; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; } h2 { margin: 2.6rem 0 .4rem; font-size: 1.3rem;
  border-bottom: 2px solid var(--line); padding-bottom: .3rem; } h3 { margin: 1.6rem 0 .3rem; font-size: 1.05rem; }
p { max-width: 46rem; } .soft, figcaption { color: var(--soft); font-size: .9rem; }
/* a shadow at the edge beyond which a table goes on: covers that scroll with it hide the shadow at its ends, and are up
   to a pixel short where its size is no whole number of pixels, so that the shadow lies a pixel inside */
.scroll { overflow-x: auto; margin: .6rem 0 1rem;
  background: linear-gradient(to right, var(--page) 40%, transparent) left / 2.4rem 100%,
  linear-gradient(to left, var(--page) 40%, transparent) right / 2.4rem 100%,
  linear-gradient(to right, var(--shade), transparent) left 1px center / .8rem calc(100% - 2px),
  linear-gradient(to left, var(--shade), transparent) right 1px center / .8rem calc(100% - 2px);
  background-repeat: no-repeat; background-attachment: local, local, scroll, scroll; }
table { border-collapse: separate; border-spacing: 0; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
td:last-child { color: var(--soft); font-size: .92rem; }
.many { font-size: .84rem; } .many th { font-size: .78rem; } .many td:last-child { font-size: inherit; }
.many th, .many td { padding-right: .7rem; }
.wordy td:last-child { white-space: normal; min-width: 11rem; }
.wordy td:first-child { white-space: normal; }
th { color: var(--soft); font-weight: 600; font-size: .85rem; }
@media (max-width: 34rem) { table { font-size: .85rem; } th, td { padding-right: .7rem; }
  th:first-child, td:first-child { position: sticky; left: 0; max-width: 8.5rem; white-space: normal;
    background: var(--page); } }
figure { margin: 1rem 0; } img, svg { max-width: 100%; height: auto; border-radius: 6px; }
figure svg { background: #fff; border: 1px solid var(--line); }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(15rem, 100%), 1fr)); gap: 0 1.2rem; }
figure.plot { margin: .5rem 0; } figure.plot svg { background: none; border: 0; width: 100%; display: block; }
.pairs { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: 0 1.2rem; }
.pairs figure { margin: .5rem 0; } .pairs img { width: 100%; display: block; }
.plot .fill { fill: var(--accent); opacity: .45; } .plot .line { fill: none; stroke: var(--ink); stroke-width: 1.5; }
.plot .axis { stroke: var(--line); } .plot text { fill: var(--soft); font-size: 11px; }
"""
WORDY = 20
"""Letters from which on the last cells of a table are sentences, and are broken into lines."""
MANY = 6
"""Columns above which a table is set smaller."""


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
        kinds = [("wordy", any(len(row[-1]) > WORDY for row in rows)), ("many", len(header) > MANY)]
        classes = " ".join(name for name, holds in kinds if holds)
        words = f" class='{classes}'" if classes else ""
        # focus lets the arrow keys scroll it
        self._parts.append(f"<div class='scroll' tabindex='0'><table{words}><tr>{head}</tr>{body}</table></div>")

    def png(self, data: bytes, caption: str) -> None:
        source = base64.b64encode(data).decode()
        alt = html.escape(caption, quote=True)
        self._figure(f"<img alt='{alt}' src='data:image/png;base64,{source}'>", caption)

    def markup(self, markup: str) -> None:
        """Inserted as it is: it must come from our own code, with everything foreign in it escaped."""
        self._parts.append(markup)

    def histogram(self, values: np.ndarray, reference: np.ndarray | None, label: str, bins: int = 48) -> None:
        """Values as a filled histogram, the reference as a line, of equal area; NaN left out, nothing for no values.

        The range is that of the middle 99.8 % of both together; whole numbers have a bin each.
        """
        both = [one[~np.isnan(one)] for one in (values, reference) if one is not None]
        if len(both[0]) == 0:
            return
        everything = np.concatenate(both)
        low, high = np.quantile(everything, [0.001, 0.999])
        if (everything == everything.round()).all() and high - low <= 80:
            edges = np.arange(low, high + 2) - 0.5
        else:
            edges = np.linspace(low, high if high > low else low + 1, bins + 1)
        heights = [np.histogram(one, edges)[0] / max(len(one), 1) for one in both]
        top = max(float(height.max()) for height in heights) or 1.0
        width, height = 300, 110
        x = np.repeat(np.linspace(4, width - 4, len(edges)), 2)

        def outline(bars: np.ndarray) -> str:
            y = np.concatenate([[0], np.repeat(bars, 2), [0]])
            return " ".join(f"{a:.1f},{height - b / top * (height - 8):.1f}" for a, b in zip(x, y, strict=True))

        line = f"<polyline class='line' points='{outline(heights[1])}'/>" if len(heights) > 1 else ""
        name = html.escape(label, quote=True)
        self._parts.append(
            f"<figure class='plot'><svg viewBox='0 0 {width} {height + 18}' role='img' aria-label='histogram: {name}'>"
            f"<polygon class='fill' points='{outline(heights[0])}'/>{line}"
            f"<line class='axis' x1='0' x2='{width}' y1='{height}' y2='{height}'/>"
            f"<text x='4' y='{height + 14}'>{edges[0]:.4g}</text>"
            f"<text x='{width - 4}' y='{height + 14}' text-anchor='end'>{edges[-1]:.4g}</text></svg>"
            f"<figcaption>{html.escape(label)}</figcaption></figure>"
        )

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
        body = "\n".join(self._parts)
        page = (
            f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{html.escape(self.title)}</title>"
            f"<meta name='viewport' content='width=device-width, initial-scale=1'><style>{_STYLE}</style></head>"
            f"<body>{body}</body></html>\n"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            file.write_text(page, encoding="utf-8", errors="backslashreplace")  # names of files need not be UTF-8
        return path

    def _figure(self, content: str, caption: str) -> None:
        self._parts.append(f"<figure>{content}<figcaption>{html.escape(caption)}</figcaption></figure>")
