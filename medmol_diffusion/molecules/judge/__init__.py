"""What the scores of molecules are made of: the rules, distances of distributions, strain, PoseBusters, diversity."""
