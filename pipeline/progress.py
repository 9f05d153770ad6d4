"""A progress bar for work that reports (stage, done, total)."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Report = Callable[[str, int, int], None]


@contextlib.contextmanager
def bar(console: Console) -> Iterator[Report]:
    """Yields `report(stage, done, total)`; one line a stage where there is no terminal."""
    if not console.is_terminal:
        finished: set[str] = set()

        def report_line(stage: str, done: int, total: int) -> None:
            if done >= total and stage not in finished:
                finished.add(stage)
                console.print(f"   {stage}: {total}", highlight=False)

        yield report_line
        return
    columns = (
        TextColumn("   {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as shown:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = shown.add_task(stage, total=total)
            shown.update(tasks[stage], completed=done, total=total)

        yield report
