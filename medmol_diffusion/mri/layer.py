"""What every layer of the U-Net is made of: convolutions and norms that keep the layout, precision, a start at zero."""

import math
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)
GROUPS = 8
"""Of a group normalisation, where they divide the channels."""


class Conv3d(nn.Conv3d):
    """A convolution that answers in channels_last_3d, which the kernel that torch takes for small inputs does not."""

    def forward(self, h: Tensor) -> Tensor:
        return super().forward(h).contiguous(memory_format=torch.channels_last_3d)


class GroupNorm(nn.GroupNorm):
    """Group normalisation in 8 groups, or as many as divide the channels, out in channels_last_3d.

    On a GPU torch's kernel answers in the other layout, and every convolution after it would follow.
    """

    def __init__(self, channels: int, affine: bool = True) -> None:
        super().__init__(math.gcd(channels, GROUPS), channels, affine=affine)

    def forward(self, h: Tensor) -> Tensor:
        return super().forward(h).contiguous(memory_format=torch.channels_last_3d)


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Inside, numbers keep the precision of the weights; devices that know no autocast, meta for one, need nothing."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def zero(module: Module) -> Module:
    """The module with all its weights at zero, so that what it is added to starts as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module
