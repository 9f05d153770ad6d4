"""The direction of imports: pipeline may use every room, the rooms know nothing of each other."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("models", "pipeline", "preprocessing", "serving")

# What a room may never import: other rooms, and libraries that are another room's business.
FORBIDDEN = {
    "models": {"pipeline", "preprocessing", "serving", "apache_beam", "tensorflow_transform"},
    "preprocessing": {"pipeline", "models", "serving", "keras"},
    "serving": {"pipeline", "models", "preprocessing", "apache_beam", "tensorflow_transform"},
    "pipeline": set(),
}

# Models run on any Keras backend, so only the optimizers may touch TensorFlow, and the layer that
# takes another way on it. `tf.keras` is another Keras once tensorflow_transform is imported, so
# nobody uses it.
TENSORFLOW_IN_MODELS = ("models/optimizers/", "models/layers/dropout.py")


def sources(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imported(source: Path) -> set[str]:
    """Top-level names of every import in a file, those inside functions included."""
    names = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_one_way(room):
    found = sources(room)
    assert found, f"no source file in {room}"
    for source in found:
        wrong = imported(source) & FORBIDDEN[room]
        assert not wrong, f"{source.relative_to(ROOT)} imports {', '.join(sorted(wrong))}"


def test_models_use_keras_ops_only():
    for source in sources("models"):
        path = source.relative_to(ROOT).as_posix()
        if not path.startswith(TENSORFLOW_IN_MODELS):
            assert "tensorflow" not in imported(source), f"{path} imports tensorflow"


@pytest.mark.parametrize("room", ROOMS)
def test_nobody_uses_the_keras_inside_tensorflow(room):
    for source in sources(room):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            is_tf_keras = (
                isinstance(node, ast.Attribute)
                and node.attr == "keras"
                and isinstance(node.value, ast.Name)
                and node.value.id == "tf"
            )
            assert not is_tf_keras, f"{source.relative_to(ROOT)}:{node.lineno} uses tf.keras"


def test_the_rule_would_catch_a_wrong_import(tmp_path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "def f():\n    from preprocessing.schema import DatasetSpec\n    import keras\n"
    )
    assert imported(wrong) == {"preprocessing", "keras"}
