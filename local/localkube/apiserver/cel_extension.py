"""The CEL engine: the compiled module of the `common-expression-language` wheel, without the package around it.

`import cel` would also load the package's interactive shell, with prompt_toolkit, pygments, rich and typer: 9 MiB that a server has no
use for.
"""

import importlib.util
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

_PACKAGE = "cel"


def _extension() -> ModuleType:
    package = importlib.util.find_spec(_PACKAGE)
    folders = package.submodule_search_locations if package else None
    spec = PathFinder.find_spec(_PACKAGE, folders or [])
    if spec is None or spec.loader is None:
        raise ImportError("the package common-expression-language is not installed", name=_PACKAGE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_CEL = _extension()


def compile_expression(text: str) -> Any:
    """Return the program of a CEL expression; its `execute(variables)` returns the value. Raises ValueError if it cannot be parsed."""
    return _CEL.compile(text)
