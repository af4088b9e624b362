"""What tests of comparisons find ready."""

import pytest

from lossary._core import registry as core_registry


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(core_registry, "_specs", {(found.kind, found.name): found for found in core_registry.specs().values()})
