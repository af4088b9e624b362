"""lossary check."""


def check() -> None:
    """Being written."""
