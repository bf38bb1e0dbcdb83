"""The table that `summary()` prints."""

import sys

from rich.table import Table

from tflearner.reporting.output import Output, render


def print_summary(title: str, rows: list[tuple[str, str]]) -> None:
    """Prints a title and rows of name and value, wrapped to the terminal's width.

    Args:
        title: The line above the table.
        rows: Pairs of name and value.
    """
    table = Table(title=title, title_justify="left", show_header=False, box=None)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    Output(sys.stdout).write(render(table, sys.stdout))
