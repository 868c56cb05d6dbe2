"""Errors of a file that a person wrote, each with its line: YAML text to values and positions, and
what a schema finds wrong with the values to sentences with their place.

Pure: text in, values out. The schema is a pydantic model, known here only by its `model_fields`
and by the shape of its errors, so that nothing in the core depends on it.
"""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from spotrunner.core.catalogue import closest_name

Path = tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong. `key` is the dotted path; `hint` what to do, where that is clear."""

    message: str
    key: str = ""
    line: int | None = None
    hint: str = ""


class BadFile(Exception):
    """A file cannot be used; `problems` has everything that is wrong with it, by line."""

    def __init__(self, file: str, problems: Sequence[Problem]) -> None:
        self.file = file
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line or 0))
        super().__init__("\n".join(lines(file, self.problems)))


@dataclass(frozen=True, kw_only=True)
class Document:
    """A YAML mapping. `lines` has the line of each key and list item by its path, counted from 1;
    `words` the text of each scalar as it was written, so that 0.10 or 007 can be kept."""

    values: dict[str, Any]
    lines: Mapping[Path, int] = field(default_factory=dict)
    words: Mapping[Path, str] = field(default_factory=dict)

    def line_of(self, path: Path) -> int:
        """The line of `path`, or of the closest thing around it that the file has."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def path_of(self, key: str) -> Path:
        """The path of a dotted key, where keys may have dots themselves."""
        by_name = {dotted(path): path for path in self.lines}
        while key and key not in by_name:
            key = key.rpartition(".")[0]
        return by_name.get(key, ())


def lines(file: str, problems: Iterable[Problem]) -> list[str]:
    """`file:line: key: message (hint)`, one a problem."""
    return [
        ": ".join(part for part in (f"{file}:{it.line}" if it.line else file, it.key) if part)
        + f": {it.message}"
        + (f"; {it.hint}" if it.hint else "")
        for it in problems
    ]


def dotted(path: Path) -> str:
    return ".".join(str(step) for step in path)


# -- YAML --------------------------------------------------------------------------------------


