"""Training on PyTorch Lightning; names neither domain."""
