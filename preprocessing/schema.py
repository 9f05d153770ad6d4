"""The dataset specification: what a log looks like and what to make of it.

A spec is a YAML file (see README.md for every key with examples). `DatasetSpec.load` reads and
checks it; anything wrong is a `SpecError` of one line that names the file and the key and, for a
misspelt name, the nearest one that exists.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from preprocessing.spec_errors import near, one_line

SPLITS = ("train", "validation", "test")


class SpecError(ValueError):
    """A dataset spec that cannot be used; one line naming file and key."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Strict):
    """Where the rows are and how they are written."""

    format: Literal["csv", "tsv", "parquet", "libfm", "jsonl", "python"] = "csv"
    files: tuple[str, ...] = ()
    delimiter: str | None = None
    header: bool = True
    columns: tuple[str, ...] | None = None
    quote: str | None = None
    encoding: str = "utf-8"
    missing: tuple[str, ...] = ()
    module: str | None = None
    block_bytes: int = Field(default=32 << 20, ge=64)

    @model_validator(mode="after")
    def _complete(self) -> Source:
        if self.format == "python" and not self.module:
            raise ValueError("format 'python' needs 'module'")
        if self.format == "libfm" and not self.columns:
            raise ValueError("format 'libfm' needs 'columns': one name for each feature of a row")
        if self.format in ("csv", "tsv") and not self.header and not self.columns:
            raise ValueError("a file without header needs 'columns'")
        if self.columns and len(set(self.columns)) != len(self.columns):
            raise ValueError("'columns' names one column twice")
        if self.quote is not None and len(self.quote) > 1:
            raise ValueError("'quote' is one character, or '' for none")
        return self

    @property
    def separator(self) -> str:
        """The delimiter in force (a tab for TSV, a comma for CSV unless told)."""
        return self.delimiter or ("\t" if self.format == "tsv" else ",")

    @property
    def quote_character(self) -> str:
        """The quote in force: `"` for CSV, none for TSV, unless told."""
        return ('"' if self.format == "csv" else "") if self.quote is None else self.quote


class Positive(_Strict):
    """When a label column says 'click'; exactly one of the conditions."""

    above: float | None = None
    at_least: float | None = None
    values: tuple[str | int | float, ...] | None = None

    @model_validator(mode="after")
    def _one(self) -> Positive:
        if sum(v is not None for v in (self.above, self.at_least, self.values)) != 1:
            raise ValueError("give exactly one of above, at_least, values")
        return self


class Label(_Strict):
    """The label column and the rule that makes it 0 or 1."""

    column: str | None = None
    positive: Positive | None = None
    drop: tuple[str | int | float, ...] = ()
    constant: Literal[0, 1] | None = None

    @model_validator(mode="after")
    def _source(self) -> Label:
        if (self.column is None) == (self.constant is None):
            raise ValueError("give either 'column' or 'constant'")
        return self


class _FieldBase(_Strict):
    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.\-]*$")


class _Vocabulary(_FieldBase):
    """What fields looked up in the shared vocabulary have in common."""

    min_count: int | None = Field(default=None, ge=1)
    top_k: int | None = Field(default=None, ge=1)
    hash_buckets: int | None = Field(default=None, ge=2)

    @model_validator(mode="after")
    def _one_way(self) -> _Vocabulary:
        if self.hash_buckets and (self.min_count or self.top_k):
            raise ValueError("hash_buckets has no vocabulary: min_count and top_k do not apply")
        return self


class Categorical(_Vocabulary):
    """One text (or integer) value a row."""

    kind: Literal["categorical"]
    column: str | None = None
    missing: tuple[str, ...] = ()
    prefix: int | None = Field(default=None, ge=1)


class Multivalued(_Vocabulary):
    """Several values a row, in one text with separators."""

    kind: Literal["multivalued"]
    column: str | None = None
    missing: tuple[str, ...] = ()
    separator: str = Field(default="|", min_length=1)
    max_values: int = Field(default=8, ge=1)


