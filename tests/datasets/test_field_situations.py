"""The table of situations in the docs is what happens."""

from __future__ import annotations

from pathlib import Path

import pytest
from examples.field_situations import page, rows

PAGE = Path(__file__).parents[2] / "docs/formats_situations.md"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed file", "ignore::pytest.PytestUnraisableExceptionWarning")  # nibabel
@pytest.mark.field
def test_the_page_is_what_happens(tmp_path):
    """Formats, situations, and whether each is read; words of other packages' versions may differ."""

    def told(text):
        cells = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")][2:]
        return [(form, situation, what.split(":")[0]) for form, situation, what in cells]

    assert told(page(tmp_path / "page")) == told(PAGE.read_text(encoding="utf-8"))
    assert all("\n" not in what for _, _, what in rows(tmp_path / "rows"))
