"""YAML read strictly, and pydantic's findings told as one sentence."""

import difflib
import re
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, Discriminator, Tag, ValidationError
from pydantic.fields import FieldInfo

from usergrowth_dagster.errors import UserError

MAX_BYTES = 1 << 20
"""Bytes of the largest file that a person writes; all known ones are under a hundredth of it."""

MAX_DEPTH = 40
"""Groups inside groups that are read; a campaign has five."""

_WIDE_KEY = re.compile(r"^(?:[\s\-]*|.*[{,]\s*)[\w.]+(：)")
_WIDE_INDENT = re.compile(r"^ *(\u3000)")


class _RefusedError(yaml.MarkedYAMLError):
    """YAML that is valid and yet not taken; its problem is a whole clause."""


class _StrictLoader(yaml.SafeLoader):
    """The safe loader, refusing aliases, deep nesting, and a key twice in one mapping.

    Aliases of aliases make a few lines into millions of values, and no file here needs one.
    """

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]
            raise _RefusedError(
                problem=f"*{event.anchor} repeats a value by its name; write the value out",
                problem_mark=event.start_mark,
            )
        self.depth += 1
        if self.depth > MAX_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise _RefusedError(
                problem=f"nested more than {MAX_DEPTH} deep; is a bracket not closed?",
                problem_mark=mark,
            )
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                raise _RefusedError(
                    problem=f"the key {name!r} appears twice, first on line {seen[name]}; keep one",
                    problem_mark=key.start_mark,
                )
            seen[name] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)


def read_mapping(text: str, source: str) -> dict[str, Any]:
    """Parse a YAML text that must be one mapping with text keys.

    Args:
        text: the YAML.
        source: file name for the error sentence.

    Raises:
        UserError: bad syntax or a repeated key (with line and column), or not a mapping.
    """
    if len(text) > MAX_BYTES:
        raise UserError(
            f"{source}: {len(text):,} characters, and at most {MAX_BYTES:,} are read; is it the "
            "right file?",
            code="file.unreadable",
        )
    try:
        mapping = yaml.load(text, Loader=_StrictLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        wide = None if isinstance(error, _RefusedError) else _full_width(text)
        raise UserError(
            f"{source}{wide or f'{place}: {_rule(error)}'}", code="file.unreadable"
        ) from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2017-02-30
        raise UserError(
            f"{source}: not valid YAML: {' '.join(str(error).split())}", code="file.unreadable"
        ) from None
    if not isinstance(mapping, dict):
        if wide := _full_width(text):
            raise UserError(f"{source}{wide}", code="file.unreadable")
        raise UserError(
            f"{source}: expected keys with values, such as 'name: spring', at the top",
            code="file.unreadable",
        )
    return mapping


def _full_width(text: str) -> str | None:
    """Line, column and remedy of the first full-width mark where YAML needs a plain one."""
    for number, line in enumerate(text.splitlines(), 1):
        if match := _WIDE_KEY.match(line):
            return (
                f", line {number}, column {match.start(1) + 1}: the colon ： is full-width; write "
                "a plain ':' and a space"
            )
        if match := _WIDE_INDENT.match(line):
            return (
                f", line {number}, column {match.start(1) + 1}: the line begins with a full-width "
                "space; indent it with plain ones"
            )
    return None


def _rule(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "not valid YAML"
    if error.problem_mark is None or isinstance(error, _RefusedError):
        return problem
    return f"not valid YAML: {problem}"


_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_of(model: type[BaseModel], title: str) -> dict[str, Any]:
    """The schema (JSON Schema 2020-12) of a file that a model describes, for editors.

    Args:
        model: the whole file.
        title: what the file is.
    """
    return {"$schema": _DIALECT, **model.model_json_schema(by_alias=True), "title": title}


def read_text(path: Path) -> str:
    """A UTF-8 file's text.

    Raises:
        UserError: the file is missing, a folder, or not UTF-8.
    """
    try:
        with path.open("rb") as handle:
            content = handle.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise UserError(
                f"{path}: larger than {MAX_BYTES:,} bytes, more than any such file; is it the "
                "right one?",
                code="file.unreadable",
            )
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}: line {line}: not UTF-8 at byte {error.start}; save it as UTF-8",
            code="file.unreadable",
        ) from None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read: {error.strerror}", code="file.unreadable"
        ) from None


def explain(error: ValidationError, model: type[BaseModel], source: str) -> UserError:
    """The first problem of a validation as one sentence, and how many more there are.

    An unknown key comes first: a required one may be missing only because it is misspelled.
    """
    problems = sorted(
        _without_consequences(error), key=lambda problem: problem["type"] != "extra_forbidden"
    )
    first = problems[0]
    path = _without_tags(model, [str(part) for part in first["loc"]])
    if first["type"] in {"union_tag_invalid", "union_tag_not_found"}:
        path.append(str(first["ctx"]["discriminator"]).strip("'"))
    if first["type"] == "key_rule":
        path.append(str(first["ctx"]["key"]))
    place = [source, ".".join(path)] if path else [source]
    sentence = ": ".join([*place, _problem(first, model, path)])
    if len(problems) > 1:
        sentence += f" (and {len(problems) - 1} more)"
    unknown = first["type"] == "extra_forbidden"
    return UserError(sentence, code="campaign.unknown_key" if unknown else "campaign.invalid")


