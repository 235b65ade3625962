"""The lab's small parts: journal, processes, colours for code, texts, challenges."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from markupsafe import Markup, escape

from flask_offload_lab.building import after, prepare
from flask_offload_lab.challenges import Challenge, NoSuchPiece
from flask_offload_lab.errors import Exposed, PortTaken
from flask_offload_lab.journal import Journal, Reader
from flask_offload_lab.listen import listen
from flask_offload_lab.processes import descendants, is_running, kill_now
from flask_offload_lab.server import Show
from flask_offload_lab.site.challenges import CHALLENGES
from flask_offload_lab.site.highlight import highlight, lines, with_code
from flask_offload_lab.site.modes import BY_SLUG, LESSON_MINUTES, MODES
from flask_offload_lab.site.recall import QUESTIONS
from support import running, wait_until

# --- journal -----------------------------------------------------------------------------------


def test_reads_what_was_written_since(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.txt")
    journal.note("work-begin", "before")
    reader = Reader(journal)
    with journal.span("work", "Ada Lovelace"):
        [begin] = reader.new()
        assert (begin.kind, begin.subject, begin.pid) == ("work-begin", "Ada Lovelace", os.getpid())
    [end] = reader.new()
    assert end.kind == "work-end"
    assert begin.at <= end.at <= time.monotonic()
    assert reader.new() == []


def test_leaves_half_a_line_for_later(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.txt")
    reader = Reader(journal)
    assert reader.new() == []
    journal.path.write_text("1.5 7 work-begin ada\n2.5 7 work-")
    assert [note.subject for note in reader.new()] == ["ada"]
    with journal.path.open("a") as file:
        file.write("end ada\n")
    assert [note.kind for note in reader.new()] == ["work-end"]


def test_lines_of_many_processes_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "journal.txt"
    code = (
        "import sys; from pathlib import Path; from flask_offload_lab.journal import Journal\n"
        "for n in range(200): Journal(Path(sys.argv[1])).note('work-end', 'x' * 60 + str(n))"
    )
    reader = Reader(Journal(path))
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path)]) for _ in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    notes = reader.new()
    assert len(notes) == 600
    assert all(re.fullmatch(r"x{60}\d+", note.subject) for note in notes)


# --- processes ---------------------------------------------------------------------------------


def test_finds_and_kills_a_family() -> None:
    sleeper = f"{sys.executable} -c 'import time; time.sleep(60)'"
    with running(["sh", "-c", f"{sleeper} & {sleeper} & wait"]) as shell:
        wait_until(lambda: len(descendants(shell.pid)) == 2)
        children = descendants(shell.pid)
        assert all(child.parent == shell.pid for child in children)
        assert all("time.sleep(60)" in child.command for child in children)
        kill_now([child.pid for child in children])
        assert shell.wait() == 0
        assert descendants(shell.pid) == []
        kill_now([child.pid for child in children])  # gone already
        wait_until(lambda: not any(is_running(child.pid) for child in children))


# --- colours -----------------------------------------------------------------------------------

CODE = '''@app.get("/a<b>")
def view(self, n=1):
    """Two
    lines & more."""
    return f"{n}" if n else None  # why not <b>
'''


def text_of(markup: Markup) -> str:
    return Markup(re.sub(r"</?span[^>]*>", "", markup)).unescape()


def test_colours_lose_and_add_nothing() -> None:
    assert text_of(highlight(CODE)) == CODE
    assert [text_of(line) for line in lines(CODE)] == CODE.split("\n")


def test_colours_names_by_what_they_are() -> None:
    html = highlight(CODE)
    for kind, text in (
        ("deco", "@"),
        ("deco", "app"),
        ("str", '"/a<b>"'),
        ("def", "view"),
        ("kw", "return"),
        ("kw", "None"),
        ("num", "1"),
        ("com", "# why not <b>"),
    ):
        assert f'<span class="{kind}">{escape(text)}</span>' in html


def test_no_span_reaches_over_a_line() -> None:
    for line in lines(CODE):
        assert line.count("<span") == line.count("</span>")


@pytest.mark.parametrize("text", ["def (", "'''never closed", "  bad\n indent", "pip install <x>"])
def test_what_is_no_python_comes_back_plain(text: str) -> None:
    assert text_of(highlight(text)) == text


def test_code_in_a_sentence_is_marked_and_nothing_else_is() -> None:
    html = with_code("Say `a < b`, not <b>`b`</b>.")
    assert html == "Say <code>a &lt; b</code>, not &lt;b&gt;<code>b</code>&lt;/b&gt;."


# --- texts -------------------------------------------------------------------------------------


def test_there_are_nine_modes_and_a_way_of_eight_minutes() -> None:
    slugs = ["why", "see", "measure", "deep", "try", "spot", "fix", "build", "recall"]
    assert [mode.slug for mode in MODES] == slugs
    assert [mode.number for mode in MODES] == list(range(1, 10))
    assert LESSON_MINUTES == 8


def test_the_quiz_has_three_and_nine_questions() -> None:
    assert len(QUESTIONS) == 12
    for question in QUESTIONS:
        assert len(set(question.answers)) == 4
        assert 0 <= question.right < 4
        assert question.mode in BY_SLUG
        assert question.because
    assert {question.right for question in QUESTIONS} == {0, 1, 2, 3}


# --- challenges --------------------------------------------------------------------------------


@pytest.fixture
def commit() -> Challenge:
    return CHALLENGES["commit"]


def test_puts_the_given_pieces_together(commit: Challenge) -> None:
    program = commit.assemble(["commit", "enqueue", "insert"], {"enqueue": 1})
    places = [program.index(text) for text in ("    commit(db)", 'enqueue(row["id"])', "INSERT")]
    assert places == sorted(places)
    assert "enqueue(row)" not in program
    for challenge in CHALLENGES.values():
        compile(
            challenge.assemble([line.key for line in challenge.lines if line.moves], {}), "", "exec"
        )
        compile(challenge.prelude + challenge.model(), "", "exec")


@pytest.mark.parametrize(
    ("order", "choices"),
    [
        (["commit", "insert"], {}),
        (["commit", "insert", "enqueue", "enqueue"], {}),
        (["commit", "insert", "import os"], {}),
        (["route", "insert", "enqueue"], {}),
        ([["commit"], "insert", "enqueue"], {}),
        (["commit", "insert", "enqueue"], {"enqueue": 2}),
        (["commit", "insert", "enqueue"], {"enqueue": -1}),
        (["commit", "insert", "enqueue"], {"enqueue": "print(1)"}),
        (["commit", "insert", "enqueue"], {"enqueue": True}),
        (["commit", "insert", "enqueue"], {"commit": 1}),
    ],
)
def test_takes_nothing_that_was_not_given(
    commit: Challenge, order: list[object], choices: dict[str, object]
) -> None:
    with pytest.raises(NoSuchPiece):
        commit.assemble(order, choices)


# --- the project -------------------------------------------------------------------------------


def test_makes_a_project_and_writes_over_nothing(tmp_path: Path) -> None:
    folder = prepare(tmp_path / "deep" / "club")
    assert {path.name for path in folder.iterdir()} == {"app.py", "README.md"}
    (folder / "app.py").write_text("# mine\n")
    prepare(folder)
    assert (folder / "app.py").read_text() == "# mine\n"
    assert "@offload.every" in after(3)
    assert "@offload.every" not in after(2)


# --- where it listens --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "expose"),
    [("0.0.0.0", False), ("192.0.2.7", False), ("0.0.0.0", True), ("::", True), ("", True)],
)
def test_is_not_exposed_by_accident(host: str, expose: bool) -> None:
    with pytest.raises(Exposed, match="--expose"):
        Show(host, 0, expose=expose)


def test_is_not_exposed_together_with_the_readers_own_code(tmp_path: Path) -> None:
    with pytest.raises(Exposed):
        Show("192.0.2.7", 0, expose=True, project=tmp_path)
    with pytest.raises(Exposed):
        Show("192.0.2.7", 0, expose=True, guest="app")


def test_says_that_a_port_is_taken() -> None:
    with listen() as other:
        port = other.getsockname()[1]
        with pytest.raises(PortTaken, match=str(port)):
            Show(port=port)
