"""Scans in: one module a format, and files.py, which knows which one a path wants."""
