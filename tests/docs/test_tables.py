"""The tables in docs/ are those of the code."""

import pytest

from scripts.tables import BEGIN, END, TABLES, renewed, routes, stale


def test_every_table_is_current() -> None:
    assert [path.name for path in stale()] == [], "make tables"


def test_only_the_table_is_renewed() -> None:
    assert renewed(f"before\n{BEGIN}\nold\n{END}\nafter\n", "new") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    with pytest.raises(ValueError, match="markers are missing"):
        renewed("no table", "new")


def test_every_row_says_something() -> None:
    for table in TABLES.values():
        rows = table().splitlines()
        assert len(rows) > 10
        assert all(row.count(" | ") >= 2 and not row.endswith("|  |") for row in rows[2:])


def test_routes_have_their_methods() -> None:
    assert "| GET, HEAD | `/api/version` |" in routes()
    assert "| POST | `/api/chat` |" in routes()
