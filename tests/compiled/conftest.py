"""Many small searches by compiled code: what was compiled is looked up in the cache once."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it each search loads the code of the whole model, which takes longer than to search a small test."""
    from cowcatcher.engine import search

    known: dict[tuple[Any, ...], Any] = {}
    real = search.compiled_for

    def compiled_for(space: search.Space) -> Any:
        key = space.digest, space.width, space.stays, space.fixed_size
        if key not in known:
            known[key] = real(space)
        return known[key]

    monkeypatch.setattr(search, "compiled_for", compiled_for)
