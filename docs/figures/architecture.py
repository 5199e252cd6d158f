"""docs/images/architecture.svg, the one picture of the package: python docs/figures/architecture.py

Colours are chosen to be read on white and on black alike: boxes are filled and their text is white, everything else
is a grey of middle brightness.
"""

from pathlib import Path
from xml.sax.saxutils import escape

OUT = Path(__file__).parents[1] / "images" / "architecture.svg"
WIDTH, HEIGHT = 960, 640
MOLECULES, MRI, TRAINING, CORE, SURFACE = "#b4541a", "#1c7a8c", "#6a4c93", "#12486b", "#4a5a68"
GREY = "#8492a0"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

parts: list[str] = []


def text(
    x: float, y: float, words: str, size: float = 13, fill: str = "#fff", weight: int = 400, at: str = "middle"
) -> None:
    parts.append(
        f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" fill="{fill}" font-weight="{weight}" text-anchor="{at}">'
        f"{escape(words)}</text>"
    )


def box(x: float, y: float, w: float, h: float, fill: str, title: str, *lines: str, opacity: float = 1.0) -> None:
    """A filled box with a title and lines under it, centred."""
    parts.append(f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="9" fill="{fill}" opacity="{opacity:g}"/>')
    first = y + h / 2 - 8.5 * len(lines) + 5
    text(x + w / 2, first, title, 14.5, weight=600)
    for place, line in enumerate(lines, start=1):
        text(x + w / 2, first + 17 * place + 1, line, 12)


def arrow(x1: float, y1: float, x2: float, y2: float) -> None:
    parts.append(
        f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{GREY}" stroke-width="2" '
        'marker-end="url(#tip)"/>'
    )


def lane(y: float, fill: str, name: str, steps: list[tuple[str, str, str]]) -> None:
    """One domain, from data to scores."""
    text(30, y - 10, name, 14, fill=GREY, weight=600, at="start")
    width, gap = 164, 20
    for place, (title, one, two) in enumerate(steps):
        x = 30 + place * (width + gap)
        box(x, y, width, 84, fill, title, one, two)
        if place:
            arrow(x - gap + 2, y + 42, x - 5, y + 42)


def draw() -> str:
    parts.clear()
    box(30, 20, 440, 54, SURFACE, "medmol VERB", "fit · validate · sample · score · detect · ...")
    box(490, 20, 440, 54, SURFACE, "Python", "MoleculeDiffusion · VolumeDiffusion · AnomalyDetector")
    lane(
        118,
        MOLECULES,
        "molecules/",
        [
            ("Files", "SDF, XYZ, npz,", "QM9, GEOM"),
            ("State", "positions | elements,", "charges, bonds"),
            ("Network", "EGNN, transformer,", "tensor field"),
            ("MoleculeDiffusion", "the model", "+ size p(N)"),
            ("Judge", "stability, strain,", "distances, novelty"),
        ],
    )
    lane(
        244,
        MRI,
        "mri/",
        [
            ("Files", "NIfTI, BIDS, DICOM,", "phantoms"),
            ("First stage", "Haar, KL, identity:", "voxels to states"),
            ("Network", "3-D U-Net,", "windows, conditions"),
            ("VolumeDiffusion", "the model", "+ tasks"),
            ("Judge, anomaly", "distances, copies,", "maps and scores"),
        ],
    )
    arrow(480, 332, 480, 360)
    box(
        30,
        366,
        900,
        62,
        TRAINING,
        "training/",
        "what a model must answer: loss, elbo, sample  |  one Lightning task, averages, checkpoints, safetensors",
    )
    arrow(480, 432, 480, 460)
    parts.append(f'<rect x="30" y="466" width="900" height="132" rx="9" fill="{CORE}"/>')
    text(46, 490, "core/", 14.5, weight=600, at="start")
    text(914, 490, "tensors and Gaussian noise; torch alone", 12, at="end")
    nouns = [
        ("Schedule", "gamma = -log SNR"),
        ("Space", "where x lives"),
        ("Denoiser", "x, eps, v of z"),
        ("Observation", "p(data | z_0)"),
        ("Stepper", "z_t to z_s"),
    ]
    for place, (title, line) in enumerate(nouns):
        x = 46 + place * 175
        parts.append(f'<rect x="{x}" y="502" width="168" height="50" rx="7" fill="#fff" fill-opacity="0.14"/>')
        text(x + 84, 523, title, 14, weight=600)
        text(x + 84, 541, line, 12)
    for x, words in (
        (133, "loss, distillation"),
        (480, "elbo, iwae, probability flow"),
        (815, "sample, guidance, inpaint"),
    ):
        text(x, 579, words, 12.5)
    text(
        480, 624, "Arrows down: imports. Arrows across: data. The two domains never import each other.", 12.5, fill=GREY
    )
    body = "\n".join(f"  {part}" for part in parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="{FONT}"\n'
        '  aria-label="Two domains, molecules and MRI, each from files to scores, on one core">\n'
        f'  <defs><marker id="tip" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 8 4 0 8z" fill="{GREY}"/></marker></defs>\n'
        f"{body}\n</svg>\n"
    )


if __name__ == "__main__":
    OUT.write_text(draw())
