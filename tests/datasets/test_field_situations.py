"""The table of situations in the docs is what happens."""

from __future__ import annotations

from pathlib import Path

import pytest
from examples.field_situations import SITUATIONS, rows

PAGE = Path(__file__).parents[2] / "docs/formats_situations.md"

pytestmark = pytest.mark.field


def told() -> list[tuple[str, str, str]]:
    """Rows of the page: format, situation, and "read" or "refused"; words of other packages' versions may differ."""
    text = PAGE.read_text(encoding="utf-8")
    cells = [line.strip("| ").split(" | ", 2) for line in text.splitlines() if line.startswith("| ")][2:]
    return [(form, situation, what.split(":")[0]) for form, situation, what in cells]


@pytest.mark.filterwarnings("error::ResourceWarning", "error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("form", SITUATIONS)
def test_the_page_is_what_happens(form, tmp_path):
    found = rows(tmp_path, form)
    assert [(form, situation, what.split(":")[0]) for form, situation, what in found] == [
        row for row in told() if row[0] == form
    ]
    assert all("\n" not in what and "not foreseen" not in what for _, _, what in found)


def test_the_page_has_no_other_rows():
    assert {form for form, _, _ in told()} == set(SITUATIONS)
