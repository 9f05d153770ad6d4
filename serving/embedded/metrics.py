"""Counters and histograms under TensorFlow Serving's metric names, in Prometheus text format."""

import threading
from bisect import bisect_left
from collections.abc import Sequence

LATENCY_LIMITS = tuple(10 * 1.8**i for i in range(33))  # microseconds
SIZE_LIMITS = tuple(float(2**i) for i in range(16))
_MAX_SERIES = 1000
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


class Counter:
    """A number per combination of label values that only grows.

    Label values may come from clients (a model's name in a URL), so there is a limit to their
    combinations: whatever is beyond it counts under empty values.
    """

    kind = "counter"

    def __init__(self, name: str, labels: Sequence[str]):
        self.name = name
        self._labels = tuple(labels)
        self._values: dict[tuple[str, ...], int] = {}
        self._lock = threading.Lock()

    def add(self, *values: str, by: int = 1) -> None:
        with self._lock:
            if values not in self._values and len(self._values) >= _MAX_SERIES:
                values = ("",) * len(values)
            self._values[values] = self._values.get(values, 0) + by

    def value(self, *values: str) -> int:
        with self._lock:
            return self._values.get(values, 0)

    def lines(self) -> list[str]:
        with self._lock:
            items = sorted(self._values.items())
        return [f"{self.name}{{{_labels(self._labels, k)}}} {v}" for k, v in items]


class Histogram:
    """Cumulative buckets, sum and count per combination of label values."""

    kind = "histogram"

    def __init__(self, name: str, labels: Sequence[str], limits: Sequence[float] = LATENCY_LIMITS):
        self.name = name
        self._labels = tuple(labels)
        self._limits = tuple(limits)
        self._series: dict[tuple[str, ...], tuple[list[int], list[float]]] = {}
        self._lock = threading.Lock()

    def observe(self, *values: str, amount: float) -> None:
        bucket = bisect_left(self._limits, amount)
        with self._lock:
            counts, total = self._series.setdefault(values, ([0] * (len(self._limits) + 1), [0.0]))
            counts[bucket] += 1
            total[0] += amount

    def count(self, *values: str) -> int:
        with self._lock:
            return sum(self._series.get(values, ([0], [0.0]))[0])

    def lines(self) -> list[str]:
        with self._lock:
            items = sorted(
                (k, list(counts), total[0]) for k, (counts, total) in self._series.items()
            )
        lines = []
        for key, counts, total in items:
            text = _labels(self._labels, key)
            prefix = f"{text}," if text else ""
            running = 0
            for limit, count in zip((*self._limits, None), counts, strict=True):
                running += count
                le = "+Inf" if limit is None else f"{limit:g}"
                lines.append(f'{self.name}_bucket{{{prefix}le="{le}"}} {running}')
            lines.append(f"{self.name}_sum{{{text}}} {total:g}")
            lines.append(f"{self.name}_count{{{text}}} {running}")
        return lines


def _labels(names: Sequence[str], values: Sequence[str]) -> str:
    pairs = zip(names, values, strict=True)
    return ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in pairs)


class Metrics:
    """Every metric of one server."""

    def __init__(self) -> None:
        serving = ":tensorflow:serving:"
        batching = serving + "batching_session:"
        run_labels = ("model_name", "API", "entrypoint")
        self.request_count = Counter(serving + "request_count", ("model_name", "status"))
        self.request_latency = Histogram(serving + "request_latency", run_labels)
        self.runtime_latency = Histogram(
            serving + "runtime_latency", ("model_name", "API", "runtime")
        )
        self.example_counts = Histogram(serving + "request_example_counts", ("model",), SIZE_LIMITS)
        self.example_count_total = Counter(serving + "request_example_count_total", ("model",))
        warmup_labels = ("model_path", "status")
        self.warmup_latency = Histogram(serving + "model_warmup_latency", warmup_labels)
        self.warmup_records = Counter(serving + "model_warmup_records_read", warmup_labels)
        self.queuing_latency = Histogram(batching + "queuing_latency", ("thread_pool_name",))
        self.input_batch_size = Histogram(
            batching + "input_batch_size", ("thread_pool_name",), SIZE_LIMITS
        )
        self.processed_batch_size = Histogram(
            batching + "processed_batch_size", ("thread_pool_name",), SIZE_LIMITS
        )
        self.padding_size = Histogram(
            batching + "padding_size", ("execution_batch_size",), SIZE_LIMITS
        )
        self.wrapped_run_count = Counter(batching + "wrapped_run_count", ())

    def exposition(self) -> bytes:
        """All metrics as Prometheus scrapes them: TYPE lines and samples, no HELP lines."""
        lines: list[str] = []
        for metric in vars(self).values():
            lines.append(f"# TYPE {metric.name} {metric.kind}")
            lines += metric.lines()
        return ("\n".join(lines) + "\n").encode()
