"""Molecules that turn under mouse and finger in a web page: one small script, a canvas each, no library.

Ball and stick, nearest last: every atom a shaded sphere, every bond as many sticks as its order, aromatic ones with a
dashed second. Without scripts the same picture stands still as SVG.
"""

import json
from collections.abc import Sequence
from html import escape

import numpy as np

from medmol_diffusion.molecules import chemistry
from medmol_diffusion.molecules.molecule import AROMATIC, Molecule

COLOURS = {
    "H": "#e9edf2", "B": "#f2a6a6", "C": "#5b6470", "N": "#3f66e6", "O": "#e23d3d", "F": "#6cc24a", "Si": "#d9b38c",
    "P": "#f08a24", "S": "#e3bd22", "Cl": "#2fa84f", "Br": "#9c3a2e", "I": "#7a3aa8",
}  # fmt: skip
OTHER = "#d06fb0"
SIZE = 220
"""Pixels of the still picture; the canvas takes the width of its place."""

_SCRIPT = """
(() => { "use strict";
const shade = (hex, f) => "rgb(" + [1, 3, 5].map(k => { const v = parseInt(hex.substr(k, 2), 16);
  return Math.round(f < 0 ? v * (1 + f) : v + (255 - v) * f); }).join(",") + ")";
for (const place of document.querySelectorAll(".turn")) {
  const canvas = document.createElement("canvas"), pen = canvas.getContext("2d"); if (!pen) continue;
  place.querySelector("svg").replaceWith(canvas);
  let mol, R, zoom, last = null;
  const show = text => { mol = JSON.parse(text); R = [1, 0, 0, 0, 1, 0, 0, 0, 1]; zoom = 1;
    canvas.setAttribute("aria-label", mol.label); draw(); };
  const turn = (dx, dy) => { const a = dx * .01, b = dy * .01, ca = Math.cos(a), sa = Math.sin(a), cb = Math.cos(b),
    sb = Math.sin(b), T = [ca, 0, sa, sb * sa, cb, -sb * ca, -cb * sa, sb, cb * ca], N = [];
    for (let i = 0; i < 3; i++) for (let j = 0; j < 3; j++)
      N.push(T[3*i] * R[j] + T[3*i+1] * R[3+j] + T[3*i+2] * R[6+j]);
    R = N; draw(); };
  const draw = () => { const s = place.clientWidth, d = window.devicePixelRatio || 1; if (!s) return;
    canvas.width = canvas.height = s * d; pen.setTransform(d, 0, 0, d, 0, 0); pen.clearRect(0, 0, s, s);
    const u = zoom * s / (2 * mol.extent), at = mol.atoms.map(([c, r, x, y, z]) => ({ c, r: r * u,
      x: s / 2 + u * (R[0]*x + R[1]*y + R[2]*z), y: s / 2 - u * (R[3]*x + R[4]*y + R[5]*z),
      z: R[6]*x + R[7]*y + R[8]*z }));
    const items = at.map(a => ({ z: a.z, run: () => { const g = pen.createRadialGradient(a.x - a.r * .35,
      a.y - a.r * .4, a.r * .1, a.x, a.y, a.r); g.addColorStop(0, shade(a.c, .7)); g.addColorStop(.55, a.c);
      g.addColorStop(1, shade(a.c, -.45)); pen.fillStyle = g; pen.beginPath(); pen.arc(a.x, a.y, a.r, 0, 7);
      pen.fill(); } }));
    for (const [i, j, order] of mol.bonds) { const a = at[i], b = at[j], mx = (a.x + b.x) / 2, my = (a.y + b.y) / 2,
        l = Math.hypot(b.x - a.x, b.y - a.y) || 1, nx = -(b.y - a.y) / l, ny = (b.x - a.x) / l;
      const n = order === 4 ? 2 : order, w = n === 1 ? .17 * u : .1 * u, step = .2 * u;
      for (const [p, m] of [[a, b], [b, a]]) items.push({ z: (3 * p.z + m.z) / 4 - .15, run: () => {
        for (let k = 0; k < n; k++) { const o = (k - (n - 1) / 2) * step;
          pen.setLineDash(order === 4 && k === 1 ? [w * 1.3, w * 1.3] : []);
          for (const [width, colour] of [[w, shade(p.c, -.35)], [w * .55, shade(p.c, .15)]]) {
            pen.lineWidth = width; pen.strokeStyle = colour; pen.beginPath(); pen.moveTo(p.x + o * nx, p.y + o * ny);
            pen.lineTo(mx + o * nx, my + o * ny); pen.stroke(); } } pen.setLineDash([]); } }); }
    items.sort((p, q) => p.z - q.z); for (const item of items) item.run(); };
  canvas.tabIndex = 0; canvas.setAttribute("role", "img");
  place.addEventListener("show", e => show(e.detail));  // another molecule in the same place
  canvas.addEventListener("pointerdown", e => { last = [e.clientX, e.clientY];
    canvas.setPointerCapture(e.pointerId); });
  canvas.addEventListener("pointermove", e => { if (!last) return; turn(e.clientX - last[0], e.clientY - last[1]);
    last = [e.clientX, e.clientY]; });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { last = null; });
  canvas.addEventListener("wheel", e => { if (!e.ctrlKey && document.activeElement !== canvas) return;
    e.preventDefault(); zoom = Math.min(4, Math.max(.5, zoom * Math.exp(-e.deltaY * .001))); draw(); },
    { passive: false });
  canvas.addEventListener("keydown", e => { const to = { ArrowLeft: [-15, 0], ArrowRight: [15, 0], ArrowUp: [0, -15],
    ArrowDown: [0, 15] }[e.key]; if (to) { e.preventDefault(); turn(...to); } });
  show(place.querySelector("script").textContent); new ResizeObserver(draw).observe(place);
} })();
"""
STYLE = """
.turns { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(10.5rem, 45%), 1fr)); gap: .7rem; }
.turn { border: 1px solid var(--line); border-radius: 10px; aspect-ratio: 1; overflow: hidden; min-width: 0; }
.turn canvas { width: 100%; height: 100%; display: block; cursor: grab; touch-action: pan-y; }
.turn canvas:active { cursor: grabbing; } .turns .turn svg { width: 100%; height: 100%; border: 0; background: none; }
"""


