"""A web page's gallery of many molecules: each drawn flat, and turned in 3-D when it is chosen.

One stage with a viewer, and beside it, or below it on a phone, a grid that scrolls. Without scripts the grid is still
there, and the stage shows the first molecule.
"""

from collections.abc import Sequence
from html import escape

from medmol_diffusion.molecules.molecule import Molecule
from medmol_diffusion.molecules.picture import depiction, legend
from medmol_diffusion.molecules.viewer import scene, scene_script, viewer

_SCRIPT = """
for (const gallery of document.querySelectorAll(".gallery")) {
  const stage = gallery.querySelector(".turn"), said = gallery.querySelector(".said");
  const tiles = [...gallery.querySelectorAll(".tile")];
  for (const tile of tiles) tile.addEventListener("click", () => {
    for (const one of tiles) one.setAttribute("aria-pressed", one === tile);
    said.textContent = tile.title;
    stage.dispatchEvent(new CustomEvent("show", { detail: tile.querySelector("script").textContent })); });
}
"""
_STYLE = """
.gallery { display: grid; grid-template-columns: minmax(0, 20rem) minmax(0, 1fr); gap: 1rem; margin: .8rem 0 1.4rem; }
.gallery .turns { display: block; } .gallery .said { margin: .4rem 0 0; color: var(--soft); font-size: .9rem;
  overflow-wrap: anywhere; min-height: 3.1em; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(6.2rem, 1fr)); gap: .4rem; align-content: start;
  max-height: 25rem; overflow-y: auto; padding: 2px; }
.tile { font: inherit; color: #5c677d; background: #fff; border: 1px solid var(--line); border-radius: 8px;
  padding: .15rem .2rem .2rem; min-width: 0; cursor: pointer; }
.tile svg { width: 100%; height: auto; display: block; }
.tile span { display: block; font-size: .68rem; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.tile:hover { border-color: var(--accent); } .tile:focus-visible { outline: 2px solid var(--accent); }
.tile[aria-pressed=true] { border-color: var(--accent); box-shadow: 0 0 0 1px var(--accent); }
@media (max-width: 40rem) { .gallery { grid-template-columns: minmax(0, 1fr); }
  .gallery .turns { width: min(100%, 17rem); margin: 0 auto; } .gallery .said { min-height: 0; text-align: center; }
  .tiles { max-height: 24rem; } }
"""


def gallery(molecules: Sequence[Molecule]) -> str:
    """Markup of a gallery of at least one molecule, with its style and scripts; everything in it is escaped.

    Captions are SMILES, as picture.legend gives them.
    """
    names = [f"{place}: {legend(molecule)}" for place, molecule in enumerate(molecules, 1)]
    tiles = "".join(_tile(*one, chosen=place == 0) for place, one in enumerate(zip(molecules, names, strict=True)))
    stage = f"<div>{viewer(molecules[:1])}<p class='said'>{escape(names[0])}</p></div>"
    return (
        f"<style>{_STYLE}</style><div class='gallery'>{stage}<div class='tiles'>{tiles}</div></div>"
        f"<script>{_SCRIPT}</script>"
    )


def _tile(molecule: Molecule, name: str, chosen: bool) -> str:
    """A button: the flat picture, its caption, and the scene that the stage is to show."""
    said, pressed = escape(name, quote=True), str(chosen).lower()
    return (
        f"<button type='button' class='tile' title='{said}' aria-pressed='{pressed}'>{depiction(molecule)}"
        f"<span>{said}</span>{scene_script(scene(molecule))}</button>"
    )
