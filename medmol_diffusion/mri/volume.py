"""A scan: an array, where it lies in space, and where it came from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from nibabel import orientations as axes
from scipy.ndimage import affine_transform, gaussian_filter1d

from medmol_diffusion.errors import InputError
from medmol_diffusion.whole_file import whole_file

if TYPE_CHECKING:
    from monai.data import MetaTensor


@dataclass(frozen=True)
class Volume:
    """A three-dimensional image in physical space.

    Attributes:
        data: (X, Y, Z) float32.
        affine: (4, 4) float64, from voxel indices to millimetres in RAS+ (right, anterior and superior are positive).
            Index i is the *centre* of voxel i, which reaches from i - 1/2 to i + 1/2; the image, from -1/2 to n - 1/2.
        provenance: where the data came from, as text; carried along by every operation.
    """

    data: np.ndarray
    affine: np.ndarray
    provenance: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", np.asarray(self.data, dtype=np.float32))
        object.__setattr__(self, "affine", np.asarray(self.affine, dtype=np.float64))
        if self.data.ndim != 3 or self.affine.shape != (4, 4):
            raise InputError(
                f"A Volume needs a 3-D array and a 4 x 4 affine, not shapes {self.data.shape} and {self.affine.shape}."
            )
        singular = not np.isfinite(self.affine).all() or abs(np.linalg.det(self.affine)) < 1e-12
        if singular or np.isnan(axes.io_orientation(self.affine)).any():  # which sees axes that hardly differ
            raise InputError("A Volume needs a finite and invertible affine: correct the header's sform or qform.")

    @classmethod
    def read(
        cls,
        path: str | os.PathLike[str],
        frame: int | None = None,
        constant: bool = False,
        series: str | None = None,
    ) -> Volume:
        """Read a NIfTI file (.nii, .nii.gz) of any integer or floating type and byte order, scl_slope applied, or the
        folder of a DICOM series (formats/).

        Args:
            path: the file or folder.
            frame: which frame of a 4-D scan; needed only if there is more than one.
            series: which DICOM series of a folder, by its number or a part of its description; needed only if there is
                more than one.
            constant: whether every voxel may have the same value, as in the mask of a scan without lesion.

        Raises:
            InputError: the file is missing, no scan, truncated, has several frames or series and none was chosen, is
                empty, holds NaN or infinity, or is constant; or what formats.stack.stack raises of slices.
        """
        from medmol_diffusion.mri.formats.files import read_scan

        return read_scan(Path(path), frame, series, constant)

    @classmethod
    def from_metatensor(cls, tensor: MetaTensor) -> Volume:
        """A MONAI image: (X, Y, Z), or one channel of it first. Its affine is ours, from voxel indices to millimetres
        in RAS+; one whose metadata say LPS, as ITK has it, is turned round. The name of its file is kept.

        Raises:
            InputError: it has several channels, or no three axes.
        """
        shape = tuple(tensor.shape)
        if len(shape) != 3 and not (len(shape) == 4 and shape[0] == 1):
            raise InputError(f"a scan is (X, Y, Z) or (1, X, Y, Z), not {shape}: choose one channel, one of the batch")
        to_ras = np.diag([-1.0, -1.0, 1.0, 1.0] if tensor.meta.get("space") == "LPS" else [1.0] * 4)
        name = tensor.meta.get("filename_or_obj")
        data = tensor.detach().cpu().as_tensor().reshape(shape[-3:]).float().numpy()
        return cls(data, to_ras @ tensor.affine.cpu().double().numpy(), {"source": str(name)} if name else {})

    def to_metatensor(self) -> MetaTensor:
        """The same as a MONAI image, (1, X, Y, Z), float32, its affine float64 in RAS+: for MONAI's transforms."""
        import torch
        from monai.data import MetaTensor

        meta = {"space": "RAS", "original_channel_dim": float("nan"), **self.provenance}
        return MetaTensor(torch.from_numpy(self.data.copy())[None], torch.from_numpy(self.affine.copy()), meta)

    def to_nifti(self, dtype: type = np.float32) -> Any:
        """The same as a nibabel Nifti1Image: millimetres, sform and qform set, values rounded for integer types."""
        data = np.rint(self.data).astype(dtype) if np.issubdtype(dtype, np.integer) else self.data.astype(dtype)
        image = nib.Nifti1Image(data, self.affine)
        image.header.set_xyzt_units("mm")
        image.set_sform(self.affine, code="scanner")
        image.set_qform(self.affine, code="scanner")  # the nearest rotation and zooms; the sform rules where both stand
        told = "; ".join(f"{key}={value}" for key, value in self.provenance.items())
        image.header["descrip"] = told.encode(errors="replace")[:79]
        return image

    def write(self, path: str | os.PathLike[str], dtype: type = np.float32) -> Path:
        """Write NIfTI (.nii, .nii.gz); an integer `dtype` suits masks. A file appears whole or not at all."""
        path = Path(path)
        if not path.name.endswith((".nii", ".nii.gz")):
            raise InputError(f"{path} cannot be written as NIfTI: give a name that ends in .nii or .nii.gz.")
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, f".{os.getpid()}-{path.name}") as temporary:  # nibabel goes by the ending
            nib.save(self.to_nifti(dtype), temporary)
        return path

    @property
    def shape(self) -> tuple[int, int, int]:
        x, y, z = self.data.shape
        return x, y, z

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres from a voxel to its neighbour, along each axis."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def orientation(self) -> str:
        """Where each axis points to, to the nearest: 'RAS' is right, anterior, superior."""
        return "".join(axes.aff2axcodes(self.affine))

    def to_mm(self, index: np.ndarray | Sequence[float]) -> np.ndarray:
        """Millimetres of (fractional) voxel indices: (..., 3) -> (..., 3)."""
        return np.asarray(index, dtype=np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def same_grid(self, other: Volume, tolerance: float = 1e-3) -> bool:
        """Whether both have the same voxels at the same places, to `tolerance` millimetres at every corner."""
        if self.shape != other.shape:
            return False
        corners = np.stack(np.meshgrid(*[(0, size - 1) for size in self.shape]), axis=-1)
        return bool(np.abs(self.to_mm(corners) - other.to_mm(corners)).max() <= tolerance)

    def reorient(self, codes: str = "RAS") -> Volume:
        """Permute and flip the axes so that they point (to the nearest) as `codes` says. No value changes."""
        if sorted(codes.translate(str.maketrans("LPI", "RAS"))) != sorted("RAS"):
            raise InputError(f"Orientation {codes!r} is not one: use one letter each of R/L, A/P and S/I, such as RAS.")
        change = axes.ornt_transform(axes.io_orientation(self.affine), axes.axcodes2ornt(tuple(codes)))
        affine = self.affine @ axes.inv_ornt_aff(change, self.shape)
        return replace(self, data=np.ascontiguousarray(axes.apply_orientation(self.data, change)), affine=affine)

    def resample(
        self,
        spacing: float | Sequence[float] | None = None,
        like: Volume | None = None,
        order: int = 1,
        value: float = 0.0,
    ) -> Volume:
        """Interpolate on a new grid: either voxels of `spacing` millimetres, or exactly the grid of `like`.

        With `spacing` the new image begins at the same *corner* (the outer face of the first voxel), has the same axes
        and covers the old image whole, and data to be coarsened are first smoothed by a Gaussian of
        sigma = 0.42 sqrt(r^2 - 1) old voxels, where r is the ratio of spacings, against aliasing.

        Args:
            order: of the spline; 0 (nearest, never smoothed) for labels, 1 linear, 3 cubic.
            value: what lies outside the old image.
        """
        if (spacing is None) == (like is None):
            raise InputError("Volume.resample needs either spacing or like, and not both.")
        if like is not None:
            shape, affine = like.shape, like.affine
        else:
            target = np.broadcast_to(np.asarray(spacing, dtype=np.float64), (3,))
            if (target <= 0).any():
                raise InputError(f"Volume.resample needs a spacing above 0 mm, not {spacing}.")
            ratio = target / np.asarray(self.spacing)
            # The tolerance keeps 60 voxels of 1 mm at 30 of 2 mm when the header's floats say 2.0000002.
            x, y, z = (max(1, int(np.ceil(n / r - 1e-3))) for n, r in zip(self.shape, ratio, strict=True))
            shape, affine = (x, y, z), self.affine @ _scaling(ratio)
        to_old = np.linalg.inv(self.affine) @ affine
        data = self.data if order == 0 else _antialias(self.data, np.linalg.norm(to_old[:3, :3], axis=1))
        # 'grid-constant' also interpolates towards `value` within half a voxel outside, where 'constant' drops to it.
        mode = "nearest" if like is None else "grid-constant"
        data = affine_transform(
            data, to_old[:3, :3], to_old[:3, 3], shape, order=order, mode=mode, cval=value, output=np.float32
        )
        return replace(self, data=data, affine=affine)

    def straighten(self) -> Volume:
        """With axes at right angles: interpolated onto the straight grid that holds the whole image, where the affine
        shears it by more than half a voxel; unchanged elsewhere.

        The first axis stays as it is, the second in the plane of both: the slices of a tilted gantry only slide. New
        voxels get the smallest value there is.
        """
        old = self.affine[:3, :3]
        turn, upper = np.linalg.qr(old)
        straight = turn * np.diag(upper)  # the signs of both cancel
        corners = np.stack(np.meshgrid(*[(0, size - 1) for size in self.shape]), axis=-1).reshape(-1, 3)
        if np.abs(corners @ (straight - old).T).max() <= min(self.spacing) / 2:
            return self
        reached = corners @ old.T @ np.linalg.inv(straight).T
        low = reached.min(axis=0)
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = straight, self.affine[:3, 3] + straight @ low
        shape = np.ceil(reached.max(axis=0) - low - 1e-3).astype(int) + 1
        return self.resample(like=Volume(np.zeros(shape), affine), value=float(self.data.min()))

    def crop_or_pad(self, shape: Sequence[int], value: float | None = None) -> Volume:
        """Cut or extend every axis to `shape`, about the centre; voxels stay where they are in millimetres.

        New voxels get `value`, by default the smallest value there is. An odd remainder goes to the far end.
        """
        shape = tuple(int(size) for size in shape)
        if len(shape) != 3 or min(shape) < 1:
            raise InputError(f"Volume.crop_or_pad needs three sizes of at least 1, not {shape}.")
        pad = [max(0, new - old) // 2 for new, old in zip(shape, self.shape, strict=True)]
        cut = [max(0, old - new) // 2 for new, old in zip(shape, self.shape, strict=True)]
        common = [min(new, old) for new, old in zip(shape, self.shape, strict=True)]
        target = tuple(slice(first, first + size) for first, size in zip(pad, common, strict=True))
        source = tuple(slice(first, first + size) for first, size in zip(cut, common, strict=True))
        data = np.full(shape, self.data.min() if value is None else value, dtype=np.float32)
        data[target] = self.data[source]
        affine = self.affine.copy()
        affine[:3, 3] = self.to_mm(np.subtract(cut, pad))
        return replace(self, data=data, affine=affine)


def _scaling(ratio: np.ndarray) -> np.ndarray:
    """Voxels `ratio` times as large whose first outer face stays: index 0 moves to ratio / 2 - 1 / 2."""
    matrix = np.diag([*ratio, 1.0])
    matrix[:3, 3] = (ratio - 1) / 2
    return matrix


def _antialias(data: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    for axis, r in enumerate(ratio):
        if r > 1.01:
            data = gaussian_filter1d(data, 0.42 * np.sqrt(r**2 - 1), axis=axis, mode="nearest")
    return data
