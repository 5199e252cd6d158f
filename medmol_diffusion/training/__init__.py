"""Training on PyTorch Lightning; names neither domain."""

from medmol_diffusion.extras import need

need("training", "medmol_diffusion.training")
