"""What tests of comparisons find ready."""

import pytest

from lossary import _registry


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(_registry, "_specs", {(found.kind, found.name): found for found in _registry.specs().values()})
