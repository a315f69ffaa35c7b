"""Strategies of hypothesis: values of any kind, and valid content with a few of its parts changed."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import yaml
from hypothesis import strategies as st

TEXTS = [
    *("", " ", "a\nb", "a\tb", "a\rb", "\0", "\x1b[31mred\x1b]0;title\x07", "\u202eabc", "\ud800", "\ufeff", "ü" * 130),
    *(
        "yes",
        "null",
        "~",
        "1_000",
        "0x1F",
        "1e400",
        "nan",
        "${name}",
        "${",
        "${oc.env:HOME}",
        "$",
        "{",
        "[1",
        "!!int x",
    ),
    *(
        "../..",
        "/",
        ".",
        "/dev/null",
        "/none/x",
        "~",
        "a" * 300,
        "x" * 3000,
        "a/" * 2500,
        "*",
        "&a",
        "<<",
        "%",
        "@",
        "`",
    ),
    *("cuda:99", "cpu", "mean", "same", "train", "preset:vat", "preset:none/x", "layers:0-9", "packed", "dev"),
]
NUMBERS: list[Any] = [
    *(0, 1, -1, 2, 3, 7, 255, 2**31, 2**63, 10**20, 10**30, -(10**30)),
    *(0.5, -0.5, 1.0, 1e-300, 1e300, float("inf"), float("-inf"), float("nan")),
]
CHARACTERS = st.characters(exclude_categories=[])
SCALARS = st.one_of(
    st.sampled_from(TEXTS), st.sampled_from(NUMBERS), st.none(), st.booleans(), st.text(CHARACTERS, max_size=8)
)
VALUES = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=3),
    st.dictionaries(st.text(max_size=6), SCALARS, max_size=3),
    st.lists(st.lists(SCALARS, max_size=2), max_size=2),
)
# Text that YAML and JSON read as very deep, very long, endless or self-containing values.
HEAVY = [
    *("[" * 3000 + "]" * 3000, "{a: " * 2000 + "}" * 2000, "9" * 5000, "0x" + "f" * 5000, "1" + "0" * 400, "&a [*a]"),
    *(
        "&a {b: *a}",
        "!!python/object:os.system x",
        "!!set {a, b}",
        "!!binary x",
        "!!timestamp x",
        "!!bool x",
        "!!int x",
    ),
    *(
        "2020-13-45",
        "190:20:30:40",
        "[" + ",".join(f"l{number}" for number in range(20_000)) + "]",
        "'" * 3,
        "? [a]: b",
    ),
    "[&a [x,x,x,x,x,x,x,x], &b [*a,*a,*a,*a,*a,*a,*a,*a], &c [*b,*b,*b,*b,*b,*b,*b,*b], &d [*c,*c,*c,*c,*c,*c,*c,*c],"
    "&e [*d,*d,*d,*d,*d,*d,*d,*d], &f [*e,*e,*e,*e,*e,*e,*e,*e], [*f,*f,*f,*f,*f,*f,*f,*f]]",
]


def paths(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The keys that lead to each value inside a value."""
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, below in items for path in [(*above, key), *paths(below, (*above, key))]]


@st.composite
def changed(draw: st.DrawFn, base: Any, values: st.SearchStrategy[Any] = VALUES) -> Any:
    """The value with one to three of its parts removed, replaced, renamed, added, or put into a list."""
    content = copy.deepcopy(base)
    for _ in range(draw(st.integers(1, 3))):
        found = paths(content)
        if not found:
            break
        *above, key = draw(st.sampled_from(found))
        holder = content
        for step in above:
            holder = holder[step]
        action = draw(st.sampled_from(["replace", "replace", "remove", "rename", "add", "wrap"]))
        if action == "replace":
            holder[key] = draw(values)
        elif action == "remove":
            del holder[key]
        elif action == "wrap":
            holder[key] = [holder[key]]
        elif isinstance(holder, list):
            holder.insert(key, draw(values))
        else:
            name = draw(st.one_of(st.sampled_from(TEXTS), st.just(f"{key}s"), st.text(max_size=5)))
            holder[name] = holder.pop(key) if action == "rename" else draw(values)
    return content


@st.composite
def garbled(draw: st.DrawFn, content: bytes) -> bytes:
    """The content with a part cut out, bytes put in, or its end cut off."""
    start = draw(st.integers(0, len(content)))
    end = min(len(content), start + draw(st.sampled_from([0, 0, 1, 2, 20, len(content)])))
    put = draw(
        st.one_of(st.binary(max_size=4), st.sampled_from(TEXTS).map(lambda text: text.encode("utf-8", "ignore")))
    )
    return content[:start] + put + content[end:]


@st.composite
def yaml_files(draw: st.DrawFn, base: Any) -> bytes:
    """A YAML file: changed content, a heavy value, or changed bytes."""
    how = draw(st.sampled_from(["content"] * 6 + ["heavy", "bytes"]))
    if how == "heavy":
        key = draw(st.sampled_from([path for path in paths(base) if len(path) == 1]))[0]
        rest = {name: value for name, value in base.items() if name != key}
        return f"{yaml.safe_dump(rest)}\n{key}: {draw(st.sampled_from(HEAVY))}\n".encode()
    content = yaml.safe_dump(base if how == "bytes" else draw(changed(base)), allow_unicode=True, sort_keys=False)
    encoded = content.encode("utf-8", "surrogatepass")
    return draw(garbled(encoded)) if how == "bytes" else encoded


@st.composite
def json_files(draw: st.DrawFn, base: Any) -> bytes:
    """A JSON file: changed content, a heavy value, or changed bytes."""
    how = draw(st.sampled_from(["content"] * 6 + ["heavy", "bytes"]))
    if how == "heavy" and isinstance(base, Mapping):
        key = draw(st.sampled_from(sorted(base)))
        rest = json.dumps({name: value for name, value in base.items() if name != key})
        return f'{rest[:-1]}, "{key}": {draw(st.sampled_from(HEAVY[:5]))}}}'.encode()
    content = json.dumps(base if how == "bytes" else draw(changed(base))).encode()
    return draw(garbled(content)) if how == "bytes" else content
