"""The rule that names the function to move, on trees of calls made by hand."""

from __future__ import annotations

from types import CodeType

import pytest

from flask_offload.profiler.attribution import Part, parts_of
from flask_offload.profiler.call_tree import CallNode, CallTree, Position, Spent
from flask_offload.profiler.stacks import Place, Stack, UserCall
from flask_offload.profiler.wording import callers_of

CODES: dict[str, CodeType] = {}


def code(name: str) -> CodeType:
    """A code object of this name, always the same."""
    if name not in CODES:
        module: dict[str, object] = {}
        exec(f"def {name}(): pass", module)
        CODES[name] = module[name].__code__  # type: ignore[attr-defined]
    return CODES[name]


class Tree:
    """A tree of calls in the making: `tree.call("view", tree.call("send", own=3))`."""

    def __init__(self) -> None:
        self.lines = 0

    def call(
        self, name: str, *inner: CallNode, own: float = 0.0, line: int | None = None
    ) -> CallNode:
        """A call with the time it spent itself, in seconds; each has a line of its own."""
        self.lines += 1
        at = Place(code("caller"), 0, line or self.lines, code("caller"))
        call = CallNode(code(name), {}, site=at)
        if own:
            call.own[Position(at, None)] = Spent(own)
        self._adopt(call, *inner)
        return call

    def request(self, *calls: CallNode, own: float = 0.0) -> CallNode:
        """The root."""
        root = CallNode(None, {})
        if own:
            root.own[Position(None, "redis.Redis.get")] = Spent(own)
        self._adopt(root, *calls)
        return root

    @staticmethod
    def _adopt(call: CallNode, *inner: CallNode) -> None:
        call.children.extend(inner)
        call.total = call.own_time()
        for each in inner:
            each.parent = call
            call.total.add(each.total)


def named(root: CallNode) -> list[tuple[str, float]]:
    """The names and seconds of all parts."""
    parts = parts_of(root, lambda call: call.code is code("view"), root.total.seconds)
    return [(name_of(part), round(part.spent.seconds, 3)) for part in parts]


def name_of(part: Part) -> str:
    return part.call.code.co_name if part.call.code else "(root)"


@pytest.fixture
def tree() -> Tree:
    return Tree()


def test_the_innermost_call_that_holds_most_is_named(tree: Tree) -> None:
    view = tree.call("view", tree.call("send", tree.call("connect", own=9), own=1), own=0.1)
    assert named(tree.request(view)) == [("connect", 9)]


def test_a_call_that_holds_less_does_not_stand_for_its_caller(tree: Tree) -> None:
    send = tree.call("send", tree.call("render", own=6), tree.call("connect", own=4))
    assert named(tree.request(tree.call("view", send))) == [("send", 10)]


def test_a_loop_names_the_function_that_has_it(tree: Tree) -> None:
    thumbs = [tree.call("thumb", own=0.4) for _ in range(25)]
    view = tree.call("view", tree.call("make_thumbnails", *thumbs))
    assert named(tree.request(view)) == [("make_thumbnails", 10)]


def test_a_loop_in_the_view_names_what_is_called(tree: Tree) -> None:
    mails = [tree.call("send", tree.call("connect", own=1), line=7) for _ in range(10)]
    root = tree.request(tree.call("view", *mails))
    parts = parts_of(root, lambda call: call.code is code("view"), 10.0)
    assert [(name_of(part), part.spent.seconds, part.is_loop) for part in parts] == [
        ("connect", 10, True)
    ]


def test_two_calls_from_two_lines_are_no_loop(tree: Tree) -> None:
    root = tree.request(tree.call("view", tree.call("send", own=1), tree.call("send", own=1)))
    (part,) = parts_of(root, lambda call: call.code is code("view"), 2.0)
    assert (part.spent.seconds, part.is_loop) == (2, False)


def test_the_view_is_taken_apart(tree: Tree) -> None:
    view = tree.call(
        "view", tree.call("load", own=4.4), tree.call("score", own=3.8), tree.call("log", own=0.1)
    )
    assert named(tree.request(view)) == [("load", 4.4), ("score", 3.8)]


def test_what_the_view_does_itself_is_a_part(tree: Tree) -> None:
    view = tree.call("view", tree.call("load", own=2), own=8)
    root = tree.request(view)
    first, _ = parts_of(root, lambda call: call.code is code("view"), 10.0)
    assert (first.call, first.is_own, first.spent.seconds) == (view, True, 8)


def test_decorators_and_middleware_around_the_view_are_taken_apart_too(tree: Tree) -> None:
    view = tree.call("view", tree.call("load", own=5), tree.call("score", own=4))
    wrapper = tree.call("login_required", view, tree.call("find_user", own=3))
    assert named(tree.request(wrapper)) == [("load", 5), ("score", 4), ("find_user", 3)]


def test_before_request_stands_beside_the_view(tree: Tree) -> None:
    root = tree.request(tree.call("load_user", own=6), tree.call("view", own=4))
    assert named(root) == [("load_user", 6), ("view", 4)]


def test_time_without_any_user_code_is_a_part_of_the_root(tree: Tree) -> None:
    assert named(tree.request(tree.call("view", own=1), own=9)) == [("(root)", 9), ("view", 1)]


def test_without_a_view_the_rule_goes_on_as_far_as_it_can(tree: Tree) -> None:
    other = tree.call("other", tree.call("load", own=9), own=1)
    assert named(tree.request(other)) == [("load", 9)]


