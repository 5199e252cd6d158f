"""The cosine basis of each scan's own box, and the spectrum measured in it."""

import numpy as np
import pytest
import torch
from scipy.fft import dctn

from medmol_diffusion.core import Streams
from medmol_diffusion.mri.spectrum import CosineSpace, Spectrum

SHAPE = (8, 7, 6)
BOXES = [((0, 8), (0, 7), (0, 6)), ((2, 7), (0, 3), (1, 6)), ((3, 4), (2, 6), (0, 6))]


def boxes() -> torch.Tensor:
    mask = torch.zeros(len(BOXES), 1, *SHAPE, dtype=torch.bool)
    for scan, box in zip(mask, BOXES, strict=True):
        scan[(0, *(slice(*side) for side in box))] = True
    return mask


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_coefficients_are_the_orthonormal_dct_of_each_scans_own_box() -> None:
    v = normal(3, 1, *SHAPE)
    x = CosineSpace(boxes()).encode(v)
    assert x.shape == (3, *SHAPE, 1)
    for scan, coefficients, box in zip(v[:, 0], x[..., 0], BOXES, strict=True):
        own = scan[tuple(slice(*side) for side in box)].numpy().astype(np.float64)
        expected = torch.zeros(SHAPE, dtype=torch.float64)
        expected[tuple(slice(n) for n in own.shape)] = torch.from_numpy(dctn(own, norm="ortho"))
        torch.testing.assert_close(coefficients.double(), expected, rtol=0, atol=1e-5)


def test_decoding_undoes_encoding_on_the_boxes_and_leaves_nothing_outside() -> None:
    mask, v = boxes(), normal(3, 1, *SHAPE)
    space = CosineSpace(mask)
    torch.testing.assert_close(space.decode(space.encode(v)), v * mask, rtol=0, atol=1e-5)
    x = space.project(normal(*space.shape))
    torch.testing.assert_close(space.encode(space.decode(x)), x, rtol=0, atol=1e-5)
    assert space.dim().tolist() == [float(n) for n in mask.flatten(1).sum(1)]


def test_noise_is_white_in_the_voxels_and_does_not_depend_on_where_the_box_lies() -> None:
    space = CosineSpace(boxes()[:1].expand(200, -1, -1, -1, -1))
    noise = space.decode(space.noise(torch.zeros(space.shape), Streams(0, torch.arange(200))))
    covariance = noise.flatten(1).T @ noise.flatten(1) / 200
    assert (covariance - torch.eye(len(covariance))).abs().max() < 6 * (2 / 200) ** 0.5
    moved = boxes()[1:2].roll(1, 2)
    here, there = (
        CosineSpace(m).noise(torch.zeros(1, *SHAPE, 1), Streams(0, torch.arange(1))) for m in (boxes()[1:2], moved)
    )
    assert torch.equal(here, there)


def test_voxels_that_do_not_fill_a_box_are_refused() -> None:
    mask = boxes()
    mask[1, 0, 2, 0, 1] = False
    with pytest.raises(ValueError, match="fill a box"):
        CosineSpace(mask)


def test_the_spectrum_is_measured_by_frequency_whatever_the_size_of_the_box() -> None:
    """White noise through a filter exp(-2 |k / n|^2): its standard deviation comes back, on a box of another size."""
    draw = torch.Generator().manual_seed(0)

    def filtered(space: CosineSpace) -> torch.Tensor:
        x, y, z = space.frequencies
        return torch.exp(-2 * (x.square()[:, :, None, None] + y.square()[:, None, :, None] + z.square()[:, None, None]))

    sizes = [(16, 14, 12), (15, 16, 11)]
    masks = [torch.ones(1, 1, *size, dtype=torch.bool) for size in sizes for _ in range(40)]
    spaces = [CosineSpace(mask) for mask in masks]
    states = [(s, (filtered(s) * torch.randn(s.shape[:-1], generator=draw))[..., None]) for s in spaces]
    spectrum = Spectrum()
    spectrum.fit(states)
    other = CosineSpace(torch.ones(1, 1, 13, 13, 13, dtype=torch.bool))
    ratio = spectrum(other)[..., 0] / filtered(other)
    assert ratio.log().abs().mean() < 0.1
    assert ratio.log().abs().max() < 0.6  # a bin is one number, and the widest are 1/10 of the axis


def test_bins_that_no_coefficient_falls_in_take_their_neighbours() -> None:
    space = CosineSpace(torch.ones(1, 1, 4, 4, 4, dtype=torch.bool))
    spectrum = Spectrum()
    spectrum.fit([(space, 3 * torch.ones(1, 4, 4, 4, 1))])
    torch.testing.assert_close(spectrum.std, torch.full_like(spectrum.std, 3.0))


def test_what_is_known_of_a_scan_is_restricted_voxel_by_voxel() -> None:
    mask = boxes()
    space, part = CosineSpace(mask), torch.rand(3, 1, *SHAPE, generator=torch.Generator().manual_seed(0)) < 0.5
    x = space.project(normal(*space.shape))
    torch.testing.assert_close(space.delocalise(space.localise(x)), x, rtol=0, atol=1e-5)
    expected = torch.where(part, space.decode(x), 0.0)
    torch.testing.assert_close(space.decode(space.restrict(x, part)), expected, rtol=0, atol=1e-5)
