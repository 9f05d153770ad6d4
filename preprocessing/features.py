"""A spec as a TensorFlow Transform preprocessing_fn: raw columns -> ids and values.

The graph that `TFT` saves from it is what serves; the analyzers' results (the shared vocabulary
of `field=value` tokens and the numeric constants) come from the training split only. Shapes: B
rows, P positions. arrow_fields.py and encoder.py are the vectorised twin used to write the
dataset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

from preprocessing import timeparts
from preprocessing.analysis import Analyzers
from preprocessing.arrow_fields import CROSS_MARK
from preprocessing.layout import Layout, Slot, input_of, served_columns
from preprocessing.schema import DatasetSpec

Tensors = Mapping[str, tf.Tensor]


def preprocessing_fn(spec: DatasetSpec, analyzers: Analyzers) -> Callable[[Tensors], Tensors]:
    """{served column: (B,)} -> {"ids": int64 (B, P), "values": float32 (B, P)}.

    A column may also have length 1: it is looked up once and repeated for every row, so that a
    request that scores many candidates for one user pays for the user once.
    """
    layout = Layout.of(spec)
    names = list(served_columns(spec))

    def transform(inputs: Tensors) -> Tensors:
        columns = [inputs[name] for name in names]
        vocabulary = analyzers.vocabulary_file(columns)
        constants = analyzers.constants(columns) if layout.num_constants else None
        tokens = [_tokens(slot, inputs, spec) for slot in layout.slots]
        found = _look_up(tokens, vocabulary)
        rows = _longest([tf.size(column) for column in columns])
        ids, values = [], []
        for slot, hits in zip(layout.slots, found, strict=True):
            part = _ids_and_values(slot, inputs, spec, hits, constants)
            shape = [rows, slot.stop - slot.start]
            ids.append(tf.broadcast_to(part[0], shape))
            values.append(tf.broadcast_to(part[1], shape))
        return {"ids": tf.concat(ids, 1), "values": tf.concat(values, 1)}

    return transform


def input_specs(spec: DatasetSpec) -> dict[str, tf.TensorSpec]:
    """Types of the served columns."""
    return {
        name: tf.TensorSpec([None], tf.string if kind == "string" else tf.float32)
        for name, (_, kind) in served_columns(spec).items()
    }


def _look_up(tokens: list[tf.Tensor], vocabulary: tf.Tensor) -> list[tf.Tensor]:
    """Ids, or -1, of token matrices that may differ in both sizes, by one lookup for all."""
    flat = tf.concat([tf.reshape(part, [-1]) for part in tokens], 0)
    found = tft.apply_vocabulary(flat, vocabulary, default_value=-1)
    parts = tf.split(found, [tf.size(part) for part in tokens])
    return [tf.reshape(hits, tf.shape(part)) for hits, part in zip(parts, tokens, strict=True)]


def _longest(sizes: list[tf.Tensor]) -> tf.Tensor:
    """The number of rows: the longest, but none where a column has none."""
    stacked = tf.stack(sizes)
    return tf.reduce_max(stacked, 0) * tf.minimum(tf.reduce_min(stacked, 0), 1)


def _tokens(slot: Slot, inputs: Tensors, spec: DatasetSpec) -> tf.Tensor:
    """What to look up at each of the slot's positions (B, positions)."""
    prefix = f"{slot.field.name}="
    if slot.field.kind == "multivalued":
        texts, _ = values_of(slot.field, inputs)
        return tf.strings.join([prefix, texts])
    if slot.field.kind == "numeric" and not slot.field.as_category:
        column = inputs[input_of(slot.field)]
        return tf.fill([tf.shape(column)[0], 1], prefix)
    return tf.strings.join([prefix, category(slot.field, inputs, spec)])[:, None]


def _ids_and_values(
    slot: Slot, inputs: Tensors, spec: DatasetSpec, found: tf.Tensor, constants: tf.Tensor | None
) -> tuple[tf.Tensor, tf.Tensor]:
    field, special = slot.field, tf.constant(slot.index, tf.int64)
    mine = tf.where(found >= 0, found, special)
    if field.kind == "numeric" and not field.as_category:
        return _number(slot, inputs[input_of(field)], mine, found, constants)
    if field.kind == "multivalued":
        texts, mask = values_of(field, inputs)
        if field.hash_buckets:
            mine = _hashed(slot, texts)
        count = tf.reduce_sum(tf.cast(mask, tf.float32), 1, keepdims=True)
        return (
            tf.where(mask, mine, tf.zeros_like(mine)),
            tf.where(mask, 1.0 / count, tf.zeros_like(mine, tf.float32)),
        )
    if field.hash_buckets:
        mine = _hashed(slot, category(field, inputs, spec)[:, None])
    return mine, tf.ones_like(mine, tf.float32)


def _hashed(slot: Slot, texts: tf.Tensor) -> tf.Tensor:
    return slot.fixed_start + tf.strings.to_hash_bucket_fast(texts, slot.fixed_size)