def test_naming_does_not_change_the_tree(tree: Tree) -> None:
    root = tree.request(tree.call("view", tree.call("send", own=1), tree.call("send", own=1)))
    assert named(root) == named(root)


@pytest.mark.parametrize(
    ("cpu", "known", "waiting"), [(0.0, 1.0, True), (0.9, 1.0, False), (0.0, 0.0, None)]
)
def test_waiting_is_told_from_computing(cpu: float, known: float, waiting: bool | None) -> None:
    assert Part(CallNode(None, {}), Spent(1.0, cpu, known)).waiting is waiting


# --- from samples to a tree --------------------------------------------------------------------


def stack(*names: str, marks: dict[str, object]) -> Stack:
    """A stack of these functions; a new object in `marks` is a new call."""
    calls, at = [], None
    for name in names:
        mark = marks.setdefault(name, object())
        calls.append(UserCall(mark, code(name), {}, at, True, None, False, False))
        at = Place(code(name), 0, 1, code(name))
    return Stack(calls, at, None)


def test_the_same_call_stays_one_node_and_another_call_becomes_another() -> None:
    tree, marks = CallTree(), dict[str, object]()
    tree.add(stack("view", "send", marks=marks), Spent(1))
    tree.add(stack("view", "send", marks=marks), Spent(1))
    del marks["send"]
    tree.add(stack("view", "send", marks=marks), Spent(1))
    root = tree.complete(Spent(1), Spent())
    (view,) = root.children
    assert [child.total.seconds for child in view.children] == [2.5, 1.5]
    assert root.total.seconds == 4


def test_the_time_before_a_change_is_shared_and_before_the_first_sample_given_to_it() -> None:
    tree, marks = CallTree(), dict[str, object]()
    tree.add(stack("view", "load", marks=marks), Spent(4))
    tree.add(stack("view", "score", marks=marks), Spent(2))
    (view,) = tree.complete(Spent(3), Spent()).children
    assert [child.total.seconds for child in view.children] == [5, 4]


def test_the_time_for_which_a_function_held_the_interpreter_belongs_to_it() -> None:
    """No earlier sample was possible."""
    tree, marks = CallTree(), dict[str, object]()
    tree.add(stack("view", "load", marks=marks), Spent(1))
    tree.add(stack("view", "match", marks=marks), Spent(2), Spent(10))
    (view,) = tree.complete(Spent(), Spent()).children
    assert [child.total.seconds for child in view.children] == [2, 11]


def parts_after(tree: CallTree, unseen: float = 0.0) -> list[tuple[str, float, bool]]:
    root = tree.complete(Spent(), Spent(unseen))
    parts = parts_of(root, lambda call: call.code is code("view"), root.total.seconds)
    return [(name_of(part), part.spent.seconds, part.is_unseen) for part in parts]


def test_a_gap_between_two_functions_is_not_claimed_by_either() -> None:
    tree, marks = CallTree(), dict[str, object]()
    tree.add(stack("view", "load", marks=marks), Spent(2))
    tree.add(stack("view", "score", marks=marks), Spent(2), None, Spent(6))
    assert parts_after(tree) == [("load", 3, False), ("score", 1, False), ("(root)", 6, True)]


def test_a_call_that_ran_before_and_after_a_gap_ran_in_it_too() -> None:
    tree, marks = CallTree(), dict[str, object]()
    for _ in range(2):
        tree.add(stack("view", "load", "connect", marks=marks), Spent(1), None, Spent(4))
        del marks["connect"]
    # what came before the first sample is not known, what came between is that of `load`
    assert parts_after(tree) == [("load", 6, False), ("(root)", 4, True)]


def test_a_gap_after_the_last_sample_is_not_seen() -> None:
    tree = CallTree()
    tree.add(stack("view", "load", marks={}), Spent(2))
    assert parts_after(tree, unseen=1) == [("load", 2, False), ("(root)", 1, True)]


def test_a_shared_helper_is_one_part_that_says_who_called_it(tree: Tree) -> None:
    first = [tree.call("send", tree.call("connect", own=3)) for _ in range(2)]
    other = tree.call("sync", tree.call("post", tree.call("connect", own=4)))
    root = tree.request(tree.call("view", *first, other))
    (part,) = parts_of(root, lambda call: call.code is code("view"), 10.0)
    assert (name_of(part), part.spent.seconds) == ("connect", 10)
    assert callers_of(part) == [("send", 0.6), ("post", 0.4)]


def test_the_callers_that_differ_are_named(tree: Tree) -> None:
    """The same helper of a helper, by way of two functions of the view."""
    calls = [tree.call(name, tree.call("ask", tree.call("connect", own=5))) for name in "ab"]
    root = tree.request(tree.call("view", *calls))
    (part,) = parts_of(root, lambda call: call.code is code("view"), 10.0)
    assert callers_of(part) == [("a", 0.5), ("b", 0.5)]


@pytest.mark.parametrize(
    ("samples", "proven", "is_rough"), [(1, 0, True), (7, 0, True), (8, 0, False), (1, 9, False)]
)
def test_few_samples_make_a_rough_share(samples: int, proven: float, is_rough: bool) -> None:
    spent = Spent(10, samples=samples, proven=proven)
    assert Part(CallNode(None, {}), spent).is_rough is is_rough
