"""Scans whose slices scroll in a web page: one picture of all slices for each scan, one slider for all, no library.

Without scripts the middle slice, or the one that is asked for, stands still.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO

import numpy as np
from matplotlib import colormaps
from matplotlib.image import imsave

from medmol_diffusion.mri.volume import Volume

WIDEST = 128
"""Voxels along an axis above which only every second, third, ... is shown."""

_SCRIPT = """
(() => { "use strict";
for (const group of document.querySelectorAll(".slices")) {
  const slider = group.querySelector("input"), slices = group.querySelectorAll(".slice");
  const go = k => { slider.value = k; for (const slice of slices) { const last = Math.max(1, slice.dataset.count - 1);
    slice.style.setProperty("--k", Math.round(slider.value * last) / last); } };
  slider.hidden = false;
  slider.addEventListener("input", () => go(slider.value));
  for (const slice of slices) {
    let last = null;
    slice.addEventListener("pointerdown", e => { last = [e.clientX, +slider.value];
      slice.setPointerCapture(e.pointerId); });
    slice.addEventListener("pointermove", e => { if (last) go(last[1] + (e.clientX - last[0]) / slice.clientWidth); });
    for (const end of ["pointerup", "pointercancel"]) slice.addEventListener(end, () => { last = null; });
  }
} })();
"""
STYLE = """
.slices { margin: 1rem 0; }
.slices > div { display: grid; gap: .7rem;
  grid-template-columns: repeat(auto-fit, minmax(min(8.5rem, 30%), 1fr)); }
.slices figure { margin: 0; min-width: 0; } .slices figcaption { overflow-wrap: anywhere; }
.slice { position: relative; background: #000; border-radius: 6px; overflow: hidden; cursor: ew-resize;
  touch-action: pan-y; }
.slice i { position: absolute; inset: 0; background-repeat: no-repeat; background-position: 0 calc(var(--k) * 100%); }
.slices input { width: 100%; margin: .6rem 0 0; accent-color: var(--accent); }
"""


@dataclass(frozen=True)
class Stack:
    """A scan whose axial slices are shown.

    Attributes:
        name: what stands under it.
        scan: in grey, on a scale of its own percentiles.
        over: an anomaly map on the same grid, laid over it; the brighter and the less transparent, the higher.
    """

    name: str
    scan: Volume
    over: Volume | None = None


def slice_viewer(stacks: Sequence[Stack], start: float = 0.5) -> str:
    """Markup with its style and script; names in it are escaped.

    Args:
        stacks: of one slider: it moves through each from its lowest slice to its highest.
        start: where it stands at first, as a share of the way.

    Raises:
        ValueError: no stack, or a start outside [0, 1].
    """
    if not stacks or not 0 <= start <= 1:
        raise ValueError(f"{len(stacks)} stacks from {start}: give one at least, and a start between 0 and 1")
    slices = [_slices(stack.scan) for stack in stacks]
    figures = "".join(_figure(stack, grey, start) for stack, grey in zip(stacks, slices, strict=True))
    step = 1 / max(1, max(map(len, slices)) - 1)
    slider = (
        f"<input type='range' min='0' max='1' step='{step:.6f}' value='{start:.6f}' hidden aria-label='slice, from the "
        "lowest to the highest'>"
    )
    group = f"<div class='slices'><div>{figures}</div>{slider}</div>"
    return f"<style>{STYLE}</style>{group}<script>{_SCRIPT}</script>"


def _figure(stack: Stack, grey: np.ndarray, start: float) -> str:
    last = max(1, len(grey) - 1)
    style = f"aspect-ratio: {_aspect(stack.scan):.4f}; --k: {round(start * last) / last:.6f}"
    return (
        f"<figure><div class='slice' style='{style}' data-count='{len(grey)}' role='img' "
        f"aria-label='{escape(stack.name, quote=True)}'>{_layers(grey, stack.over)}</div>"
        f"<figcaption>{escape(stack.name)}</figcaption></figure>"
    )


def _slices(scan: Volume) -> np.ndarray:
    """[Z, Y, X] axial slices from the lowest to the highest, each upright: anterior above, left to the left."""
    data = scan.reorient("RAS").data
    thinned = data[tuple(slice(None, None, -(-size // WIDEST)) for size in data.shape)]
    return np.transpose(thinned, (2, 1, 0))[:, ::-1]


def _aspect(scan: Volume) -> float:
    """Width over height of a slice."""
    upright = scan.reorient("RAS")
    x, y, _ = np.asarray(upright.shape) * np.asarray(upright.spacing)
    return float(x / y)


def _layers(grey: np.ndarray, over: Volume | None) -> str:
    low, high = np.percentile(grey, [0.5, 99.5])
    layers = [colormaps["gray"](np.clip((grey - low) / max(high - low, 1e-6), 0, 1))]
    if over is not None:
        found = _slices(over)
        strength = np.clip(found / max(float(found.max()), 1e-6), 0, 1)
        layers.append(np.concatenate([colormaps["inferno"](strength)[..., :3], np.sqrt(strength)[..., None]], -1))
    return "".join(_layer(layer) for layer in layers)


def _layer(colours: np.ndarray) -> str:
    """[Z, Y, X, 4] in [0, 1] as one picture, slices one below the other."""
    out = BytesIO()
    imsave(out, colours.reshape(-1, *colours.shape[2:]), format="png")
    source = base64.b64encode(out.getvalue()).decode()
    image = f"url(data:image/png;base64,{source})"
    return f"<i style='background-image: {image}; background-size: 100% {len(colours)}00%'></i>"
