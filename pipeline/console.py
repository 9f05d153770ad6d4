"""What the commands print, and TensorFlow's start made quiet and quick on memory."""

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline import allocator


def start_tensorflow() -> None:
    """Import TensorFlow and Keras without their start-up chatter; an error shows all of it.

    TensorFlow writes to file descriptor 2 before any of its log settings are read.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    allocator.keep_freed_memory()
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as aside:
        os.dup2(aside.fileno(), 2)
        try:
            import keras
            import tensorflow as tf

            # The first look for devices is what complains of a missing GPU.
            tf.config.list_physical_devices()
            tf.get_logger().setLevel("ERROR")
            keras.config.disable_traceback_filtering()
        except BaseException:
            aside.seek(0)
            os.write(saved, aside.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def console() -> Any:
    """A rich console on stderr, so that stdout holds results only."""
    from rich.console import Console

    return Console(stderr=True, soft_wrap=True)


@contextlib.contextmanager
def stage(name: str, times: dict[str, float]) -> Iterator[None]:
    """Prints the stage's name, and its seconds when it is done."""
    out = console()
    out.print(f"[bold]== {name}[/bold]")
    begun = time.perf_counter()
    yield
    times[name] = time.perf_counter() - begun
    out.print(f"   {name}: {times[name]:.1f} s", highlight=False)


def metrics_table(title: str, columns: Mapping[str, Mapping[str, Any]]) -> None:
    """Print metrics as a table: one column per entry of `columns`, one row per metric."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    table.add_column("metric")
    for name in columns:
        table.add_column(name, justify="right")
    names = list(dict.fromkeys(metric for column in columns.values() for metric in column))
    for metric in names:
        table.add_row(metric, *(_cell(column.get(metric)) for column in columns.values()))
    Console().print(table)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
