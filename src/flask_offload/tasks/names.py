"""Task names: the same in every process, however the app was started."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Callable
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
    if file is None:
        return False
    path = Path(file).resolve()
    installed = {
        Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "purelib", "platlib")
    }
    return not any(path.is_relative_to(folder) for folder in installed)
