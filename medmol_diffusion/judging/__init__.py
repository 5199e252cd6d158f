"""What the judges of both domains share: bootstrap intervals, Wasserstein distances, tables and their cells."""
