"""lossary list."""


def list_() -> None:
    """Being written."""