def _number(
    slot: Slot, x: tf.Tensor, mine: tf.Tensor, found: tf.Tensor, constants: tf.Tensor | None
) -> tuple[tf.Tensor, tf.Tensor]:
    field, missing = slot.field, tf.math.is_nan(x)[:, None]
    special = tf.fill(tf.shape(mine), tf.constant(slot.index, tf.int64))
    own = constants[slot.constants] if constants is not None else None
    if field.transform == "quantiles":
        x = _clipped(tf.where(tf.math.is_nan(x), 0.0, x), field)
        bucket = tf.searchsorted(own, tf.cast(x, tf.float64), side="right", out_type=tf.int64)
        ids, values = slot.fixed_start + bucket[:, None], tf.ones_like(mine, tf.float32)
    else:
        ids = special
        values = tf.cast(transformed(x, field, own), tf.float32)[:, None]
    if field.missing == "zero":
        mine, known = special, tf.zeros_like(values)
    else:
        known = tf.cast(found >= 0, tf.float32)
    return tf.where(missing, mine, ids), tf.where(missing, known, values)


def _clipped(x: tf.Tensor, field: Any) -> tf.Tensor:
    return tf.clip_by_value(x, *field.clip) if field.clip else x


def transformed(x: tf.Tensor, field: Any, constants: tf.Tensor | None) -> tf.Tensor:
    """float32 raw values -> float64 transformed values (NaN stays NaN)."""
    x = tf.cast(_clipped(x, field), tf.float64)
    if field.transform == "log_squared":
        return tf.where(x > 2, tf.square(tf.math.log(tf.maximum(x, 2.0))), x)
    if field.transform == "log1p":
        return tf.sign(x) * tf.math.log1p(tf.abs(x))
    if field.transform == "z_score":
        return (x - constants[0]) / constants[1]
    if field.transform == "min_max":
        return tf.clip_by_value((x - constants[0]) / constants[1], 0.0, 1.0)
    return x


def category(field: Any, inputs: Tensors, spec: DatasetSpec) -> tf.Tensor:
    """The single text value of each row (B,), empty for missing."""
    if field.kind == "cross":
        fields = {f.name: f for f in spec.fields}
        parts = [category(fields[name], inputs, spec) for name in field.of]
        rows = _longest([tf.size(part) for part in parts])
        return tf.strings.join([tf.broadcast_to(part, [rows]) for part in parts], CROSS_MARK)
    column = inputs[input_of(field)]
    if field.kind == "numeric":
        whole = tf.floor(transformed(column, field, None))
        whole = tf.where(tf.math.is_nan(whole), tf.zeros_like(whole), whole)
        whole = tf.cast(tf.clip_by_value(whole, -1e15, 1e15), tf.int64)
        return tf.where(tf.math.is_nan(column), "", tf.strings.as_string(whole))
    if field.kind == "time":
        return _part_texts(column, field)
    column = _blank(column, field.missing)
    if field.prefix:
        column = tf.strings.substr(column, 0, field.prefix, unit="UTF8_CHAR")
    return column


def values_of(field: Any, inputs: Tensors) -> tuple[tf.Tensor, tf.Tensor]:
    """A multi-valued field's texts (B, max_values) and which of them are there (B, max_values)."""
    texts = tf.strings.split(inputs[input_of(field)], field.separator)
    texts = texts.with_values(_blank(texts.values, field.missing))
    texts = tf.ragged.boolean_mask(texts, tf.not_equal(texts, ""))[:, : field.max_values]
    count = tf.maximum(texts.row_lengths(), 1)
    dense = texts.to_tensor("", shape=[None, field.max_values])
    return dense, tf.sequence_mask(count, field.max_values)


def _blank(texts: tf.Tensor, missing: tuple[str, ...]) -> tf.Tensor:
    for value in missing:
        texts = tf.where(tf.equal(texts, value), "", texts)
    return texts


def _part_texts(texts: tf.Tensor, field: Any) -> tf.Tensor:
    if field.format in ("unix", "unix_ms"):
        valid = tf.strings.regex_full_match(texts, timeparts.UNIX_PATTERN[1:-1])
        whole = tf.strings.regex_replace(tf.where(valid, texts, "0"), r"\.\d*$", "")
        seconds = tf.strings.to_number(whole, tf.int64)
        seconds = seconds // 1000 if field.format == "unix_ms" else seconds
    else:
        if field.format == "iso":
            length = tf.strings.length(texts)
            texts = tf.where(length == 10, tf.strings.join([texts, " 00:00:00"]), texts)
            texts = tf.where(length == 16, tf.strings.join([texts, ":00"]), texts)
        pattern, parts = timeparts.layout(field.format)
        valid = tf.strings.regex_full_match(texts, pattern[1:-1])
        safe = tf.where(valid, texts, "0" * (sum(width for _, _, width in parts) + 20))
        values = {
            name: tf.strings.to_number(tf.strings.substr(safe, at, width), tf.int64)
            for name, at, width in parts
        }
        seconds = timeparts.seconds_of(values)
    part = timeparts.part_of(seconds + round(field.utc_offset_hours * 3600), field.part)
    return tf.where(valid, tf.strings.as_string(part), "")
