"""What the scores of sets of scans are made of: features, distances with floors, tissue, spectra, memorisation."""
