"""lossary show."""


def show() -> None:
    """Being written."""
