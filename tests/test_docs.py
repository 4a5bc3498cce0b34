"""The pages say what is so: code prints what stands under it, and nothing public is left out."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import printed


@pytest.mark.parametrize("page", ["howto/explain", "howto/big_models"])
def test_code_prints_what_stands_under_it(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = printed(page, tmp_path, monkeypatch)
    assert pairs
    for said, stands in pairs:
        assert said == stands
