import io
import re
from types import SimpleNamespace

from rich.console import Console

from pipeline.callbacks import Position, Progress
from pipeline.callbacks import progress as module

LOGS = {"loss": 0.5, "val_auc": 0.75, "examples_per_second": 1234.0, "seconds": 2.0}


def epoch(progress, position, calls):
    """One epoch, of which the callbacks are called after the batches numbered `calls`."""
    for callback in (position, progress):
        callback.on_epoch_begin(1)
    for batch in calls:
        for callback in (position, progress):
            callback.on_train_batch_end(batch, LOGS)
    progress.on_epoch_end(1, LOGS)
    progress.close()


def test_the_bar_tells_step_rate_loss_and_time_left(monkeypatch):
    """Ten steps an epoch, two a call; the first epoch was done before a resume."""
    seconds = iter(range(100))
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: next(seconds)))
    console = Console(file=io.StringIO(), force_terminal=True, width=150)
    position = Position(10, step=10)
    progress = Progress(console, position, epochs=3, batch_size=100)
    epoch(progress, position, calls=[1, 3, 5])
    # Six batches of 100 rows in the three seconds since the epoch's begin; half of 30 steps done.
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())
    assert "epoch 2/3  step 6/10" in shown
    assert "200 examples/s  loss 0.5000" in shown
    assert re.search(r"loss 0.5000 \d:\d\d:\d\d", shown)
    assert "epoch 2/3  loss 0.5000  val auc 0.7500  1,234 examples/s  2.0 s" in shown


def test_without_a_terminal_an_epoch_is_a_line():
    console = Console(file=io.StringIO())
    position = Position(10)
    epoch(Progress(console, position, epochs=3, batch_size=100), position, calls=range(10))
    assert console.file.getvalue().count("\n") == 1
