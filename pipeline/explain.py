"""An explanation in words and as a heat map: which fields and pairs made the logit."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import PipelineError
from pipeline.report import plot_interactions

_CONTRIBUTIONS = re.compile(r"order_(\d+)_contributions")


def describe(
    answer: Mapping[str, np.ndarray], fields: Sequence[str], values: Mapping[str, str], top: int
) -> dict[str, Any]:
    """The parts of one row's logit, strongest first.

    Args:
        answer: what the signature `explain` gave for one row.
        fields: names of the F fields in order.
        values: raw value by column, shown beside the field of that name.
        top: how many fields and pairs.
    """
    found: dict[str, Any] = {"logit": float(np.ravel(answer["logit"])[0])}
    for name in ("probability", "prediction", "bias"):
        if name in answer:
            found[name] = float(np.ravel(answer[name])[0])
    shown = [f"{name}={values[name]}" if values.get(name) else name for name in fields]
    if "first_order" in answer:
        parts = answer["first_order"][0]
        found["first_order"] = [
            {"field": shown[i], "contribution": float(parts[i])}
            for i in np.argsort(-np.abs(parts), kind="stable")[:top]
        ]
    for key in matrices(answer):
        matrix = answer[key][0]
        # (i, j) and (j, i) carry half of an unordered pair each; a directed one carries its own.
        both = matrix + matrix.T
        i, j = np.triu_indices(len(fields), 1)
        order = np.argsort(-np.abs(both[i, j]), kind="stable")[:top]
        found[key] = [
            {"pair": [shown[i[k]], shown[j[k]]], "contribution": float(both[i[k], j[k]])}
            for k in order
        ]
    return found


def matrices(answer: Mapping[str, np.ndarray]) -> list[str]:
    """Names of the (B, F, F) contributions in the answer, by order."""
    names = [name for name in answer if _CONTRIBUTIONS.fullmatch(name)]
    return sorted(names, key=lambda name: int(_CONTRIBUTIONS.fullmatch(name).group(1)))


def count_fields(answer: Mapping[str, np.ndarray]) -> int:
    """F, from whichever part of the answer has it."""
    for name in ("first_order", *matrices(answer)):
        if name in answer:
            return answer[name].shape[1]
    raise PipelineError("the model explains nothing but its logit")


def heat_maps(
    answer: Mapping[str, np.ndarray], fields: Sequence[str], directory: Path, row: int = 1
) -> list[Path]:
    """One PNG for each order's contributions."""
    return [
        plot_interactions(
            answer[key][0],
            fields,
            f"contributions to the logit, order {key.split('_')[1]}",
            directory / f"explain_row{row}_{key}.png",
        )
        for key in matrices(answer)
    ]
