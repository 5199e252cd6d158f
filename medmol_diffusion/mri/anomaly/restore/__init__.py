"""Ways to make the healthy version of a scan."""
