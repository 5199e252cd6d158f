"""Counts in words."""


def counted(count: int, one: str) -> str:
    """ "1 molecule", "2 molecules": a count with its noun."""
    return f"{count} {one}" if count == 1 else f"{count} {one}s"
