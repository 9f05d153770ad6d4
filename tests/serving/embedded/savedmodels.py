"""Tiny SavedModels for the server's tests, written with tf.Module."""

from pathlib import Path

import tensorflow as tf

_DTYPES = {
    "double": tf.float64,
    "int32": tf.int32,
    "int8": tf.int8,
    "int64": tf.int64,
    "uint32": tf.uint32,
    "uint64": tf.uint64,
    "bool": tf.bool,
    "half": tf.float16,
    "bfloat16": tf.bfloat16,
    "uint16": tf.uint16,
}


def _function(function, **inputs):
    specs = {k: tf.TensorSpec(shape, dtype, name=k) for k, (shape, dtype) in inputs.items()}
    return tf.function(function, autograph=False).get_concrete_function(**specs)


class HalfPlus(tf.Module):
    """y = x / 2 + offset; the offset tells versions apart."""

    def __init__(self, offset: float):
        super().__init__()
        self.offset = tf.Variable(offset)

    def signatures(self):
        def half(x):
            return {"y": x / 2.0 + self.offset}

        return {"serving_default": _function(half, x=([None], tf.float32))}


class Everything(tf.Module):
    """One signature per behaviour under test."""

    def __init__(self):
        super().__init__()
        self.embedding = tf.Variable([[float(i), float(-i)] for i in range(5)])
        self.table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(["a", "b"], tf.constant([1, 2], tf.int64)), -1
        )

    def signatures(self):
        vector = ([None], tf.float32)
        examples = {"inputs": ([None], tf.string)}
        made = {
            "serving_default": _function(lambda x: {"y": x / 2.0 + 2.0}, x=vector),
            "pair": _function(lambda a, b: {"sum": a + b, "difference": a - b}, a=vector, b=vector),
            "triple": _function(lambda c, a, b: {"y": a + b + c}, a=vector, b=vector, c=vector),
            "matmul": _function(
                lambda x: {"y": tf.matmul(x, tf.ones((3, 1)))}, x=([None, None], tf.float32)
            ),
            "embed": _function(
                lambda ids: {"y": tf.nn.embedding_lookup(self.embedding, ids)},
                ids=([None], tf.int64),
            ),
            "lookup": _function(lambda s: {"id": self.table.lookup(s)}, s=([None], tf.string)),
            "number": _function(lambda s: {"y": tf.strings.to_number(s)}, s=([None], tf.string)),
            "text": _function(
                lambda s: {"text": tf.identity(s), "raw_bytes": tf.identity(s)},
                s=([None], tf.string),
            ),
            "total": _function(lambda x: {"y": tf.reduce_sum(x)}, x=vector),
            "uneven": _function(lambda x: {"a": x + 0.0, "b": x[:1]}, x=vector),
            "constant": _function(lambda: {"y": tf.constant([1.0])}),
            "slow": _function(_loop, n=([None], tf.int64)),
            "gate": _function(_wait_at_gate, n=([None], tf.int64)),
            "open": _function(_open_gate, n=([None], tf.int64)),
            "sequence": _function(
                lambda x: {"y": tf.reduce_sum(x, axis=1)}, x=([None, None], tf.float32)
            ),
            "regress": _function(self._regress, **examples),
            "classify": _function(self._classify, **examples),
            "scores_only": _function(lambda inputs: {"scores": _scores(inputs)}, **examples),
            "labels_only": _function(lambda inputs: {"classes": _labels(inputs)}, **examples),
            "regress_wide": _function(lambda inputs: {"outputs": _scores(inputs)}, **examples),
            "regress_short": _function(
                lambda inputs: {"outputs": _parse(inputs)["x"][:1]}, **examples
            ),
            "regress_int": _function(lambda inputs: {"outputs": _parse(inputs)["n"]}, **examples),
        }
        for name, dtype in _DTYPES.items():
            made[f"echo_{name}"] = _function(lambda x: {"y": tf.identity(x)}, x=([None], dtype))
        return made

    def _regress(self, inputs):
        features = _parse(inputs)
        return {"outputs": features["x"] * 2.0 + tf.cast(features["n"], tf.float32)}

    def _classify(self, inputs):
        return {"classes": _labels(inputs), "scores": _scores(inputs)}


def _gate():
    """A queue of the session: found by its name, so that two signatures share it."""
    return tf.raw_ops.FIFOQueueV2(component_types=[tf.int64], shared_name="gate")


def _wait_at_gate(n):
    """A run that lasts until somebody runs `open`, without using a processor."""
    (passed,) = tf.raw_ops.QueueDequeueV2(handle=_gate(), component_types=[tf.int64])
    return {"y": n + passed}


def _open_gate(n):
    """Lets one run through the gate."""
    done = tf.raw_ops.QueueEnqueueV2(handle=_gate(), components=[tf.constant(0, tf.int64)])
    with tf.control_dependencies([done]):
        return {"y": tf.identity(n)}


def _loop(n):
    """Counts up to the largest n: a run of a chosen length."""
    _, total = tf.while_loop(
        lambda i, _: i < tf.reduce_max(n),
        lambda i, total: (i + 1, total + tf.cast(i, tf.float32)),
        (tf.constant(0, tf.int64), tf.constant(0.0)),
    )
    return {"y": tf.fill(tf.shape(n), total)}


def _parse(inputs):
    return tf.io.parse_example(
        inputs,
        {
            "x": tf.io.FixedLenFeature([], tf.float32),
            "n": tf.io.FixedLenFeature([], tf.int64, default_value=0),
            "s": tf.io.FixedLenFeature([], tf.string, default_value=""),
        },
    )


def _scores(inputs):
    x = _parse(inputs)["x"]
    return tf.stack([x, 1.0 - x], axis=1)


def _labels(inputs):
    features = _parse(inputs)
    return tf.stack([features["s"], tf.strings.join(["not ", features["s"]])], axis=1)


def save(module: tf.Module, directory: Path) -> Path:
    """Save a module with its signatures as one version."""
    tf.saved_model.save(module, str(directory), signatures=module.signatures())
    return directory


def save_half_plus(base: Path, version: int, offset: float | None = None) -> Path:
    """One version of HalfPlus below `base`, put there by one rename; offset = version if None."""
    aside = base.parent / f"{base.name}-{version}-being-written"
    save(HalfPlus(float(version if offset is None else offset)), aside)
    base.mkdir(parents=True, exist_ok=True)
    return aside.rename(base / str(version))