class Time(_Vocabulary):
    """A part of a time stamp, as a category."""

    kind: Literal["time"]
    column: str
    part: Literal["hour", "weekday", "weekend", "day", "month", "year", "date"]
    format: str = "unix"
    utc_offset_hours: float = 0.0


class Numeric(_Vocabulary):
    """A number: one position whose value is the transformed number, or a category made of it."""

    kind: Literal["numeric"]
    column: str | None = None
    clip: tuple[float, float] | None = None
    transform: Literal["none", "log_squared", "log1p", "z_score", "min_max", "quantiles"] = "none"
    buckets: int = Field(default=10, ge=2)
    as_category: bool = False
    missing: Literal["token", "zero"] = "token"

    @model_validator(mode="after")
    def _coherent(self) -> Numeric:
        if self.clip and not self.clip[0] < self.clip[1]:
            raise ValueError(f"clip is [low, high] with low < high, got {list(self.clip)}")
        if self.as_category and self.transform in ("z_score", "min_max", "quantiles"):
            raise ValueError(f"as_category does not go with transform '{self.transform}'")
        if not self.as_category and (self.min_count or self.top_k or self.hash_buckets):
            raise ValueError("min_count, top_k and hash_buckets need as_category: true")
        return self


class Cross(_Vocabulary):
    """The values of two or more single-valued fields taken together as one category."""

    kind: Literal["cross"]
    of: tuple[str, ...] = Field(min_length=2)


AnyField = Annotated[
    Categorical | Multivalued | Time | Numeric | Cross, Field(discriminator="kind")
]


class _Shares(_Strict):
    train: float = Field(default=0.8, gt=0, le=1)
    validation: float = Field(default=0.1, ge=0, lt=1)
    test: float = Field(default=0.1, ge=0, lt=1)
    seed: int = 7

    @model_validator(mode="after")
    def _whole(self) -> _Shares:
        if abs(self.train + self.validation + self.test - 1) > 1e-9:
            raise ValueError("train + validation + test must be 1")
        return self

    @property
    def shares(self) -> tuple[float, float, float]:
        return (self.train, self.validation, self.test)


class HashSplit(_Shares):
    """By a seeded hash of the key columns, so that one user never straddles; no key: whole row."""

    kind: Literal["hash"]
    key: tuple[str, ...] = ()


class RatioSplit(_Shares):
    """At random, by a seeded hash of the row's place in its file."""

    kind: Literal["ratio"]


class OrderSplit(_Shares):
    """The first rows train; the rest in order too, or drawn at random."""

    kind: Literal["order"]
    rest: Literal["order", "random"] = "order"


class ColumnSplit(_Strict):
    """By a column: listed values, or the smallest value of each later part (time)."""

    kind: Literal["column"]
    column: str
    train: tuple[str | int | float, ...] | None = None
    validation: tuple[str | int | float, ...] | None = None
    test: tuple[str | int | float, ...] | None = None
    validation_from: str | int | float | None = None
    test_from: str | int | float | None = None

    @model_validator(mode="after")
    def _one_way(self) -> ColumnSplit:
        if (self.train is None) == (self.validation_from is None and self.test_from is None):
            raise ValueError(
                "give either train/validation/test values, or validation_from/test_from"
            )
        return self


class FilesSplit(_Strict):
    """Ready-made files for each split."""

    kind: Literal["files"]
    train: tuple[str, ...] = Field(min_length=1)
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()


AnySplit = Annotated[
    HashSplit | RatioSplit | OrderSplit | ColumnSplit | FilesSplit, Field(discriminator="kind")
]


class Negatives(_Strict):
    """Sampled negatives: `per_positive` rows with another value of `column` for every positive."""

    per_positive: int = Field(ge=1, le=1000)
    column: str
    key: tuple[str, ...] = Field(min_length=1)
    seed: int = 7


