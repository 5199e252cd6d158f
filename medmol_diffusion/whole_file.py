"""Files that appear whole or not at all."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: str | Path, name: str | None = None) -> Iterator[Path]:
    """A temporary path beside ``path``, to be written inside; it then takes the place of ``path`` at once. Where that
    fails it goes away, what was there before stays, and an OSError names ``path``.

    Args:
        path: of the file.
        name: of the temporary one, where its ending matters, or where it must be the same again, so that what a kill
            leaves is written over. One that nobody else has when left out.
    """
    path = Path(path)
    # by no process's number: machines that share a disk may have two of one number
    temporary = path.with_name(name or f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        if error.filename == str(temporary):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        temporary.unlink(missing_ok=True)
