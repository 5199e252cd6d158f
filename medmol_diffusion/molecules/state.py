"""StateNetwork: a molecule network between the blocks of the state."""

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from medmol_diffusion.core import Anchored, Product, Space, ZeroCentre
from medmol_diffusion.molecules.features import CHARGE_SCALE, Layout, pack, pairs_of, unpack
from medmol_diffusion.molecules.networks.network import MoleculeNetwork


class StateNetwork(nn.Module):
    """An equivariant network between the blocks of the state.

    The network sees positions, the posterior of every category given its own noisy blocks alone, and gamma; what it
    says of a category is added to the log-evidence of that posterior, so that it learns only what the rest of the
    molecule says. Of a category that is given the posterior is certain.

    Args:
        layout: of the state.
        network: the equivariant one.
        given: whether it is told, as one more feature of the atoms, whose positions are given (core.Anchored).
    """

    def __init__(self, layout: Layout, network: MoleculeNetwork, given: bool = False) -> None:
        super().__init__()
        self.layout, self.network, self.given = layout, network, given
        sizes = {"atoms_in": layout.atoms_size + given, "atoms_out": layout.atoms_size}
        sizes |= {"pairs_in": len(layout.bond_orders), "pairs_out": len(layout.bond_orders)}
        for name, size in sizes.items():
            if getattr(network, name) != size:
                raise ValueError(
                    f"network.{name} = {getattr(network, name)}, but the state has {size}: atoms count elements and "
                    "formal_charges, and of a model that completes what is given one more for that; pairs bond_orders"
                )

    def forward(self, z: Tensor, gamma: Tensor, space: Space, condition: Tensor | None = None) -> Tensor:
        assert isinstance(space, Product)
        parts = space.split(z)
        positions = space.blocks["positions"]
        assert isinstance(positions, ZeroCentre)
        mask, size = positions.mask, positions.mask.shape[1]
        logits = self.layout.evidence(parts, gamma)
        seen = {name: torch.softmax(value, -1) for name, value in logits.items()}
        of_atoms = [name for name in seen if name != "bonds"]
        if isinstance(positions, Anchored):
            for name in seen:
                every = pairs_of(mask) if name == "bonds" else mask
                certain = every & ~space.blocks[name].mask  # type: ignore[attr-defined]
                hot = one_hot(parts[name].argmax(-1), parts[name].shape[-1]).to(z)
                seen[name] = torch.where(certain[..., None], hot, seen[name])
        features = [seen[name] for name in of_atoms]
        if self.given:
            held = positions.anchors if isinstance(positions, Anchored) else torch.zeros_like(mask)
            features.append(held[..., None].to(z))
        said = self.network(
            parts["positions"],
            torch.cat(features, -1),
            mask,
            gamma.to(z),
            unpack(seen["bonds"], size) if "bonds" in seen else None,
            condition,
        )
        widths = [logits[name].shape[-1] for name in of_atoms]
        for name, context in zip(of_atoms, said.atoms.split(widths, -1), strict=True):
            logits[name] = logits[name] + context
        if said.pairs is not None:
            logits["bonds"] = logits["bonds"] + pack(said.pairs)
        nuclear = torch.tensor(self.layout.elements, device=z.device, dtype=z.dtype) / CHARGE_SCALE
        expected = torch.softmax(logits["elements"], -1) @ nuclear[:, None]
        return space.join({"positions": said.vectors.to(z), "charges": expected * mask[..., None], **logits})
