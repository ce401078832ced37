"""One vocabulary: phrases and names that may not come back.

`words.txt` lists phrases of prose, `words-identifiers.txt` names of code; both say what to write instead. The terms
are defined in docs/reference/glossary.md. `python tests/contract/test_words.py PATH...` prints the violations below
some paths, without arguments those below SCOPE.

Prose is: all of a text file except `inline code`; in Python the string literals (docstrings among them) and the
comments. Names are checked only where they are defined, so the use of a name of another library is no violation.
"""

import ast
import fnmatch
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent

SCOPE = (
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile", "Tiltfile", ".ci/run", "pyproject.toml"),
    *("shared", "services", "local", "crds", "deploy", "docs", "examples"),
)
"""What is held to both lists."""
PROSE_SCOPE = ("tests", "benchmarks")
"""What is held to the list of phrases; the names of tests are their own."""
LISTS = {"words.txt", "words-identifiers.txt", "words-bindings.txt", Path(__file__).name}

SKIPPED_FOLDERS = {"__pycache__", "wheels"}
SKIPPED_SUFFIXES = {".pyc", ".sum", ".mod", ".gguf"}
INLINE_CODE = re.compile(r"`[^`\n]+`")


class Entry(NamedTuple):
    """A line of a list."""

    pattern: str
    instead: str


class Violation(NamedTuple):
    """Where a phrase or a name stands that may not."""

    path: str
    line: int
    what: str
    instead: str
    is_name: bool = False

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what!r}: {self.instead}"


def entries(name: str) -> list[Entry]:
    """Read a list; lines that begin with `#` are headings."""
    split = [line.partition("#") for line in (HERE / name).read_text().splitlines()]
    return [Entry(before.strip(), after.strip()) for before, _, after in split if before.strip()]


def phrase(text: str) -> str:
    """Return the regular expression of a phrase: its words with any white space between, no `!word` behind."""
    words = [word for word in text.removesuffix("*").split() if not word.startswith("!")]
    unless = [rf"(?!\s+{re.escape(word[1:])}\b)" for word in text.split() if word.startswith("!")]
    return r"\s+".join(map(re.escape, words)) + (r"\w*" if text.endswith("*") else "") + "".join(unless)


PHRASES = entries("words.txt")
NAMES = entries("words-identifiers.txt")
ANY_PHRASE = re.compile(
    rf"(?<![\w-])(?:{'|'.join(f'({phrase(e.pattern)})' for e in PHRASES)})(?![\w-])", re.IGNORECASE
)
ANY_NAME = re.compile("|".join(f"({fnmatch.translate(e.pattern)})" for e in NAMES))


def in_prose(path: str, text: str, line: int = 1) -> Iterator[Violation]:
    """Yield the phrases of a text that begins at a line."""
    prose = INLINE_CODE.sub(lambda code: "`" + " " * (len(code[0]) - 2) + "`", text)
    for match in ANY_PHRASE.finditer(prose):
        found_at = line + prose.count("\n", 0, match.start())
        yield Violation(
            path, found_at, " ".join(match[0].split()), PHRASES[(match.lastindex or 1) - 1].instead
        )


def in_python(path: str, text: str) -> Iterator[Violation]:
    """Yield the phrases of string literals and comments, and the names that a module defines."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from in_prose(path, node.value, node.lineno)
        for name in defined(node):
            match = ANY_NAME.match(name.lstrip("_"))
            if match:
                instead = NAMES[(match.lastindex or 1) - 1].instead
                yield Violation(path, getattr(node, "lineno", 1), name, instead, is_name=True)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield from in_prose(path, token.string, token.start[0])


def defined(node: ast.AST) -> list[str]:
    """Return the names that a node binds."""
    match node:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return [name]
        case (
            ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store())
        ):
            return [name]
        case ast.alias(asname=str(name)) | ast.MatchAs(name=str(name)):
            return [name]
        case _:
            return []


def in_file(path: Path) -> Iterator[Violation]:
    """Yield what is wrong in one file, by its kind."""
    try:
        text = path.read_text()
    except UnicodeDecodeError:
        return
    name = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
    read = in_python if path.suffix == ".py" else in_prose
    yield from sorted(set(read(name, text)))


def files(scope: tuple[str, ...]) -> Iterator[Path]:
    """Yield the files of a scope; a part that does not exist has none."""
    for part in scope:
        top = ROOT / part
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and path.suffix not in SKIPPED_SUFFIXES and not SKIPPED_FOLDERS & {*path.parts}:
                yield path


def violations(scope: tuple[str, ...]) -> list[Violation]:
    """Return everything that is wrong below some paths."""
    return [violation for path in files(scope) for violation in in_file(path)]


def test_no_forbidden_phrase_or_name_stands_in_the_project() -> None:
    """Write the term behind it; where a phrase is right after all, change words.txt."""
    wrong = violations(SCOPE)
    assert not wrong, "\n" + "\n".join(map(str, wrong))


def test_no_forbidden_phrase_stands_in_the_tests() -> None:
    """Docstrings, comments and texts of tests and benchmarks; the lists themselves aside."""
    paths = [path for path in files(PROSE_SCOPE) if path.name not in LISTS]
    wrong = [violation for path in paths for violation in in_file(path) if not violation.is_name]
    assert not wrong, "\n" + "\n".join(map(str, wrong))


def test_the_scope_exists() -> None:
    """A page that was renamed must not drop out of the scope unseen."""
    assert [part for part in (*SCOPE, *PROSE_SCOPE) if not (ROOT / part).exists()] == []


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ('"""Ask the door."""', ["door"]),
        ("x = f'{n}: cannot\\nbe had'  # tried ANEW", ["anew", "cannot be had"]),
        ("def nobody() -> None: ...", []),
        ("name = 'Fleet of the theme, indoor, head'", ["fleet"]),
        ("'see `door` and he-man'", []),
    ],
)
def test_a_planted_phrase_is_found(text: str, phrases: list[str]) -> None:
    """Whole words of literals and comments, whatever their case; no names, no code."""
    assert sorted(v.what.lower() for v in in_python("planted.py", text)) == phrases


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("class Desk: ...", ["Desk"]),
        ("def _fold(fleet: int) -> None:\n    told = fleet", ["_fold", "fleet", "told"]),
        ("import fleet\nprint(fleet.told)", []),
    ],
)
def test_a_planted_name_is_found(text: str, names: list[str]) -> None:
    """Where it is defined, not where it is used."""
    assert [v.what for v in in_python("planted.py", text)] == names


def main() -> int:
    """Print what is wrong below the paths of the command line."""
    wrong = violations(tuple(sys.argv[1:]) or SCOPE)
    sys.stdout.write("".join(f"{violation}\n" for violation in wrong))
    sys.stderr.write(f"{len(wrong)} violations\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
