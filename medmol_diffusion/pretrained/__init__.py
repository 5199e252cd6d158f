"""The models that travel with the package: a folder each, with model.safetensors, config.yaml, card.md and scores.json,
the figures that the card reports."""

import json
from pathlib import Path

_FOLDER = Path(__file__).parent


def shipped() -> dict[str, Path]:
    """Their folders by name."""
    return {folder.parent.name: folder.parent for folder in sorted(_FOLDER.glob("*/config.yaml"))}


def scores(name: str) -> dict[str, str]:
    """What was measured of a shipped model, ready to be shown."""
    return dict(json.loads((shipped()[name] / "scores.json").read_text()))
