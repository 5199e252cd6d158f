"""Sequences of embeddings beside scans, of their reports for example: files, and padded batches of them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medmol_diffusion.errors import InputError

SUFFIX = ".npy"
Sequences = Sequence[np.ndarray | None]
"""(L, D) of every scan, or None of one that has none."""


def read_tokens(path: str | Path) -> np.ndarray:
    """A sequence (L, D), float32, of an .npy file; nothing is unpickled.

    Raises:
        InputError: it is no such file, or holds something else.
    """
    try:
        found = np.load(path, allow_pickle=False)
    except Exception as error:  # numpy lets through what the parser of its headers raises on damaged bytes
        raise InputError(f"{path} cannot be read as an array: write it by numpy.save, floats of (L, D)") from error
    if not isinstance(found, np.ndarray) or found.ndim != 2 or not np.issubdtype(found.dtype, np.floating):
        shape = getattr(found, "shape", None)
        raise InputError(f"{path} holds {shape}: a sequence of L embeddings of size D is floats of (L, D)")
    if not np.isfinite(found).all():
        raise InputError(f"{path} holds numbers that are not finite: mend the embeddings")
    return found.astype(np.float32)


def find_tokens(folder: str | Path, names: Sequence[str]) -> list[np.ndarray | None]:
    """The sequence of every scan that has one: NAME.npy in the folder, NAME the scan's file without its suffixes.

    Args:
        folder: of .npy files.
        names: of the scans, paths within their own folder.

    Raises:
        InputError: the folder does not exist, no scan has a sequence, or embeddings differ in size.
    """
    from medmol_diffusion.mri.formats.files import stem

    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"data.tokens: there is no folder {folder}")
    files = [folder / f"{stem(name)}{SUFFIX}" for name in names]
    found = [read_tokens(file) if file.is_file() else None for file in files]
    sizes = {one.shape[1] for one in found if one is not None}
    if not sizes:
        raise InputError(f"data.tokens: no scan has a sequence in {folder}; the first would be {files[0].name}")
    if len(sizes) > 1:
        raise InputError(f"data.tokens: the embeddings in {folder} have sizes {sorted(sizes)}: one encoder gives one")
    return found


def padded(sequences: Sequences) -> tuple[Tensor, Tensor]:
    """(B, L, D) and which of them are there (B, L), L that of the longest; zeros elsewhere.

    Raises:
        InputError: there is none at all, or they differ in D.
    """
    sizes = {one.shape[1] for one in sequences if one is not None}
    if len(sizes) != 1:
        raise InputError(f"sequences of embeddings have the sizes {sorted(sizes)}: one encoder gives one")
    longest = max(len(one) for one in sequences if one is not None)
    tokens = torch.zeros(len(sequences), longest, sizes.pop())
    mask = torch.zeros(len(sequences), longest, dtype=torch.bool)
    for row, there, one in zip(tokens, mask, sequences, strict=True):
        if one is not None:
            row[: len(one)], there[: len(one)] = torch.as_tensor(one, dtype=torch.float32), True
    return tokens, mask
