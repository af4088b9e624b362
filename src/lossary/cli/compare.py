"""lossary compare."""


def compare() -> None:
    """Being written."""
