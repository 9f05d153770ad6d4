"""The spec: every mistake is one line that names the file and the key."""

from pathlib import Path
from typing import Any

import pytest

from preprocessing.schema import DatasetSpec, SpecError

MINIMAL: dict[str, Any] = {
    "name": "a",
    "source": {"files": ["x.csv"]},
    "label": {"column": "y"},
    "fields": [{"name": "u", "kind": "categorical"}],
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"feilds": 1}, "feilds: unknown key 'feilds'; did you mean 'fields'?"),
        ({"source": {"fils": ["x"]}}, "source.fils: unknown key 'fils'; did you mean 'files'?"),
        (
            {"fields": [{"name": "u", "kind": "categorcal"}]},
            "fields[0].kind: unknown kind 'categorcal'; did you mean 'categorical'?",
        ),
        ({"fields": [{"name": "u"}]}, "fields[0]: 'kind' is needed"),
        (
            {"fields": [{"name": "u", "kind": "numeric", "clipp": 1}]},
            "fields[0].clipp: unknown key 'clipp'; did you mean 'clip'?",
        ),
        ({"fields": [{"name": "u", "kind": "numeric", "clip": [3, 1]}]}, "low < high"),
        ({"fields": MINIMAL["fields"] * 2}, "two fields are named 'u'"),
        (
            {"fields": [*MINIMAL["fields"], {"name": "c", "kind": "cross", "of": ["u", "v"]}]},
            "cross 'c': no field 'v'",
        ),
        (
            {"fields": [*MINIMAL["fields"], {"name": "n", "column": "u", "kind": "numeric"}]},
            "column 'u' is text in 'u' and a number in 'n'",
        ),
        ({"split": {"kind": "hash", "train": 0.5}}, "train + validation + test must be 1"),
        ({"split": {"kind": "hash", "kye": ["u"]}}, "split.kye: unknown key 'kye'; did you mean"),
        ({"label": {}}, "label: give either 'column' or 'constant'"),
        ({"max_rejected": 3}, "max_rejected: Input should be less than or equal to 1, got 3"),
        ({"source": {"format": "libfm", "files": ["x"]}}, "format 'libfm' needs 'columns'"),
    ],
)
def test_mistakes_are_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        DatasetSpec.parse({**MINIMAL, **change}, "ads.yaml")
    text = str(caught.value)
    assert text.startswith("ads.yaml: ")
    assert message in text
    assert "\n" not in text


def test_broken_yaml_names_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("name: a\nsource: {format: csv\nlabel: 3\n")
    with pytest.raises(SpecError, match=r"spec\.yaml:3:\d+: "):
        DatasetSpec.load(path)


def test_resolved_spec_loads_to_itself() -> None:
    spec = DatasetSpec.parse(MINIMAL)
    assert DatasetSpec.parse(spec.resolved()) == spec
