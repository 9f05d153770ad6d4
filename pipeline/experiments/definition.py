"""The definition of a re-run table: one folder of YAML files under `configs/`.

`configs/<table>/table.yaml` holds what all rows share: title, caveats, seeds, and `base`, a run
configuration as `python -m pipeline train` takes it. Every other file there is a row, named by its
stem: its `run` section is merged over `base` (a key set to null under `model` is taken away), its
`published` numbers stand beside ours. Rows of a sweep have one run for each value of one key. A
table whose models are those of another, under another `base`, names it in `rows_of`.
"""

import copy
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pydantic

from pipeline.config import Metric, RunConfig, apply_override, parse_config
from pipeline.errors import PipelineError, nearest, unknown
from pipeline.yaml_files import read_mapping, validate

CONFIGS = Path(__file__).parent / "configs"
INTERPRET = "interpret"
FUNCTIONS = "sparse-interactions-functions"
FUNCTION_ROWS = ["polynomial fm", "polynomial network", "nonlinear fm", "nonlinear network"]
_TABLE = "table.yaml"


class _Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")


class Sweep(_Section):
    """The key that varies along a curve."""

    key: str
    values: list[Any] = pydantic.Field(min_length=2)


class Row(_Section):
    """One model of a table, or one curve of a sweep."""

    label: str | None = None
    run: dict[str, Any] = pydantic.Field(default_factory=dict)
    published: dict[str, float] = pydantic.Field(default_factory=dict)
    published_parameters: str = ""
    pretrain: str | None = pydantic.Field(None, description="row whose vectors the run begins with")
    pairs: bool = pydantic.Field(False, description="record the mean weight of each field pair")
    sweep: Sweep | None = None
    note: str = ""


class Table(_Section):
    """A table: what its rows share."""

    title: str
    published_in: str
    caveats: list[str] = pydantic.Field(default_factory=list)
    budget: str = pydantic.Field(description="what was searched, the same for every model")
    metrics: list[Metric] = pydantic.Field(min_length=1)
    select: Metric = pydantic.Field(description="validation metric that chooses")
    baseline: str | None = pydantic.Field(None, description="row whose difference is the yardstick")
    comparable: bool = pydantic.Field(True, description="false: only the order of the models is")
    rows: list[str] = pydantic.Field(min_length=1, description="in the order run and shown")
    rows_of: str | None = pydantic.Field(None, description="table whose files the rows are")
    seeds: list[int] = [2024, 2025, 2026]
    candidates: dict[str, dict[str, Any]] = pydantic.Field(
        default_factory=dict, description="settings that every row tries at the first seed"
    )
    read_test: bool = True
    base: dict[str, Any]


