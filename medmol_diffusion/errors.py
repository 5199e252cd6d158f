"""The one exception that a user's input raises, what the system or another library says as a part of it, and the word
that was meant."""

import errno
from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """Something the user gave (a file, a field, a config key) cannot be used.

    The message is one sentence that names the thing and says what to do about it; the command line prints it without a
    traceback and ends with exit code 2.
    """


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ "; did you mean ...?" with the nearest of the known words, the shortest that begins with it if any does; empty
    where none is near."""
    names = list(known)
    longer = sorted((name for name in names if name.startswith(word)), key=len)
    near = longer[:1] or get_close_matches(word, names, 1, cutoff=0.8)
    return f"; did you mean {near[0]}?" if near else ""


def one_line(error: Exception) -> str:
    """What another library says, short and on one line, for brackets in a sentence of our own."""
    return " ".join(str(error).split())[:120] or type(error).__name__


CURES = {
    errno.EACCES: "check who may read and write it",
    errno.EPERM: "check who may read and write it",
    errno.EROFS: "name a place that can be written to",
    errno.ENOSPC: "make room, or name a place on another disk",
    errno.EDQUOT: "make room, or name a place on another disk",
    errno.EISDIR: "give a file, for this is a folder",
    errno.ENOTDIR: "give a path whose folders are folders",
    errno.ENOENT: "check the path",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EMFILE: "raise the number of open files (ulimit -n)",
}
"""What to do about what the system refuses."""


def system_says(error: OSError) -> str:
    """The file, what the system says of it, and the cure, as one sentence."""
    name = "" if error.filename is None else f"{error.filename}: "
    cure = CURES.get(error.errno or 0, "try again, or another place")
    return f"{name}{error.strerror}: {cure}" if error.strerror else str(error)