class Thresholds(_Strict):
    """When a comparison with a baseline counts as an anomaly (`inspect --baseline`)."""

    l_infinity: float = Field(default=0.1, gt=0)
    jensen_shannon: float = Field(default=0.1, gt=0)
    new_values: float = Field(default=0.1, gt=0)
    label_rate: float = Field(default=0.05, gt=0)


class DatasetSpec(_Strict):
    """A whole dataset: source, label, fields, split."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$")
    description: str = ""
    source: Source
    label: Label
    weight: str | None = None
    group: str | None = None
    fields: tuple[AnyField, ...] = Field(min_length=1)
    split: AnySplit = RatioSplit(kind="ratio")
    negatives: Negatives | None = None
    min_count: int = Field(default=1, ge=1)
    top_k: int | None = Field(default=None, ge=1)
    max_rejected: float = Field(default=0.01, ge=0, le=1)
    keep_raw: tuple[Literal["train", "validation", "test"], ...] = ("test",)
    thresholds: Thresholds = Thresholds()
    _path: Path | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _coherent(self) -> DatasetSpec:
        names = [f.name for f in self.fields]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"fields: two fields are named '{name}'")
        by_name = {f.name: f for f in self.fields}
        for f in self.fields:
            for part in f.of if isinstance(f, Cross) else ():
                if part not in by_name:
                    raise ValueError(
                        f"fields: cross '{f.name}': no field '{part}'{near(part, names)}"
                    )
                if isinstance(by_name[part], Cross | Multivalued) or is_number(by_name[part]):
                    raise ValueError(
                        f"fields: cross '{f.name}': '{part}' is not a single-valued category"
                    )
        self.columns()
        if not self.source.files and self.split.kind != "files" and self.source.format != "python":
            raise ValueError("source: 'files' is needed")
        return self

    def columns(self) -> dict[str, str]:
        """Source columns the fields read -> 'string' or 'float32', in first-use order."""
        kinds: dict[str, str] = {}
        users: dict[str, str] = {}
        for f in self.fields:
            if isinstance(f, Cross):
                continue
            column, kind = column_of(f), "float32" if isinstance(f, Numeric) else "string"
            if kinds.setdefault(column, kind) != kind:
                raise ValueError(
                    f"fields: column '{column}' is text in '{users[column]}' and a number in"
                    f" '{f.name}' (or the other way round): one column has one type"
                )
            users.setdefault(column, f.name)
        return kinds

    @property
    def path(self) -> Path | None:
        """The file this spec was loaded from, if any."""
        return self._path

    @classmethod
    def load(cls, path: str | Path) -> DatasetSpec:
        """Reads a YAML file. Raises SpecError (one line) or FileNotFoundError."""
        path = Path(path)
        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
            problem = getattr(error, "problem", None) or "not YAML"
            raise SpecError(f"{path}{where}: {problem}") from None
        except UnicodeDecodeError:
            raise SpecError(f"{path}: not UTF-8 text") from None
        spec = cls.parse(document, where=str(path))
        spec._path = path
        return spec

    @classmethod
    def parse(cls, document: Any, where: str = "spec") -> DatasetSpec:
        """Checks an already read document. Raises SpecError naming `where` and the key."""
        if not isinstance(document, dict):
            raise SpecError(f"{where}: expected a mapping with name, source, label, fields")
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise SpecError(f"{where}: {one_line(error, cls)}") from None

    def resolved(self) -> dict[str, Any]:
        """The spec with every default filled in, as plain JSON data."""
        return self.model_dump(mode="json")


def column_of(field: Any) -> str:
    """The source column of a field (its name unless told)."""
    return field.column or field.name


def is_number(field: Any) -> bool:
    """True if the field is one position whose value is a number (not a category made of one)."""
    return isinstance(field, Numeric) and not field.as_category and field.transform != "quantiles"
