"""What served rows should look like, as tensorflow-metadata's Schema in text form.

TensorFlow Data Validation and TFX read it. A feature is a served column; a missing value is the
empty text or NaN, so no value is required. Thresholds for drift come from the spec.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from preprocessing.layout import input_of, served_columns
from preprocessing.schema import DatasetSpec

_LONGEST_DOMAIN = 20


def schema_text(spec: DatasetSpec, stats: dict[str, Any]) -> str:
    """The schema of the served columns."""
    schema = schema_pb2.Schema()
    for name, (_, kind) in served_columns(spec).items():
        feature = schema.feature.add(name=name)
        feature.type = schema_pb2.BYTES if kind == "string" else schema_pb2.FLOAT
        feature.shape.SetInParent()
        feature.presence.min_fraction = 0.0
        drift = feature.drift_comparator
        if kind == "string":
            drift.infinity_norm.threshold = spec.thresholds.l_infinity
        else:
            drift.jensen_shannon_divergence.threshold = spec.thresholds.jensen_shannon
    by_name = {feature.name: feature for feature in schema.feature}
    for field, found in zip(spec.fields, stats["fields"], strict=True):
        if field.kind == "cross" or "train" not in found["splits"]:
            continue
        slack = spec.thresholds.new_values
        _describe(schema, by_name[input_of(field)], field, found, slack)
    return text_format.MessageToString(schema, as_utf8=True)


def _describe(
    schema: schema_pb2.Schema,
    feature: schema_pb2.Feature,
    field: Any,
    found: dict[str, Any],
    slack: float,
) -> None:
    """Ranges of numbers, and the values of small plain categories."""
    train = found["splits"]["train"]
    if field.kind == "numeric":
        if "min" in train:
            feature.float_domain.min = train["min"]
            feature.float_domain.max = train["max"]
        return
    plain = field.kind == "categorical" and not field.prefix and not field.hash_buckets
    whole = found["vocabulary"] and len(train["top"]) == train["distinct"] <= _LONGEST_DOMAIN
    if plain and whole and not feature.domain:
        domain = schema.string_domain.add(name=f"{field.name}_values")
        domain.value.extend(sorted(value["value"] for value in train["top"]))
        feature.domain = domain.name
        outside = train["infrequent_share"] + train["missing_share"]
        feature.distribution_constraints.min_domain_mass = max(0.0, 1.0 - outside - slack)
