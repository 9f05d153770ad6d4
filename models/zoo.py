"""The registry: model name -> class, defaults and what a user wants to know of it."""

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from models.base import CTRModel
from models.features import Features


@dataclass(frozen=True)
class Entry:
    """One registered model.

    Args:
        name: as given to `--model` and in run configurations.
        cls: the class that builds it.
        paper: authors, venue and year.
        order: order of the interactions it models, in words.
        use: one line on when to use it.
        defaults: constructor arguments that make this variant out of the class.
    """

    name: str
    cls: type[CTRModel]
    paper: str
    order: str
    use: str
    defaults: dict[str, Any] = field(default_factory=dict)


_ENTRIES: dict[str, Entry] = {}


def register(
    name: str, *, paper: str, order: str, use: str, **defaults: Any
) -> Callable[[type[CTRModel]], type[CTRModel]]:
    """Class decorator that enters a model under `name`; stack it for variants with `defaults`.

    Raises:
        ValueError: the name is taken.
    """

    def enter(cls: type[CTRModel]) -> type[CTRModel]:
        if name in _ENTRIES:
            raise ValueError(f"model name {name!r} is taken by {_ENTRIES[name].cls.__name__}")
        _ENTRIES[name] = Entry(name, cls, paper, order, use, defaults)
        return cls

    return enter


def names() -> list[str]:
    """All registered names, sorted."""
    return sorted(_ENTRIES)


def entry(name: str) -> Entry:
    """The entry of a model.

    Raises:
        ValueError: unknown name; the message gives the nearest ones.
    """
    if name not in _ENTRIES:
        near = difflib.get_close_matches(name, _ENTRIES, n=3, cutoff=0.4)
        hint = f"; did you mean {', '.join(near)}?" if near else f"; one of {', '.join(names())}"
        raise ValueError(f"unknown model {name!r}{hint}")
    return _ENTRIES[name]


def build(name: str, features: Features | dict[str, Any], **arguments: Any) -> CTRModel:
    """A model of the given name with all its weights created.

    Args:
        name: registered name.
        features: layout of the instances.
        arguments: constructor arguments that override the entry's defaults.

    Raises:
        ValueError: unknown name or argument (the message lists those the model takes).
    """
    check_arguments(name, arguments)
    found = entry(name)
    model = found.cls(features, **{**found.defaults, **arguments})
    model.build()
    return model


def check_arguments(name: str, arguments: Iterable[str]) -> None:
    """Raises ValueError where the model is unknown or does not take one of the arguments."""
    accepted = constructor_arguments(entry(name).cls)
    for argument in arguments:
        if argument not in accepted:
            near = difflib.get_close_matches(argument, accepted, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(
                f"model {name!r} does not take {argument!r}{hint}; it takes {', '.join(accepted)}"
            )


def constructor_arguments(cls: type[CTRModel]) -> list[str]:
    """Names of a model's own arguments (beside `features`), then Keras's `name` and `dtype`."""
    code = cls.__init__.__code__
    own = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
    return [name for name in own if name != "features"] + ["name", "dtype"]