def viewer(molecules: Sequence[Molecule]) -> str:
    """Markup of one turning picture for each molecule, with its style and script; everything in it is escaped."""
    scenes = map(scene, molecules)
    pictures = "".join(f"<div class='turn'>{_still(one)}{scene_script(one)}</div>" for one in scenes)
    return f"<style>{STYLE}</style><div class='turns'>{pictures}</div><script>{_SCRIPT}</script>"


def scene(molecule: Molecule) -> dict:
    """What both pictures are drawn from: atoms (colour, radius, x, y, z) in angstrom, seen along the flattest axis."""
    x = molecule.positions - molecule.positions.mean(axis=0)
    _, _, axes = np.linalg.svd(x, full_matrices=True)
    axes[2] *= np.sign(np.linalg.det(axes))  # a turn, never the mirror image
    x = x @ axes.T
    bonds = molecule.bonds
    if bonds is None:
        bonds = chemistry.rule_one_bonds(molecule.atomic_numbers, molecule.positions)
    symbols = [chemistry.SYMBOLS[number] for number in molecule.atomic_numbers]
    atoms = [
        [COLOURS.get(symbol, OTHER), 0.28 if symbol == "H" else 0.42, *(round(float(v), 3) for v in row)]
        for symbol, row in zip(symbols, x, strict=True)
    ]
    extent = float(np.linalg.norm(x, axis=1).max()) + 0.6
    label = f"{molecule.name or 'a molecule'}, {molecule.num_atoms} atoms; drag or use the arrow keys to turn it"
    return {"atoms": atoms, "bonds": bonds.tolist(), "extent": round(extent, 3), "label": label}


def scene_script(scene: dict) -> str:
    """A scene as an element that holds data."""
    # within a script element only "<" could end it
    text = json.dumps(scene, separators=(",", ":")).replace("<", "\\u003c")
    return f"<script type='application/json'>{text}</script>"


def _still(scene: dict) -> str:
    """The picture before anyone turns it, as SVG: farthest first."""
    unit = SIZE / (2 * scene["extent"])
    place = [(SIZE / 2 + unit * x, SIZE / 2 - unit * y, z) for _, _, x, y, z in scene["atoms"]]
    drawn = []
    for (colour, radius, *_), (x, y, z) in zip(scene["atoms"], place, strict=True):
        r = radius * unit
        shine = f"<circle cx='{x - 0.3 * r:.1f}' cy='{y - 0.35 * r:.1f}' r='{0.35 * r:.1f}' fill='#fff' opacity='.45'/>"
        ball = f"<circle cx='{x:.1f}' cy='{y:.1f}' r='{r:.1f}' fill='{colour}' stroke='#0005'/>"
        drawn.append((z, ball + shine))
    for i, j, order in scene["bonds"]:
        (x1, y1, z1), (x2, y2, z2) = place[i], place[j]
        count = 2 if order == AROMATIC else order
        length = float(np.hypot(x2 - x1, y2 - y1)) or 1.0
        nx, ny = -(y2 - y1) / length, (x2 - x1) / length
        width = (0.17 if count == 1 else 0.1) * unit
        lines = ""
        for k in range(count):
            shift = (k - (count - 1) / 2) * 0.2 * unit
            dash = f" stroke-dasharray='{0.13 * unit:.1f}'" if order == AROMATIC and k else ""
            lines += (
                f"<line x1='{x1 + shift * nx:.1f}' y1='{y1 + shift * ny:.1f}' x2='{x2 + shift * nx:.1f}' "
                f"y2='{y2 + shift * ny:.1f}' stroke='#8b94a3' stroke-width='{width:.1f}'{dash}/>"
            )
        drawn.append(((z1 + z2) / 2 - 0.15, lines))
    shapes = "".join(shape for _, shape in sorted(drawn, key=lambda one: one[0]))
    return (
        f"<svg viewBox='0 0 {SIZE} {SIZE}' role='img' aria-label='{escape(scene['label'], quote=True)}'>{shapes}</svg>"
    )
