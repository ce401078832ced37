"""Locals are nouns: participles that may not name a variable or a parameter of a function.

`words-bindings.txt` lists the participles, each with the nouns to choose from. A name is forbidden when its last word is on
the list: `held`, `last_seen`. Such a word is right as an adjective, and these say by rule what is one:

* a boolean: annotated so, with such a default or value, or named `is_...`, `has_...`;
* a condition, named as its type: `wanted = model.condition(conditions.WANTED)`;
* a callback, named as what has happened: `released: Callable[[Pod], None]`;
* `left` beside `right`.

Fields, of ours and of Kubernetes, are not looked at: they are read with what they belong to (`status.allocated`).
`python tests/contract/test_bindings.py` prints the violations.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("shared", "services", "local")

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
BOOLEAN_PREFIXES = {"is", "has", "was", "had", "any", "all", "may", "must"}
BOOLEAN_FUNCTIONS = {"all", "any", "bool", "isinstance"}


class Binding(NamedTuple):
    """A name that a function binds; `value` is what it is bound to, and `annotation` its type, where one is written."""

    name: str
    line: int
    value: ast.expr | None = None
    annotation: ast.expr | None = None


def participles() -> dict[str, str]:
    """Return participle -> nouns to choose from; lines that begin with `#` are headings."""
    lines = Path(__file__).with_name("words-bindings.txt").read_text().splitlines()
    split = [line.partition("#") for line in lines]
    return {word.strip(): nouns.strip() for word, _, nouns in split if word.strip()}


PARTICIPLES = participles()


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield the functions that are not part of another function."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
        else:
            yield from functions(child)


def bindings(function: ast.AST) -> Iterator[Binding]:
    """Yield what a function binds, those inside it included; classes inside it have fields."""
    for node in ast.walk(function):
        match node:
            case ast.FunctionDef(args=args) | ast.AsyncFunctionDef(args=args) | ast.Lambda(args=args):
                yield from parameters(args)
            case ast.Assign(targets=[*targets], value=value):
                for target in targets:
                    yield from assigned(target, value)
            case ast.AnnAssign(target=ast.Name(id=name), value=value, annotation=annotation):
                yield Binding(name, node.lineno, value, annotation)
            case ast.NamedExpr(target=ast.Name(id=name), value=value):
                yield Binding(name, node.lineno, value)
            case ast.For(target=target) | ast.AsyncFor(target=target) | ast.comprehension(target=target):
                yield from assigned(target, None)
            case ast.withitem(optional_vars=ast.expr() as target):
                yield from assigned(target, None)
            case (
                ast.MatchAs(name=str(name))
                | ast.MatchStar(name=str(name))
                | ast.ExceptHandler(name=str(name))
            ):
                yield Binding(name, node.lineno)
            case _:
                pass


def parameters(args: ast.arguments) -> Iterator[Binding]:
    """Yield the parameters of a function, each with its default as the value."""
    positional = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(positional) - len(args.defaults)) + args.defaults
    rest = [one for one in (args.vararg, args.kwarg) if one is not None]
    pairs = [*zip(positional, defaults, strict=True), *zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    for one, default in [*pairs, *((one, None) for one in rest)]:
        yield Binding(one.arg, one.lineno, default, one.annotation)


def assigned(target: ast.expr, value: ast.expr | None) -> Iterator[Binding]:
    """Yield the names of the target of an assignment, of a tuple each with its part of the value."""
    match target, value:
        case (ast.Name(id=name), _):
            yield Binding(name, target.lineno, value)
        case ((ast.Tuple(elts=targets) | ast.List(elts=targets)), ast.Tuple(elts=values)) if len(
            targets
        ) == len(values):
            for one, part in zip(targets, values, strict=True):
                yield from assigned(one, part)
        case ((ast.Tuple(elts=targets) | ast.List(elts=targets)), _):
            for one in targets:
                yield from assigned(one, None)
        case ast.Starred(value=inner), _:
            yield from assigned(inner, None)
        case _:
            pass


def is_boolean(value: ast.expr | None) -> bool:
    """Return whether an expression is true or false by its form."""
    match value:
        case ast.Constant(value=bool()) | ast.Compare() | ast.UnaryOp(op=ast.Not()):
            return True
        case ast.BoolOp(values=values):
            return any(map(is_boolean, values))
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name in BOOLEAN_FUNCTIONS or name.lstrip("_").split("_")[0] in BOOLEAN_PREFIXES
        case _:
            return False


def is_adjective(name: str, same: list[Binding], mentioned: set[str]) -> bool:
    """Return whether a participle is right as the name of these bindings, in a function that mentions some names."""
    types = [ast.unparse(one.annotation) for one in same if one.annotation is not None]
    return (
        name.strip("_").split("_")[0] in BOOLEAN_PREFIXES
        or any(is_boolean(one.value) for one in same)
        or any(kind.startswith(("bool", "Callable")) for kind in types)
        or name.upper() in mentioned
        or (name == "left" and "right" in mentioned)
    )


def names_in(function: ast.AST) -> set[str]:
    """Return all names that a function mentions: variables, attributes and parameters."""
    nodes = list(ast.walk(function))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    names |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    return names | {node.arg for node in nodes if isinstance(node, ast.arg)}


def violations(path: str, text: str) -> Iterator[str]:
    """Yield each binding of a module that is named by a participle, with the nouns to choose from."""
    for function in functions(ast.parse(text)):
        by_name: dict[str, list[Binding]] = {}
        for binding in bindings(function):
            if binding.name.strip("_").split("_")[-1] in PARTICIPLES:
                by_name.setdefault(binding.name, []).append(binding)
        mentioned = names_in(function) if by_name else set[str]()
        for name, same in by_name.items():
            if not is_adjective(name, same, mentioned):
                nouns = PARTICIPLES[name.strip("_").split("_")[-1]]
                yield f"{path}:{same[0].line}: {function.name}: {name!r}: {nouns}"


def in_product() -> list[str]:
    """Return the violations in all product code."""
    paths = [path for top in PRODUCT for path in sorted((ROOT / top).rglob("*.py"))]
    return [one for path in paths for one in violations(str(path.relative_to(ROOT)), path.read_text())]


def test_no_participle_names_a_variable_or_a_parameter() -> None:
    """Name the thing: the field's word for it, or that of the glossary."""
    wrong = in_product()
    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    "text",
    [
        "def f(held: list[str]) -> None: ...",
        "def f(*, last_seen: float = 0.0) -> None: ...",
        "def f(x):\n    held = x.devices",
        "def f(x):\n    a, held = x, x.devices",
        "def f(x):\n    first, (*held, last) = x",
        "def f(x):\n    return [held for held in x]",
        "def f(x):\n    with x as held: ...",
        "def f(x):\n    return lambda held: held",
        "def f(x):\n    if held := x.devices: ...",
        "def f(x):\n    match x:\n        case [*held]: ...",
        "class C:\n    def f(self):\n        for held in self.devices: ...",
        "def f(x):\n    wanted = x.models",
        "def f(x):\n    left = x.pending",
    ],
)
def test_a_planted_participle_is_reported(text: str) -> None:
    """However the name is bound."""
    assert len([*violations("planted.py", text)]) == 1