def read(text: str, file: str) -> Document:
    """Raises BadFile when `text` is no YAML, no mapping, or has a key twice."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            found = "nothing" if node is None else _KINDS.get(type(node), "something else")
            message = f"expected `key: value` lines, found {found}"
            raise BadFile(file, [Problem(message=message, line=1)])
        places = _Places()
        places.walk(node, ())
        if places.twice:
            raise BadFile(file, places.twice)
        values = loader.construct_document(node)
    except yaml.YAMLError as error:
        raise BadFile(file, [_syntax(error)]) from None
    finally:
        loader.dispose()
    return Document(values=values, lines=places.lines, words=places.words)


class OddNumber(int):
    """What YAML 1.1 reads otherwise than people: 1:30 is 90, 010 is 8, 0x10 is 16."""

    def __new__(cls, value: int, text: str) -> OddNumber:
        number = super().__new__(cls, value)
        number.text = text
        return number

    text: str


class _Loader(yaml.SafeLoader):
    """PyYAML's, but that 2026-02-30, which looks like a day and is none, stays text, and that a
    number remembers how it was written where YAML reads another one than people."""

    def construct_yaml_timestamp(self, node: yaml.ScalarNode) -> Any:
        try:
            return super().construct_yaml_timestamp(node)
        except ValueError:
            return self.construct_scalar(node)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        value = int(super().construct_yaml_int(node))
        text = node.value.replace("_", "").lstrip("+-")
        return OddNumber(value, node.value) if text != str(abs(value)) else value


_Loader.add_constructor("tag:yaml.org,2002:timestamp", _Loader.construct_yaml_timestamp)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)

_KINDS = {yaml.SequenceNode: "a list", yaml.ScalarNode: "text"}


class _Places:
    """What the walk over the nodes gathers."""

    def __init__(self) -> None:
        self.lines: dict[Path, int] = {}
        self.words: dict[Path, str] = {}
        self.twice: list[Problem] = []

    def walk(self, node: yaml.Node, path: Path) -> None:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            self.words[path] = node.value
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self.walk(item, (*path, index))
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                self._entry(key, value, path)

    def _entry(self, key: yaml.Node, value: yaml.Node, path: Path) -> None:
        here = (*path, str(key.value))
        line = key.start_mark.line + 1
        if here in self.lines:
            message = f"the key is there twice (first in line {self.lines[here]})"
            self.twice.append(Problem(message=message, key=dotted(here), line=line))
            return
        self.lines[here] = line
        self.walk(value, here)


def _syntax(error: yaml.YAMLError) -> Problem:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or str(error)
    line = mark.line + 1 if mark else None
    hint = "YAML indents with spaces" if r"'\t'" in what else ""
    return Problem(message=f"not valid YAML: {what}", line=line, hint=hint)


# -- a schema's errors -------------------------------------------------------------------------


def located(
    errors: Iterable[Mapping[str, Any]], document: Document, model: type[Any]
) -> list[Problem]:
    """Sentences for what `ValidationError.errors()` of the pydantic class `model` lists."""
    return [_located(error, document, model) for error in errors if not _echo(error)]


def _echo(error: Mapping[str, Any]) -> bool:
    """A list whose items were refused counts as short: its items have been named already."""
    if error["type"] != "too_short":
        return False
    found = error.get("input")
    return isinstance(found, (list, tuple)) and len(found) >= error["ctx"]["min_length"]


def _located(error: Mapping[str, Any], document: Document, model: type[Any]) -> Problem:
    path: Path = tuple(error["loc"])
    if error["type"] == "extra_forbidden":
        return Problem(
            message="unknown key",
            key=dotted(path),
            line=document.line_of(path),
            hint=_keys_hint(str(path[-1]), _names(model, path[:-1])),
        )
    if error["type"] == "missing":
        return Problem(message="missing", key=dotted(path), line=document.line_of(path))
    # Below a union pydantic's path goes on with the branch it tried: the file ends before that.
    while path and path not in document.lines:
        path = path[:-1]
    return Problem(
        message=_sentence(error),
        key=dotted(path),
        line=document.line_of(path),
        hint="put it in quotes" if _unquoted(error) else "",
    )


def _unquoted(error: Mapping[str, Any]) -> bool:
    """YAML reads 12, 1.5, yes and 2026-11-01 as something else than text."""
    found = error.get("input")
    return error["type"] == "string_type" and not isinstance(found, (dict, list, tuple, type(None)))


def _keys_hint(word: str, names: Sequence[str]) -> str:
    likely = closest_name(word, names)
    if likely is not None:
        return f"did you mean {likely}?"
    return f"known keys here: {', '.join(names)}" if names else ""


_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a number",
    "decimal_type": "a number",
    "decimal_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "`key: value` lines",
    "model_type": "`key: value` lines",
    "model_attributes_type": "`key: value` lines",
    "path_type": "a path",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
    "enum": "{expected}",
    "literal_error": "{expected}",
    "string_too_short": "some text",
    "too_short": "at least {min_length}",
    "too_long": "at most {max_length}",
}


def _sentence(error: Mapping[str, Any]) -> str:
    context = error.get("ctx") or {}
    if error["type"] == "value_error":
        return str(context.get("error", error["msg"]))
    expected = _EXPECTED.get(error["type"])
    if expected is None:
        return str(error["msg"])
    found = error.get("input")
    what = "nothing" if found is None else _shown(found)
    return f"expected {expected.format(**context)}, found {what}"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "`key: value` lines"
    if isinstance(value, (list, tuple)):
        return "a list" if value else "an empty list"
    return repr(value)


# -- the schema's names ------------------------------------------------------------------------


def _names(model: Any, path: Path) -> list[str]:
    """The keys that the mapping at `path` of a file of `model` may have."""
    for step in path:
        fields = getattr(model, "model_fields", None)
        if fields is not None:
            named = next((it for name, it in fields.items() if step in (name, it.alias)), None)
            model = _model_in(named.annotation) if named else None
    fields = getattr(model, "model_fields", {})
    return [it.alias or name for name, it in fields.items()]


def _model_in(annotation: Any) -> Any:
    """The first schema inside an annotation like `tuple[X, ...]`, `dict[str, X]`, `X | None`."""
    if hasattr(annotation, "model_fields"):
        return annotation
    found = (_model_in(part) for part in typing.get_args(annotation))
    return next((part for part in found if part is not None), None)
