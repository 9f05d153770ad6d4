"""Reading a prepared dataset, and preparing inputs that nobody prepared for."""

from collections import Counter
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import tensorflow_transform.beam as tft_beam

from preprocessing import analysis, arrow_fields, features
from preprocessing.errors import PrepareError
from preprocessing.finish import tensors_of
from preprocessing.job import prepare, tensor_adapter
from preprocessing.prepared import PreparedDataset
from preprocessing.schema import DatasetSpec

from .conftest import spec_of


def test_shuffled_epochs_hold_every_row_once_in_another_order(prepared: PreparedDataset) -> None:
    arrays = prepared.arrays("train")
    data = prepared.dataset("train", 100, shuffle=True, seed=3)
    epochs = [np.concatenate([x["ids"].numpy() for x, _ in data]) for _ in range(2)]
    assert not (epochs[0] == epochs[1]).all()
    wanted = np.sort([row.tobytes() for row in arrays["ids"]])
    for epoch in epochs:
        assert (np.sort([row.tobytes() for row in epoch]) == wanted).all()


@pytest.mark.parametrize("shuffle", [False, True])
def test_no_row_comes_again_before_all_have_come(prepared: PreparedDataset, shuffle: bool) -> None:
    everything = Counter(row.tobytes() for row in prepared.arrays("train")["ids"])
    rows = prepared.rows("train") // 50 * 50
    # Windows that end elsewhere than the rows do.
    data = prepared.dataset("train", 50, shuffle=shuffle, buffer_rows=rows * 2 // 3, rows=rows)
    found = Counter(row.tobytes() for x, _ in data for row in x["ids"].numpy())
    assert found.total() == rows
    assert found <= everything


@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_have_the_promised_shapes_and_types(
    prepared: PreparedDataset, shuffle: bool
) -> None:
    positions = prepared.manifest["num_positions"]
    data = prepared.dataset("train", 64, shuffle=shuffle, drop_remainder=True)
    inputs, label = data.element_spec
    assert inputs["ids"] == tf.TensorSpec((64, positions), tf.int64)
    assert inputs["values"] == tf.TensorSpec((64, positions), tf.float32)
    assert label == tf.TensorSpec((64,), tf.float32)
    assert len(list(data)) == prepared.rows("train") // 64


def test_manifest_describes_the_ids(prepared: PreparedDataset) -> None:
    manifest, ids = prepared.manifest, prepared.arrays("train")["ids"]
    assert ids.max() < manifest["num_features"]
    vocabulary = prepared.vocabulary()
    owner = dict(zip(vocabulary["id"].to_pylist(), vocabulary["field"].to_pylist(), strict=True))
    for index, field in enumerate(prepared.fields):
        assert field["special_id"] == index
        mine = ids[:, field["start"] : field["stop"]]
        start, stop = field["fixed_ids"]
        for i in np.unique(mine):
            assert i in (0, index) or start <= i < stop or owner[i] == index
    counts = vocabulary["count"].to_pylist()
    assert counts == sorted(counts, reverse=True)


def test_unknown_values_get_the_special_ids(prepared: PreparedDataset) -> None:
    raw = prepared.raw("test").slice(0, 2).drop(["label"])
    columns = tensors_of(raw)
    columns["user"] = np.array([b"never seen", b""], object)
    ids = prepared.transform()(columns)["ids"].numpy()
    assert ids[0, 0] == 0
    assert prepared.tokens()[ids[0, 0]] == "user"


def test_the_graph_travels_inside_another_saved_model(
    prepared: PreparedDataset, tmp_path: Path
) -> None:
    module = tf.Module()
    module.transform = prepared.transform()
    names = [(c["name"], getattr(tf, c["dtype"])) for c in prepared.manifest["columns"]]
    signature = {name: tf.TensorSpec([None], dtype, name) for name, dtype in names}
    serve = tf.function(lambda **raw: module.transform(raw))
    module.serve = serve
    concrete = serve.get_concrete_function(**signature)
    tf.saved_model.save(module, str(tmp_path / "model"), {"serving_default": concrete})
    (tmp_path / "model").rename(tmp_path / "moved")
    loaded = tf.saved_model.load(str(tmp_path / "moved")).signatures["serving_default"]
    raw = tensors_of(prepared.raw("test").drop(["label"]))
    got = loaded(**{name: tf.constant(raw[name], dtype) for name, dtype in names})
    np.testing.assert_array_equal(got["ids"].numpy(), prepared.arrays("test")["ids"])


def test_a_missing_raw_column_is_named(prepared: PreparedDataset) -> None:
    with pytest.raises(ValueError, match="raw column 'user' is missing"):
        prepared.transform()({"price": np.zeros(1, np.float32)})


def test_asking_for_what_is_not_there(prepared: PreparedDataset, tmp_path: Path) -> None:
    with pytest.raises(PrepareError, match="no split 'dev'; one of train, validation, test"):
        prepared.rows("dev")
    with pytest.raises(FileNotFoundError, match="no prepared dataset here"):
        PreparedDataset.load(tmp_path)


def test_tft_counts_the_same_from_tensors_as_the_job_from_arrow(
    prepared: PreparedDataset, tmp_path: Path
) -> None:
    spec = spec_of()
    raw = tensors_of(prepared.raw("train").drop(["label"]))
    adapter = tensor_adapter(spec)
    lists = [pa.array([[v] for v in raw[f.name]], f.type) for f in adapter.arrow_schema]
    batch = pa.RecordBatch.from_arrays(lists, schema=adapter.arrow_schema)
    halves = [batch.slice(0, 700), batch.slice(700)]
    preprocess = features.preprocessing_fn(spec, analysis.Analyzers(spec, tmp_path))
    with tft_beam.Context(temp_dir=str(tmp_path / "scratch")), beam.Pipeline() as pipeline:
        data = (pipeline | beam.Create(halves), adapter)
        transform, _ = data | tft_beam.AnalyzeDataset(preprocess)
        _ = transform | beam.Map(lambda _: None)
    for name in ("vocabulary.txt", "constants.json"):
        assert (tmp_path / name).read_text() == (prepared.path / name).read_text()


def test_a_windows_tsv_with_missing_values(tmp_path: Path) -> None:
    lines = ["label\tad\tbid"] + [f"{i % 2}\t{'' if i % 3 else 'x'}\t{i or ''}" for i in range(60)]
    (tmp_path / "log.tsv").write_bytes(("\r\n".join(lines) + "\r\n").encode())
    spec = DatasetSpec.parse(
        {
            "name": "win",
            "source": {"format": "tsv", "files": ["*.tsv"]},
            "label": {"column": "label"},
            "fields": [{"name": "ad", "kind": "categorical"}, {"name": "bid", "kind": "numeric"}],
        }
    )
    found = prepare(spec, tmp_path / "out", tmp_path)
    assert found.manifest["counters"]["rows_out"] == 60
    assert {"ad=", "ad=x"} <= set(found.tokens())


def test_a_parquet_file_with_integer_ids_and_nulls(tmp_path: Path) -> None:
    table = pa.table(
        {
            "shown": pa.array([True, False] * 40),
            "User Id": pa.array([None if i % 5 == 0 else i % 7 for i in range(80)], pa.int64()),
            "price": pa.array([None if i % 4 == 0 else i / 2 for i in range(80)]),
        }
    )
    pq.write_table(table, tmp_path / "log.parquet")
    spec = DatasetSpec.parse(
        {
            "name": "ints",
            "source": {"format": "parquet", "files": ["log.parquet"]},
            "label": {"column": "shown"},
            "fields": [
                {"name": "user", "column": "User Id", "kind": "categorical"},
                {"name": "price", "kind": "numeric", "transform": "z_score"},
            ],
        }
    )
    found = prepare(spec, tmp_path / "out", tmp_path)
    assert [c["name"] for c in found.manifest["columns"]] == ["User_Id", "price"]
    assert {"user=", "user=3", "price="} <= set(found.tokens())
    got = found.transform()({"User_Id": ["3", ""], "price": [np.nan, 1.0]})
    assert [found.tokens()[i] for i in got["ids"].numpy().ravel()] == [
        "user=3",
        "price=",
        "user=",
        "price",
    ]


def test_rows_without_any_value_have_one_missing_token() -> None:
    batch = pa.RecordBatch.from_pydict({"genres": ["a|b|c", "", "|-|", "-|d"]})
    field = next(f for f in spec_of().fields if f.name == "genres")
    texts, row, place = arrow_fields.values_of(field, batch)
    assert texts.to_pylist() == ["a", "b", "", "", "d"]
    assert row.tolist() == [0, 0, 1, 2, 3]
    assert place.tolist() == [0, 1, 0, 0, 0]
