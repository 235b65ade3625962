"""The user's functions on a thread's stack."""

from __future__ import annotations

import functools
import site
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from types import CodeType, CoroutineType, FrameType
from typing import Any, NamedTuple

from .activity import Activity, of_frame

MAX_CALLS = 200
"""Calls of user code that a stack keeps; a deeper recursion counts as its outermost calls."""

PACKAGE = str(Path(__file__).parents[1]) + "/"
ENQUEUE = "Flask-Offload's enqueue"
"""The value of `Stack.inside` for it."""
_ENQUEUES = {(PACKAGE + "tasks/task.py", "enqueue"), (PACKAGE + "extension.py", "enqueue_many")}
_FOLDED = {"<lambda>", "<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"}
_FRAMEWORK = {"flask", "werkzeug", "asgiref"}
_USER_SHELLS = ("<stdin>", "<ipython")


class Place(NamedTuple):
    """A position in user code: where an instruction of `code` stands, inside of `function`.

    `code` differs from `function` only in a lambda or a comprehension, which count as the lines
    of the function around them.
    """

    code: CodeType
    lasti: int
    line: int
    function: CodeType


class UserCall(NamedTuple):
    """A running call of a user's function.

    mark: the same object for as long as it is the same call. site: where the user's call around it
    stands; None for the outermost. is_direct: it is called from there, and not by a library in
    between. by: the Flask method that calls it, for the outermost. is_task: it is called through a
    task object. is_job: it is a job that the inline engine runs where it was enqueued.
    """

    mark: object
    code: CodeType
    module: dict[str, Any]
    site: Place | None
    is_direct: bool
    by: str | None
    is_task: bool
    is_job: bool


class Stack(NamedTuple):
    """The user's calls, outermost first, and what the innermost is doing.

    inside: the library function that it has called ("smtplib.SMTP.sendmail"), None for its own
    code and for functions written in C; without a user's call, the first function outside of Flask.
    activity: the kind of work that the library does.
    """

    calls: list[UserCall]
    at: Place | None
    inside: str | None
    activity: Activity | None = None


class UserCode:
    """Distinguishes user code from libraries, by file name.

    root: the app's own folder counts as the user's even when it is installed as a package.
    """

    def __init__(self, root: str | None = None) -> None:
        self._root = root.rstrip("/") + "/" if root else None
        self._known: dict[str, bool] = {}

    def __contains__(self, filename: str) -> bool:
        known = self._known.get(filename)
        if known is None:
            known = self._known[filename] = self._is_user(filename)
        return known

    def _is_user(self, filename: str) -> bool:
        if filename.startswith("<"):
            return filename.startswith(_USER_SHELLS)
        if self._root and self._root not in _library_folders() and filename.startswith(self._root):
            return True
        return not (
            filename.startswith((PACKAGE, *_library_folders()))
            or "/site-packages/" in filename
            or "/dist-packages/" in filename
        )


