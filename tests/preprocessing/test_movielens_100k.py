"""The MovieLens 100K preset: both published forms of the files give the same rows."""

from pathlib import Path

import pytest

from preprocessing import presets
from preprocessing.errors import SourceError
from preprocessing.presets import movielens_100k


def _flags(*on: int) -> str:
    return "|".join("1" if i in on else "0" for i in range(19))


@pytest.fixture
def forms(tmp_path: Path) -> tuple[Path, Path]:
    """The same three invented films and two users in both notations."""
    own, copy = tmp_path / "own", tmp_path / "copy"
    own.mkdir()
    copy.mkdir()
    (own / "u.data").write_text("7\t1\t5\t881250949\n8\t2\t1\t881250950\n7\t3\t3\t881250951\n")
    (own / "u.user").write_text("7|24|M|technician|85711\n8|53|F|other|T8H1N\n")
    films = [
        f"1|Été (Sommer) (1995)|01-Jan-1996||u|{_flags(3, 4, 5)}",
        f"2|unknown||||{_flags(0)}",
        f"3|Third Part (1995) (V)|01-Jan-1995||u|{_flags(15)}",
    ]
    (own / "u.item").write_bytes(("\n".join(films) + "\n").encode("latin-1"))
    head = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    (copy / "ml-100k.inter").write_text(head + (own / "u.data").read_text())
    (copy / "ml-100k.user").write_text(
        "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
        "7\t24\tM\ttechnician\t85711\n8\t53\tF\tother\tT8H1N\n"
    )
    (copy / "ml-100k.item").write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "1\tÉté (Sommer)\t1995\tAnimation Children's Comedy\n2\tunkonwn\tunkonwn\tunknown\n"
        "3\tThird Part (1995)\tV\tSci-Fi\n",
        encoding="utf-8",
    )
    return own, copy


def test_both_forms_give_the_same_rows(forms: tuple[Path, Path]) -> None:
    own, copy = forms
    (batch,) = movielens_100k.read(own)
    (other,) = movielens_100k.read(copy)
    assert batch.drop_columns(["title"]).equals(other.drop_columns(["title"]))
    assert batch.to_pylist()[0] == {
        "user_id": "7",
        "item_id": "1",
        "rating": "5",
        "timestamp": "881250949",
        "age": "24",
        "gender": "M",
        "occupation": "technician",
        "zip": "85711",
        "release_year": "1995",
        "genres": "Animation|Children's|Comedy",
        "title": "Été (Sommer)",
    }
    assert batch.column("release_year").to_pylist() == ["1995", "", "1995"]
    assert movielens_100k.content_hash(own) == movielens_100k.content_hash(copy)


def test_a_folder_without_either_form_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"neither u\.data nor ml-100k\.inter"):
        next(movielens_100k.read(tmp_path))


def test_preset_has_the_fields_of_the_demo() -> None:
    spec = presets.spec("movielens-100k")
    assert [f.name for f in spec.fields] == [
        "user",
        "item",
        "age",
        "gender",
        "occupation",
        "zip",
        "release_year",
        "genres",
        "hour",
        "weekday",
    ]
    assert spec.label.positive is not None
    assert spec.label.positive.above == 3


def test_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'movielens-100k'"):
        presets.spec("movielens-100")