@pytest.mark.parametrize(
    "text",
    [
        "def f(held: bool) -> None: ...",
        "def f(*, held=False) -> None: ...",
        "def f(x):\n    held = x.uid in x.devices",
        "def f(x):\n    held = not x and x.y",
        "def f(x):\n    held = _is_held(x)",
        "def f(x):\n    is_held, has_ended = x",
        "def f(x):\n    wanted, ready = x.condition(conditions.WANTED), x.condition(conditions.READY)",
        "def f(released: Callable[[int], None]) -> None: ...",
        "def f(left: int, right: int) -> None: ...",
        "class C:\n    held: int = 0",
        "def f(x):\n    x.held = x.seen\n    g(held=x.kept)",
    ],
)
def test_an_adjective_or_a_field_is_none(text: str) -> None:
    """What only describes, by one of the rules."""
    assert [*violations("right.py", text)] == []


def test_the_list_is_in_order() -> None:
    """Each word once, by the alphabet, with nouns to choose from."""
    assert [*PARTICIPLES] == sorted(PARTICIPLES)
    assert [word for word, nouns in PARTICIPLES.items() if not nouns] == []


if __name__ == "__main__":
    wrong = in_product()
    sys.stdout.write("".join(f"{one}\n" for one in wrong))
    sys.exit(1 if wrong else 0)
