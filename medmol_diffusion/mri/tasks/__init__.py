"""Conditional tasks: scans made from what is given of them."""
