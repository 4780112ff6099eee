"""Tables of results: HTML for the reader of a notebook, aligned text for a test."""

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["Table"]


class Table:
    """A table, which a notebook shows as HTML and a terminal as aligned text.

    The first column names the rows. The others stand flush right, so that digits stand
    below digits.

    Args:
        head: the names of the columns.
        rows: a row has a value for each column. Of numbers with a fraction ``digits``
            are shown; text and whole numbers are shown as they are.
        digits: after the point. A value that rounds to zero has no sign.

    Raises:
        ValueError: a row has more or fewer values than there are columns.

    Example:
        >>> from regdrop_lite.course.tables import Table
        >>> Table(["rate", "mean", "variance"], [("0.1", 1.0, 0.111), ("0.9", 1.0, 9)])
        rate  mean  variance
        0.1   1.00      0.11
        0.9   1.00         9
    """

    def __init__(
        self, head: Sequence[str], rows: Iterable[Sequence[object]], *, digits: int = 2
    ) -> None:
        self.head = list(head)
        self.rows = [
            [
                f"{value:z.{digits}f}" if isinstance(value, float) else str(value)
                for value in row
            ]
            for row in rows
        ]
        for row in self.rows:
            if len(row) != len(self.head):
                raise ValueError(
                    f"expected {len(self.head)} values, one for each of {self.head}, "
                    f"but a row is {row}"
                )

    def __repr__(self) -> str:
        lines = [self.head, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(
                f"{cell:{'>' if i else '<'}{width}}"
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )

    def _repr_html_(self) -> str:
        corner, *names = self.head
        head = _cell("th", corner, "col") if corner else "<td></td>"
        head += "".join(_cell("th", name, "col") for name in names)
        lines = [
            _cell("th", name, "row") + "".join(_cell("td", value) for value in values)
            for name, *values in self.rows
        ]
        body = "".join(f"<tr>{line}</tr>\n" for line in lines)
        return (
            f'<table class="table numbers">\n<thead><tr>{head}</tr></thead>\n'
            f"<tbody>\n{body}</tbody>\n</table>"
        )


def _cell(tag: str, text: str, scope: str = "") -> str:
    attribute = f' scope="{scope}"' if scope else ""
    return f"<{tag}{attribute}>{escape(text)}</{tag}>"