@functools.cache
def _library_folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    found = {paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    found.update(site.getsitepackages(), [site.getusersitepackages()])
    return tuple(folder.rstrip("/") + "/" for folder in found)


class _Mark:
    """The identity of one call. Stored on its frame, so that the frame need not be kept.

    It is callable because a debugger that starts later may use it as a trace function.
    """

    def __call__(self, *args: object) -> None:
        return None


def _mark(frame: FrameType) -> object:
    """An object that stays the same for as long as this is the same call.

    A frame kept alive would keep the call's locals alive: files would be closed late, and in
    another thread. So the mark is stored in `f_trace`; while a debugger uses that, the frame itself
    is the mark.
    """
    if frame.f_trace is None:
        frame.f_trace = _Mark()
    return frame.f_trace if isinstance(frame.f_trace, _Mark) else frame


def is_template(module: Mapping[str, Any]) -> bool:
    """Whether these are the globals of a compiled Jinja template."""
    return "__jinja_template__" in module


def _is_framework(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] in _FRAMEWORK


def callable_name(frame: FrameType) -> str:
    """The full name of the function that a frame runs: `smtplib.SMTP.sendmail`."""
    return f"{frame.f_globals.get('__name__', '?')}.{frame.f_code.co_qualname}"


def frames_within(
    top: FrameType, boundaries: tuple[CodeType, ...]
) -> tuple[list[FrameType], FrameType | None]:
    """The frames from `top` out to a call of a boundary, outermost first; and the next one."""
    frames: list[FrameType] = []
    frame: FrameType | None = top
    while frame is not None and not any(frame.f_code is code for code in boundaries):
        frames.append(frame)
        frame = frame.f_back
    frames.reverse()
    return frames, frame.f_back if frame is not None else None


def read_stack(frames: list[FrameType], user_code: UserCode) -> Stack:
    """Reduce frames (outermost first) to the user's calls."""
    calls: list[UserCall] = []
    at: Place | None = None
    inside: str | None = None
    activity: Activity | None = None
    direct, by, is_task, is_job = False, None, False, False
    for frame in frames:
        code = frame.f_code
        if code.co_filename in user_code or is_template(frame.f_globals):
            if at is not None and _is_part_of(code, at):
                at = Place(code, frame.f_lasti, frame.f_lineno, at.function)
            elif len(calls) >= MAX_CALLS:
                break
            else:
                calls.append(
                    UserCall(_mark(frame), code, frame.f_globals, at, direct, by, is_task, is_job)
                )
                at = Place(code, frame.f_lasti, frame.f_lineno, code)
                by = None
            direct, inside, is_task, is_job = True, None, False, False
            activity = None
        elif code.co_filename.startswith(PACKAGE):
            # a task object or a span between caller and function is skipped
            is_task = code.co_name == "__call__" and code.co_filename == PACKAGE + "tasks/task.py"
            is_job = is_job or code.co_filename == PACKAGE + "inline.py"
            if (code.co_filename, code.co_name) in _ENQUEUES:
                inside = ENQUEUE
        else:
            direct = False
            activity = of_frame(str(frame.f_globals.get("__name__", "")), code, activity)
            if not calls and frame.f_globals.get("__name__") == "flask.app":
                by = code.co_name
            if inside is None and (calls or not _is_framework(frame)):
                inside = callable_name(frame)
    return Stack(calls, at, inside, activity)


def _is_part_of(code: CodeType, at: Place) -> bool:
    """Whether it is a lambda or a comprehension that is in the function at this place."""
    return code.co_name in _FOLDED and (code in at.code.co_consts or code in at.function.co_consts)


def follow_async(
    frames: list[FrameType], thread: int, threads: Mapping[int, FrameType]
) -> tuple[list[FrameType], int | None]:
    """Follow an async view, which Flask runs in another thread, through asgiref.

    Returns the frames with those of the coroutine in place of the waiting thread's, and the thread
    that executes them, None while the coroutine waits.
    """
    bridge = getattr(sys.modules.get("asgiref.sync"), "AsyncToSync", None)
    if bridge is None:
        return frames, thread
    for index in range(len(frames) - 1, -1, -1):
        if frames[index].f_code is bridge.__call__.__code__:
            for value in list(frames[index].f_locals.values()):
                if isinstance(value, CoroutineType) and value.cr_frame is not None:
                    inner, thread_of_loop = _coroutine_frames(value, threads)
                    return frames[: index + 1] + inner, thread_of_loop
    return frames, thread


def _coroutine_frames(
    coroutine: CoroutineType[Any, Any, Any], threads: Mapping[int, FrameType]
) -> tuple[list[FrameType], int | None]:
    if coroutine.cr_running:
        for thread, top in threads.items():
            frames = _frames_down_to(coroutine.cr_frame, top)
            if frames:
                return frames, thread
    frames = []
    awaited: Any = coroutine
    while isinstance(awaited, CoroutineType) and awaited.cr_frame is not None:
        frames.append(awaited.cr_frame)
        awaited = awaited.cr_await
    return frames, None


def _frames_down_to(base: FrameType | None, top: FrameType) -> list[FrameType]:
    """The frames from `base` to `top`, outermost first; none if `top` is not within `base`."""
    frames: list[FrameType] = []
    frame: FrameType | None = top
    while frame is not None:
        frames.append(frame)
        if frame is base:
            return frames[::-1]
        frame = frame.f_back
    return []
