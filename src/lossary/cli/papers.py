"""lossary papers."""


def papers() -> None:
    """Being written."""
