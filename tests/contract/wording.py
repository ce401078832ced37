"""What a message must look like, and which texts a module can write."""

import ast
import inspect
import re
from collections.abc import Iterable, Iterator
from types import ModuleType

QUOTED = ('storageclass.storage.k8s.io "fast" not found.', "denied:", "exit status 1; ", "quota exceeded: 1,")
"""What others write, with the ends that glue."""
_COUNTED = "argument|attempt|cache|file|header|holder|node|part|Pod|process|request|slot|time|token"
_GLUE = {
    r"[.!?:;,] ?[.;:,]": "two marks in a row",
    r"[.;:,]$": "it ends in the middle",
    r"[a-z)][.;:][A-Z]": "no space after the end of a sentence",
    r"\. [a-z]": "a sentence begins with a small letter",
    r"; Remedy|Remedy.*Remedy": "a second sentence in the middle of the first",
    r"Remedy: [^.]*; (retrying|looking)": "another sentence after the remedy",
    r"[({] *[)}]": "nothing between brackets",
    r"  |^ | $": "a space too many",
    r"\bNone\b|\{[a-z_]+\}": "a value that is missing",
    r"\b([A-Za-z]+) \1\b": "a word twice",
    r"back-off.*back-off:": "one thing twice",
    rf"(?<![\w.-])1 (?:[a-z]+ )?(?:{_COUNTED})e?s\b": "a plural of one",
    rf"(?<![\w.-])(?:0|[2-9]|[1-9]\d+) (?:{_COUNTED})\b(?! \w+s\b)": "a singular of several",
    r"(?:within|after|every|for) \d+(?:\.\d+)?(?![\d.]|m?s\b|m\b|h\b|m\d| [a-zA-Z])": "a number without its unit",
}
_ABBREVIATIONS = ("e.g. ", "i.e. ", "etc. ", "... ", "storage.k8s")


def glued(message: str) -> list[str]:
    """Return what is wrong with the form of a message; empty if it is whole."""
    message = re.sub(r"`[^`]*`|(?<= )'[^' ]*'", "x", message).replace("llama.cpp", "x")
    for text in _ABBREVIATIONS:
        message = message.replace(text, "x ")
    return [f"{why}: {message!r}" for pattern, why in _GLUE.items() if re.search(pattern, message)]


def public(module: ModuleType) -> set[str]:
    """Return the names of a module's functions that make a text."""
    functions = inspect.getmembers(module, inspect.isfunction)
    own = (name for name, one in functions if one.__module__ == module.__name__ and not name.startswith("_"))
    return {name for name in own if name != "nearly_equal"}


def not_rendered(
    modules: Iterable[ModuleType], rendered: Iterable[str], other: Iterable[str] = ()
) -> list[str]:
    """Return the texts of these modules that are in none of the rendered messages: strings of several words, as they are in the source.

    `other` begin those that no condition, Event or response shows.
    """
    everything, not_shown = "\n".join(rendered), tuple(other)
    return [
        f"{module.__name__.rpartition('.')[2]}: {source}"
        for module in modules
        for pattern, source in _texts(module)
        if not re.search(pattern, everything) and not source.startswith(not_shown or "\0")
    ]


def _texts(module: ModuleType) -> Iterator[tuple[str, str]]:
    """Yield a pattern of each text of a module, and its source without quotes; logged texts and docstrings are left out."""
    tree = ast.parse(inspect.getsource(module))
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and (isinstance(node.value, ast.Constant) or _is_logged(node.value)):
            skipped |= set(ast.walk(node))
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.JoinedStr):
            skipped |= {part for part in node.values if isinstance(part, ast.Constant)}
            pattern = "".join(
                re.escape(str(p.value)) if isinstance(p, ast.Constant) else ".*" for p in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            pattern = re.escape(node.value)
        else:
            continue
        if " " in pattern:
            yield pattern, ast.unparse(node).removeprefix("f")[1:-1]


def _is_logged(node: ast.expr) -> bool:
    """Return whether an expression writes to the log."""
    call = node.func if isinstance(node, ast.Call) else None
    return isinstance(call, ast.Attribute) and isinstance(call.value, ast.Name) and call.value.id == "log"
