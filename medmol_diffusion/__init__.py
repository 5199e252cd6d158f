"""Diffusion models for brain MRI and 3-D molecules on one shared, proved core."""

__version__ = "0.1.0"
