"""What a benchmark says: a table, a JSON file, a picture, and whether targets hold."""

import argparse
import json
import statistics
from collections.abc import Callable

from harness import OURS, say
from rich.console import Console
from rich.table import Table


def compare(runs: list[dict], measure: str) -> dict[str, dict]:
    """Summarises the runs of each library and compares it with ours.

    Args:
        runs: Answers of workers, from `harness.run_in_turn`.
        measure: The key of the time to compare.

    Returns:
        Per library its `median`, `low` and `high` over the rounds; and, for peers,
        `ratio`, how many times as long it takes as ours by these medians, with
        `ratio_low` and `ratio_high` over the single rounds.
    """
    times: dict[str, list[float]] = {}
    for run in runs:
        times.setdefault(run["library"], []).append(run[measure])
    summary: dict[str, dict] = {}
    for library, values in times.items():
        summary[library] = {
            "median": statistics.median(values),
            "low": min(values),
            "high": max(values),
        }
        if library != OURS:
            rounds = [theirs / ours for theirs, ours in zip(values, times[OURS])]
            summary[library] |= {
                "ratio": summary[library]["median"] / summary[OURS]["median"],
                "ratio_low": min(rounds),
                "ratio_high": max(rounds),
            }
    return summary


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Prints a table with the first column to the left and numbers to the right."""
    table = Table(title=title)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*row)
    # Piped output keeps its width, so that no cell is cut.
    console = Console()
    Console(width=max(console.width, 110)).print(table)


def ratio_cell(row: dict) -> str:
    """Returns `times as long as ours (range over rounds)`, empty for ours."""
    if "ratio" not in row:
        return ""
    low, high = row["ratio_low"], row["ratio_high"]
    return f"{row['ratio']:.2f} ({low:.2f} to {high:.2f})"


def versions(runs: list[dict]) -> list[str]:
    """Returns one line of versions per library."""
    found = {run["library"]: run["versions"] for run in runs}
    return [
        f"{library}: " + ", ".join(f"{k} {v}" for k, v in packages.items())
        for library, packages in found.items()
    ]


def missed_targets(summary: dict[str, dict], targets: dict[str, float]) -> list[str]:
    """Returns one line per measured peer whose ratio is below its target."""
    return [
        f"{peer} takes {summary[peer]['ratio']:.2f} times as long as ours, "
        f"want at least {target:g}"
        for peer, target in targets.items()
        if peer in summary and summary[peer]["ratio"] < target
    ]


def finish(
    args: argparse.Namespace,
    results: dict,
    missed: list[str],
    draw: Callable[[object], None],
) -> int:
    """Writes the files asked for, says what was missed and returns the exit status.

    Args:
        args: From `harness.parse_args`.
        results: What goes into the JSON file.
        missed: What `--check` has to complain about.
        draw: Draws the results on the matplotlib axes that it is given.

    Returns:
        1 if something was missed and `--check` was given, otherwise 0.
    """
    args.json.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**results, "missed": missed}, indent=1, allow_nan=False)
    args.json.write_text(text + "\n")
    say(f"results: {args.json}")
    if args.png:
        _save_png(args.png, draw)
    for line in missed:
        say(f"missed: {line}")
    return 1 if missed and args.check else 0


def _save_png(path, draw: Callable[[object], None]) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        say("no picture: matplotlib is not installed")
        return
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    draw(figure.add_subplot())
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    say(f"picture: {path}")
