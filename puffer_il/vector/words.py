"""The words that an environment's text consists of, so that a state from anybody puts no others into it."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
WORD = re.compile(r"[\w-]+")  # no path, no address
LONGEST = 200  # characters of a text


class Words:
    """What environments with these `texts` and `classes` say: words of the texts, and of the code of the classes."""

    def __init__(self, texts: Iterable[str], classes: Iterable[type]) -> None:
        self._texts, self._classes = texts, classes

    def are(self, text: str) -> bool:
        """Whether a text consists of known words and of numbers."""
        return len(text) <= LONGEST and all(
            NUMBER.fullmatch(word) or (WORD.fullmatch(word) and word.rstrip("0123456789") in self._known)
            for word in _split(text))

    @cached_property
    def _known(self) -> set[str]:
        modules = {cls.__module__: sys.modules.get(cls.__module__) for cls in self._classes}
        owners = [*self._classes, *filter(None, modules.values())]
        constants = (value for owner in owners for value in vars(owner).values())
        texts = [*self._texts, *(text for value in constants for text in _texts_of(value))]
        return {word.rstrip("0123456789") for text in texts for word in _split(text)}


def _split(text: str) -> list[str]:
    return [word.strip(".!?") if not NUMBER.fullmatch(word) else word for word in re.split(r"[\s,]+", text) if word]


def _texts_of(value: Any, depth: int = 3) -> Iterator[str]:
    """Of a constant, a function or a container, in a few levels."""
    if type(value) is str:
        yield value
    elif depth and isinstance(value, list | tuple | set | frozenset | dict):
        for part in [*value, *(value.values() if isinstance(value, dict) else ())]:
            yield from _texts_of(part, depth - 1)
    elif isinstance(value, types.CodeType):
        yield from _texts_of(value.co_consts, 2)
    elif depth and isinstance(value, types.FunctionType):
        yield from _texts_of(value.__code__)
    elif depth and isinstance(value, property | staticmethod | classmethod):
        yield from _texts_of(getattr(value, "fget", None) or getattr(value, "__func__", None))
