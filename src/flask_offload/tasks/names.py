"""Task names: the same in every process, however the app was started."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import FunctionType
from typing import Any

from ..errors import OptionError
from ..payload.main_module import main_module


def task_name(function: Callable[..., Any]) -> str:
    """`module.qualname`; for a function of `__main__`, the name by which it can be imported."""
    module = getattr(function, "__module__", None)
    qualname = getattr(function, "__qualname__", None)
    if not module or not qualname:
        raise OptionError(f"{function!r} has no name of its own: give it one with name=….")
    if "<lambda>" in qualname:
        raise OptionError("a lambda has no name that a worker could find: write a function.")
    return f"{main_module() if module == '__main__' else module}.{qualname}"


def find_declared(name: str) -> Callable[..., Any] | None:
    """A plain function of the app's own code whose task would have this name.

    Only in modules that the app has imported already, and never in the standard library or in an
    installed package, so that a forged row can't call anything but the app's own functions.
    """
    module_name, _, function_name = name.rpartition(".")
    module = sys.modules.get(module_name)
    function = getattr(module, function_name, None)
    if not isinstance(function, FunctionType) or function.__module__ != module_name:
        return None
    return function if _is_own_code(getattr(module, "__file__", None)) else None


def will_be_known(function: Callable[..., Any], *, has_options: bool) -> bool:
    """Whether workers will find a task that is declared while a request is handled.

    They do if the declaration runs during the import of its module, where the module does not have
    the function yet, and if `find_declared` finds the function; that one can't restore options.
    """
    name = getattr(function, "__qualname__", "")
    if "." in name:  # local to a function, or a method
        return False
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    if getattr(module, name, None) is not function:
        return True
    is_plain = isinstance(function, FunctionType) and not has_options
    return is_plain and _is_own_code(getattr(module, "__file__", None))


def _is_own_code(file: str | None) -> bool:
    """Whether a module's file is the app's, wherever packages are installed: `pip install
    --target`, the user's site and Debian's folder included. In an archive (zipapp, pex) the app and
    its packages can't be told apart, so nothing there counts as the app's."""
    if file is None:
        return False
    path = Path(file).resolve()
    if not path.is_file():
        return False
    library = (Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "platstdlib"))
    if any(path.is_relative_to(folder) for folder in library):
        return False
    return not any(_holds_packages(folder) for folder in path.parents)


@lru_cache(maxsize=1024)
def _holds_packages(folder: Path) -> bool:
    """Whether an installer has put packages into this folder."""
    is_named_so = folder.name in ("site-packages", "dist-packages")
    return is_named_so or next(folder.glob("*.dist-info"), None) is not None


def is_same_declaration(
    one: Callable[..., Any], other: Callable[..., Any], *, for_another_app: bool = True
) -> bool:
    """Whether both come from one declaration that has run twice, as when a factory makes a second
    app or a module is reloaded; not, say, from a decorator that wraps two functions alike.

    for_another_app: then objects in their closures may differ, as each app has its own.
    """
    if one is other:
        return True
    a, b = getattr(one, "__code__", None), getattr(other, "__code__", None)
    selves = getattr(one, "__self__", None), getattr(other, "__self__", None)
    if a is None or b is None or not _is_same_value(*selves, for_another_app):
        return False
    if a is not b and (a.co_filename, a.co_qualname) != (b.co_filename, b.co_qualname):
        return False
    pairs = zip(_bound(one), _bound(other), strict=False)
    return all(_is_same_value(*pair, for_another_app) for pair in pairs)


def _bound(function: Callable[..., Any]) -> list[Any]:
    """What makes two functions of the same code differ: their closures and their defaults."""
    cells = []
    for cell in getattr(function, "__closure__", None) or ():
        try:
            cells.append(cell.cell_contents)
        except ValueError:  # not assigned yet
            cells.append(None)
    defaults = getattr(function, "__defaults__", None) or ()
    keywords = getattr(function, "__kwdefaults__", None) or {}
    return [*cells, *defaults, *keywords.values()]


def _is_same_value(one: Any, other: Any, for_another_app: bool) -> bool:
    """Values of two runs of one declaration: equal if they are plain, of one type if they are
    objects of two apps, else the same object."""
    if isinstance(one, FunctionType) and isinstance(other, FunctionType):
        return is_same_declaration(one, other, for_another_app=for_another_app)
    if isinstance(one, str | bytes | int | float | tuple | frozenset | None):
        return type(one) is type(other) and bool(one == other)
    if not for_another_app:
        return one is other
    if isinstance(one, type) and isinstance(other, type):
        return _name_of_class(one) == _name_of_class(other)
    return _name_of_class(type(one)) == _name_of_class(type(other))


def _name_of_class(kind: type) -> tuple[str, str]:
    """What stays the same when a factory defines its class again."""
    return kind.__module__, kind.__qualname__
