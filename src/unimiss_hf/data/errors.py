"""How a list of many files says what is wrong with one."""


def one_line(error: Exception, name: str) -> str:
    """Say what was wrong with an input in one line, without repeating its name at the beginning."""
    cause = " ".join(str(error).split()) or type(error).__name__
    rest = cause.removeprefix(name)
    # A file of a folder begins with the folder's name.
    return rest.removeprefix(":").strip() or cause if rest.startswith((":", " ")) else cause
