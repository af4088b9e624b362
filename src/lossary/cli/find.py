"""lossary find."""


def find() -> None:
    """Being written."""