class Experiment:
    """A table with its rows.

    Args:
        folder: holds table.yaml and one file a row, or table.yaml alone that says whose rows.

    Raises:
        PipelineError: a file that does not parse or does not fit; the message names file and key.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.name
        self.table = validate(Table, read_mapping(folder / _TABLE), str(folder / _TABLE))
        self._rows = folder.parent / self.table.rows_of if self.table.rows_of else folder
        self._check_files()
        self.rows = {
            name: validate(Row, read_mapping(self.file(name)), str(self.file(name)))
            for name in self.table.rows
        }
        for name, row in self.rows.items():
            if row.pretrain:
                self._check_pretrain(name, row.pretrain)

    def _check_files(self) -> None:
        where, source = self.folder / _TABLE, self.table.rows_of
        if source:
            known, own = names(self.folder.parent), _row_files(self.folder)
            if source not in known:
                raise PipelineError(
                    f"{where}: rows_of: no table {source!r}{nearest(source, known)}"
                )
            if own:
                here = f"{min(own)}.yaml is here too"
                raise PipelineError(f"{where}: rows_of: {here}, not in {source!r}")
        odd = sorted(_row_files(self._rows) ^ set(self.table.rows))
        if odd:
            raise PipelineError(f"{where}: rows: {odd[0]!r} is not both here and a file")

    def _check_pretrain(self, name: str, source: str) -> None:
        if source not in self.rows:
            hint = nearest(source, self.rows)
            raise PipelineError(f"{self.file(name)}: pretrain: no row {source!r}{hint}")
        if self.rows[source].sweep:
            raise PipelineError(f"{self.file(name)}: pretrain: {source!r} is a curve, not one run")

    def row(self, name: str) -> Row:
        """A row by name; raises PipelineError with the nearest names."""
        if name not in self.rows:
            raise unknown(f"row of {self.name}", name, self.rows)
        return self.rows[name]

    def label(self, row: str) -> str:
        """The row's name as tables and plots show it."""
        return self.row(row).label or row

    @property
    def curves(self) -> list[str]:
        """The rows that are curves; in a table of curves the others are what curves begin with."""
        return [name for name, row in self.rows.items() if row.sweep]

    def file(self, row: str) -> Path:
        """The row's configuration file."""
        return self._rows / f"{row}.yaml"

    def link(self, row: str) -> str:
        """The row's configuration file, as the generated page points to it."""
        return f"configs/{self._rows.name}/{row}.yaml"

    def variants(self, row: str) -> list[str]:
        """The names under which a row is run: its sweep's values, or what it may choose among."""
        sweep = self.row(row).sweep
        if sweep:
            return [f"{sweep.key}={json.dumps(value)}" for value in sweep.values]
        return list(self.table.candidates) or [""]

    def tree(self, row: str, variant: str = "") -> dict[str, Any]:
        """The run configuration of a row as plain data, without name, seed and places."""
        tree = _merged(self.table.base, self.row(row).run)
        if self.row(row).sweep and variant:
            apply_override(tree, variant)
        elif variant:
            tree = _merged(tree, self.table.candidates[variant])
        arguments = tree.get("model", {})
        tree["model"] = {key: value for key, value in arguments.items() if value is not None}
        return tree

    def config(
        self, row: str, variant: str, seed: int, output: Path, prepared: Path | None = None
    ) -> RunConfig:
        """The run of one row, variant and seed, in the directory `output`."""
        tree = self.tree(row, variant)
        tree |= {"name": run_name(self.name, row), "seed": seed, "output": str(output)}
        if prepared:
            tree["data"] = {**tree.get("data", {}), "prepared": str(prepared)}
        return parse_config(tree, str(self.file(row)))

    def fingerprint(self, row: str, variant: str, seed: int, content_hash: str) -> str:
        """What a record stands for: setting, seed and data; a change of one makes it stale."""
        pretrain = self.row(row).pretrain
        parts = [self.tree(row, variant), seed, content_hash]
        if pretrain:
            parts += [self.tree(pretrain, tried) for tried in self.variants(pretrain)]
        text = json.dumps(parts, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def names(configs: Path = CONFIGS) -> list[str]:
    """All tables that can be re-run."""
    return sorted(path.parent.name for path in configs.glob(f"*/{_TABLE}"))


def load(name: str, configs: Path = CONFIGS) -> Experiment:
    """A table by name; raises PipelineError with the nearest names."""
    if name not in names(configs):
        raise unknown("table", name, [*names(configs), INTERPRET, FUNCTIONS])
    return Experiment(configs / name)


def selection(
    name: str, only: Sequence[str] | None = None, configs: Path = CONFIGS
) -> list[tuple[Experiment, list[str]]]:
    """The tables and rows that a name stands for.

    Args:
        name: a table; or what several begin with (`frappe-ctr` for `frappe-ctr-bars` and others);
            or `interpret`: the rows of all tables that record the weights of pairs.
        only: rows; all by default.

    Raises:
        PipelineError: an unknown table or row; the message gives the nearest names.
    """
    known = names(configs)
    chosen = [item for item in known if item == name or item.startswith(f"{name}-")]
    if name in known:
        chosen = [name]
    elif name == INTERPRET:
        chosen = known
    elif not chosen:
        raise unknown("table", name, [*known, INTERPRET, FUNCTIONS])
    found = []
    for item in chosen:
        experiment = load(item, configs)
        rows = [row for row in experiment.rows if name != INTERPRET or experiment.row(row).pairs]
        found.append((experiment, rows))
    if only:
        every = dict.fromkeys(row for _, rows in found for row in rows)
        for row in only:
            if row not in every:
                raise unknown(f"row of {name}", row, every)
        found = [(experiment, [row for row in rows if row in only]) for experiment, rows in found]
    return [(experiment, rows) for experiment, rows in found if rows]


def run_name(table: str, row: str) -> str:
    """A valid name of a run."""
    return f"{table}-{row}".replace("+", "-plus").replace("--", "-").strip("-")


def _row_files(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.yaml") if path.name != _TABLE}


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    found = copy.deepcopy(base)
    for key, value in over.items():
        inner = found.get(key)
        if isinstance(value, dict) and isinstance(inner, dict):
            found[key] = _merged(inner, value)
        else:
            found[key] = copy.deepcopy(value)
    return found