def _without_consequences(error: ValidationError) -> list[Mapping[str, Any]]:
    """The problems, without those of a list that pydantic finds too short for its bad items."""
    problems: list[Mapping[str, Any]] = [*error.errors()]
    places = [problem["loc"] for problem in problems]

    def has_bad_items(problem: Mapping[str, Any]) -> bool:
        place = problem["loc"]
        return any(one[: len(place)] == place != one for one in places)

    return [
        problem
        for problem in problems
        if not (problem["type"] == "too_short" and has_bad_items(problem))
    ]


def _problem(problem: Mapping[str, Any], model: type[BaseModel], path: list[str]) -> str:
    kind = problem["type"]
    if kind == "extra_forbidden" and "：" in path[-1]:
        return "the colon ： is full-width; write a plain ':' and a space"
    if kind == "extra_forbidden" and "\u3000" in path[-1]:
        return "the line begins with a full-width space; indent it with plain ones"
    if kind == "extra_forbidden":
        keys = _keys(model, [str(part) for part in problem["loc"]][:-1])
        close = difflib.get_close_matches(path[-1], keys, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known keys are {', '.join(keys)}"
        return f"unknown key; {hint}"
    if kind == "missing" or kind == "union_tag_not_found":
        return "required, but missing"
    if kind == "key_rule":
        return str(problem["ctx"]["rule"])
    if kind in {"value_error", "assertion_error"}:
        return str(problem["msg"]).removeprefix("Value error, ")
    if kind == "union_tag_invalid":
        expected = " or ".join(problem["ctx"]["expected_tags"].rsplit(", ", 1))
        return f"must be {expected}, not {problem['ctx']['tag']!r}"
    if kind == "enum" or kind == "literal_error":
        return f"must be {problem['ctx']['expected']}, not {_show(problem['input'])}"
    if kind == "model_type":
        return "must be a group of keys with values"
    text = str(problem["msg"]).removeprefix("Input ")
    return f"{text[:1].lower()}{text[1:]}, not {_show(problem['input'])}"


def _show(value: Any) -> str:
    """A short form of a wrong value; texts only by length, since they may be personal."""
    if isinstance(value, str) and len(value) > 40:
        return f"a text of {len(value)} characters"
    shown = repr(value)
    return shown if len(shown) <= 60 else f"a {type(value).__name__}"


def _keys(model: type[BaseModel], path: list[str]) -> list[str]:
    """The keys known at a path below a model; in a mapping or a list any key may stand."""
    *_, (_, at) = ("", model), *_walk(model, path)
    below = _model_of(at)
    return [field.alias or name for name, field in below.model_fields.items()] if below else []


def _without_tags(model: type[BaseModel], path: list[str]) -> list[str]:
    """A path below a model without the parts that name one form of several."""
    return [part for part, _ in _walk(model, path) if part]


def _walk(model: type[BaseModel], path: list[str]) -> Iterator[tuple[str, Any]]:
    """Each part of a path with the annotation of what it leads to; "" for the name of a form."""
    at: Any = model
    discriminator: str | Discriminator | None = None
    for part in path:
        below = _model_of(at)
        if discriminator is not None:
            at, discriminator = _tagged(at, discriminator, part), None
            yield "", at
        elif get_origin(_bare(at)) in (dict, list, tuple):
            at = get_args(_bare(at))[1 if get_origin(_bare(at)) is dict else 0]
            yield part, at
        elif below is not None:
            field = next(
                (one for name, one in below.model_fields.items() if part == (one.alias or name)),
                None,
            )
            at = field.annotation if field else None
            discriminator = _discriminator(field) if field else None
            yield part, at
        else:
            is_form = _is_union(_bare(at))
            at = None
            yield "" if is_form else part, at


def _discriminator(field: FieldInfo) -> str | Discriminator | None:
    """What chooses one form of several for a field: a key, or a function of the value."""
    of_value = (one for one in field.metadata if isinstance(one, Discriminator))
    return field.discriminator or next(of_value, None)


def _bare(annotation: Any) -> Any:
    """An annotation without what is said beside it, and without None."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    if _is_union(annotation):
        options = [option for option in get_args(annotation) if option is not type(None)]
        return _bare(options[0]) if len(options) == 1 else annotation
    return annotation


def _is_union(annotation: Any) -> bool:
    return isinstance(annotation, UnionType) or get_origin(annotation) is Union


def _tagged(annotation: Any, discriminator: str | Discriminator, tag: str) -> Any:
    """The form that a tag stands for, of several."""
    for option in get_args(annotation) or (annotation,):
        if isinstance(discriminator, Discriminator):
            if any(isinstance(one, Tag) and one.tag == tag for one in get_args(option)[1:]):
                return option
        elif tag in get_args(option.model_fields[discriminator].annotation):
            return option
    return None


def _model_of(annotation: Any) -> type[BaseModel] | None:
    bare = _bare(annotation)
    options = get_args(bare) if _is_union(bare) else (bare,)
    for option in options:
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None
