"""How a check ends when it does not pass."""


class Failed(Exception):  # noqa: N818
    """A check found a fault; the text names the numbers."""


class NotApplicable(Exception):  # noqa: N818
    """A check says nothing about this loss; the text says why."""
