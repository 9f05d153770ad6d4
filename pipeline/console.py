"""What the commands print, and TensorFlow's start made quiet and quick on memory."""

import contextlib
import ctypes
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any

# mallopt(3): keep freed buffers instead of giving them back and faulting them in again.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_KEPT_BYTES = 1 << 30


def start_tensorflow() -> None:
    """Import TensorFlow and Keras without their start-up chatter; an error shows all of it.

    TensorFlow writes to file descriptor 2 before any of its log settings are read.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    keep_freed_memory()
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


def keep_freed_memory() -> None:
    """Raise glibc's thresholds, so that a step's big buffers are not unmapped and mapped again.

    Does nothing where the C library has no mallopt or the user set thresholds by environment.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        libc.mallopt(_M_TOP_PAD, 64 << 20)


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
