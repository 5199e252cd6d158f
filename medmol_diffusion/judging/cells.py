"""The cells of a score table: a figure, or an interval; "-" where there is none, for NaN is no word for a reader."""

import math

NONE = "-"


def number(value: float | None, form: str = ".4g", unit: str = "") -> str:
    """A figure in a format of str.format, with its unit; "-" for None and NaN."""
    if value is None or math.isnan(value):
        return NONE
    return f"{value:{form}} {unit}".rstrip()


def interval(low: float, high: float, form: str = ".4g") -> str:
    """ "low - high"; "-" where either is NaN."""
    return NONE if math.isnan(low) or math.isnan(high) else f"{low:{form}} - {high:{form}}"
