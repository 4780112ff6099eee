"""Tables: what a reader sees, and what a test compares."""

import pytest
from bs4 import BeautifulSoup

from regdrop_lite.course.tables import Table


def test_text_and_html_say_the_same():
    rows = [("a < b", 0.125, 3), ("c", -0.0001, "—")]
    table = Table(["", "share", "count"], rows, digits=1)
    text = repr(table).splitlines()
    assert text == ["       share  count", "a < b    0.1      3", "c        0.0      —"]
    html = BeautifulSoup(table._repr_html_(), "html.parser")
    read = [[cell.text for cell in row.select("td, th")] for row in html.select("tr")]
    assert read == [["", "share", "count"], ["a < b", "0.1", "3"], ["c", "0.0", "—"]]
    heads = [cell.text for cell in html.select("th[scope=col]")]
    assert heads == ["share", "count"], "an empty corner is no header"
    assert [cell.text for cell in html.select("th[scope=row]")] == ["a < b", "c"]


def test_a_row_that_does_not_fit_is_an_error():
    with pytest.raises(ValueError, match=r"expected 2 values.*\['a', '1', '2'\]"):
        Table(["x", "y"], [("a", 1, 2)])
