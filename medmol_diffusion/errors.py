"""The one exception that a user's input raises."""


class InputError(ValueError):
    """Something the user gave (a file, a field, a config key) cannot be used.

    The message is one sentence that names the thing and says what to do about it; the command line prints it without a
    traceback and ends with exit code 2.
    """
