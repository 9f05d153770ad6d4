"""The signatures of a served model, as concrete TensorFlow functions.

Signatures (B rows, N candidates, F fields):

    serving_default      raw columns (B,)             -> probability (B,), logit (B,)
    serialized_examples  `examples` (B,) tf.Example   -> the same
    score_candidates     one context, N candidates    -> the same, in the candidates' shape
    explain              raw columns (B,)             -> the same + bias (B,), first_order (B, F),
                                                         order_k_* (B, F, F) of the model, and
                                                         fields (B, F), the fields' names

`logit` is the model's own; `probability` is calibrated. A regression model answers `prediction`,
its logit clipped to [-1, 1], in place of `probability`.

A column may have length 1, and then counts for every row. That is how an omitted column's default
(one missing-value token) and the context of `score_candidates` reach all rows; the transform looks
such a column up once and repeats it afterwards.

`score_candidates` takes either vectors (context columns of length 1 or scalars, candidate columns
of length N; answers (N,)) or matrices (context (R, 1), candidates (R, N); answers (R, N)). The
matrix form is the one for a server that batches: its axis 0 counts requests, so that the server
can stack them and cut the answer apart again.
"""

import keyword
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from serving.calibration import calibrate
from serving.columns import Column
from serving.row_parts import logits_in_parts

SIGNATURES = ("serving_default", "serialized_examples", "score_candidates", "explain")
TASKS = ("binary", "regression")

Columns = Mapping[str, tf.Tensor]
_DTYPES = {"string": tf.string, "float32": tf.float32}


class Scorer:
    """Raw columns -> answers: the transform, the model and the calibration in one function.

    The transform takes columns of length B or 1 and answers B rows. `fields` names the F fields for
    `explain`, which says no names if it is empty.
    """

    def __init__(
        self,
        model: Callable,
        transform: Callable,
        columns: Sequence[Column],
        calibration: Sequence[Mapping] = (),
        task: str = "binary",
        fields: Sequence[str] = (),
    ) -> None:
        if task not in TASKS:
            raise ValueError(f"task must be one of {list(TASKS)}, got {task!r}")
        if task == "regression" and calibration:
            raise ValueError("a regression model answers no probability to calibrate")
        self.model = model
        self.transform = transform
        self.columns = tuple(columns)
        self.calibration = list(calibration)
        self.task = task
        self.fields = list(fields)

    def score(self, raw: Columns) -> dict[str, tf.Tensor]:
        """`serving_default`: raw columns -> probability or prediction (B,), logit (B,)."""
        return self._answers(logits_in_parts(self.model, self._features(raw)))

    def explain(self, raw: Columns) -> dict[str, tf.Tensor]:
        """`explain`: `score`'s answers and the parts that the logit is made of."""
        parts = dict(self.model.explain(self._features(raw)))
        answers = self._answers(tf.reshape(parts.pop("logit"), [-1]))
        if "bias" in parts:
            parts["bias"] = tf.reshape(parts["bias"], [-1])
        parts = {name: tf.cast(part, tf.float32) for name, part in parts.items()}
        if self.fields:
            # One row of names for each row: REST and batching servers cut every output by rows.
            parts["fields"] = tf.tile([self.fields], [tf.size(answers["logit"]), 1])
        return {**answers, **parts}

    def score_examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """`serialized_examples`: tf.Example protos (B,) whose features are the raw columns."""
        features = {
            column.name: tf.io.FixedLenFeature(
                [], _DTYPES[column.dtype], None if column.required else column.missing
            )
            for column in self.columns
        }
        return self.score(tf.io.parse_example(examples, features))

    def score_grid(self, raw: Columns) -> dict[str, tf.Tensor]:
        """`score_candidates`."""
        rows, shape = repeat_to_grid(raw)
        return {name: tf.reshape(value, shape) for name, value in self.score(rows).items()}

    def _features(self, raw: Columns) -> dict[str, tf.Tensor]:
        features = self.transform({column.name: raw[column.name] for column in self.columns})
        return {"ids": features["ids"], "values": features["values"]}

    def _answers(self, logit: tf.Tensor) -> dict[str, tf.Tensor]:
        logit = tf.cast(logit, tf.float32)
        if self.task == "regression":
            return {"prediction": tf.clip_by_value(logit, -1.0, 1.0), "logit": logit}
        return {"probability": calibrate(logit, self.calibration), "logit": logit}


def repeat_to_grid(raw: Columns) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """Context and candidate columns -> columns of R * N rows and the shape to answer in.

    Returns:
        Flat columns, of length R * N, or 1 for the context of the only request (R = 1): that is
        left to the transform. The shape is [R, N], or [N] when a column came as a vector.
    """
    shapes = {name: tf.shape(column) for name, column in raw.items()}
    matrices = {name: tf.concat([[1, 1], shape], 0)[-2:] for name, shape in shapes.items()}
    stacked = tf.stack(list(matrices.values()))
    # The longest of each axis; but none of something (no candidates) makes none of all.
    grid = tf.reduce_max(stacked, 0) * tf.minimum(tf.reduce_min(stacked, 0), 1)
    rows = {}
    for name, column in raw.items():
        own = matrices[name]
        repeated = tf.where(tf.equal(grid[0], 1), own, grid)
        rows[name] = tf.reshape(tf.broadcast_to(tf.reshape(column, own), repeated), [-1])
    rank = tf.reduce_min(tf.stack([tf.size(shape) for shape in shapes.values()]))
    return rows, grid[2 - tf.clip_by_value(rank, 1, 2) :]


def argument_names(columns: Sequence[Column]) -> dict[str, str]:
    """Column name -> a name TensorFlow accepts for a function argument.

    The same wherever it can be; export renames the signature's aliases back to the columns.
    """
    taken = {column.name for column in columns}
    names: dict[str, str] = {}
    for index, column in enumerate(columns):
        name = column.name
        usable = name.isascii() and name.isidentifier() and not name.startswith("_")
        if not usable or keyword.iskeyword(name) or name == "self":
            name = f"column_{index}"
            while name in taken:
                name += "x"
        taken.add(name)
        names[column.name] = name
    return names


def trace(scorer: Scorer) -> dict[str, tf.types.experimental.ConcreteFunction]:
    """Trace every signature once; the functions' arguments are `argument_names`."""
    vector = {column.name: [None] for column in scorer.columns}
    any_rank = dict.fromkeys(vector)
    examples = tf.function(
        scorer.score_examples, input_signature=[tf.TensorSpec([None], tf.string, "examples")]
    )
    return {
        "serving_default": _trace_columns(scorer, scorer.score, vector),
        "serialized_examples": examples.get_concrete_function(),
        "score_candidates": _trace_columns(scorer, scorer.score_grid, any_rank),
        "explain": _trace_columns(scorer, scorer.explain, vector),
    }


def _trace_columns(scorer: Scorer, score: Callable, shapes: Mapping[str, list | None]):
    arguments = argument_names(scorer.columns)
    specs = {
        arguments[column.name]: tf.TensorSpec(
            shapes[column.name], _DTYPES[column.dtype], arguments[column.name]
        )
        for column in scorer.columns
    }

    def call(**tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        return score({column: tensors[argument] for column, argument in arguments.items()})

    return tf.function(call, autograph=False).get_concrete_function(**specs)
