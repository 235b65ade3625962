"""The lab's small parts: journal, processes, colours for code, texts, challenges."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from markupsafe import Markup

from flask_offload_lab import site
from flask_offload_lab.challenges import Challenge, NoSuchPiece
from flask_offload_lab.errors import Exposed, PortTaken
from flask_offload_lab.journal import Journal, JournalReader
from flask_offload_lab.processes import descendants, is_running, kill_now
from flask_offload_lab.project import SOLVED, prepare
from flask_offload_lab.server import LabServer
from flask_offload_lab.site.code import highlight, with_code
from flask_offload_lab.site.content import CHALLENGES
from flask_offload_lab.site.modes import BY_SLUG, LESSON_MINUTES, MODES
from flask_offload_lab.site.recall import QUESTIONS
from flask_offload_lab.webserver import listen
from support import running, wait_until

# --- journal -----------------------------------------------------------------------------------


def test_reads_what_was_written_since(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.txt")
    journal.note("work-begin", "before")
    reader = JournalReader(journal)
    with journal.span("work", "Ada Lovelace"):
        [begin] = reader.notes
        assert (begin.kind, begin.subject, begin.pid) == ("work-begin", "Ada Lovelace", os.getpid())
    [_, end] = reader.notes
    assert end.kind == "work-end"
    assert begin.at <= end.at <= time.monotonic()
    assert reader.notes == [begin, end]


def test_leaves_half_a_line_for_later(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.txt")
    reader = JournalReader(journal)
    assert reader.notes == []
    journal.path.write_text("1.5 7 work-begin ada\n2.5 7 work-")
    assert [note.subject for note in reader.notes] == ["ada"]
    with journal.path.open("a") as file:
        file.write("end ada\n")
    assert [note.kind for note in reader.notes] == ["work-begin", "work-end"]


@pytest.mark.processes
def test_lines_of_many_processes_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "journal.txt"
    code = (
        "import sys; from pathlib import Path; from flask_offload_lab.journal import Journal\n"
        "for n in range(200): Journal(Path(sys.argv[1])).note('work-end', 'x' * 60 + str(n))"
    )
    reader = JournalReader(Journal(path))
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path)]) for _ in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    notes = reader.notes
    assert len(notes) == 600
    assert all(re.fullmatch(r"x{60}\d+", note.subject) for note in notes)


# --- processes ---------------------------------------------------------------------------------


@pytest.mark.processes
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

SITE = Path(site.__file__).parent
PLAIN = {"n", "p", "o", "w"}
"""Names, punctuation, operators, white space."""

CODE = '''@app.get("/a<b>")
def view(self):
    """Two
    lines & more."""
    return f"{self}"  # why not <b>
'''


@pytest.mark.parametrize("code", [CODE, CODE.strip(), "def (", "    return 1", "pip install <x>"])
def test_colours_add_and_remove_no_text(code: str) -> None:
    lines = highlight(code).split("\n")
    assert [Markup(re.sub(r"</?span[^>]*>", "", line)).unescape() for line in lines] == code.split(
        "\n"
    )
    assert all(line.count("<span") == line.count("</span>") for line in lines)


def test_every_colour_is_in_the_style_sheet() -> None:
    style = (SITE / "static" / "lab.css").read_text()
    for kind in re.findall(r'<span class="(\w+)">', highlight(CODE)):
        assert kind in PLAIN or re.search(rf"code [^{{]*\.{kind}\b[^{{]*{{", style), kind


def test_code_in_a_sentence_is_marked_and_nothing_else_is() -> None:
    html = with_code("Say `a < b`, not <b>`b`</b>.")
    assert html == "Say <code>a &lt; b</code>, not &lt;b&gt;<code>b</code>&lt;/b&gt;."


# --- texts -------------------------------------------------------------------------------------


def test_there_are_ten_modes_and_a_way_of_eight_minutes() -> None:
    slugs = ["why", "see", "measure", "deep", "queue", "try", "spot", "fix", "build", "recall"]
    assert [mode.slug for mode in MODES] == slugs
    assert [mode.number for mode in MODES] == list(range(1, 11))
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


def test_makes_a_project_and_overwrites_nothing(tmp_path: Path) -> None:
    folder = prepare(tmp_path / "deep" / "project")
    assert {path.name for path in folder.iterdir()} == {"app.py", "README.md"}
    (folder / "app.py").write_text("# mine\n")
    prepare(folder)
    assert (folder / "app.py").read_text() == "# mine\n"
    assert "@offload.every" in SOLVED.read_text()
    assert "offload" not in (SOLVED.parent / "start.py").read_text()


# --- where it listens --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "expose"),
    [("0.0.0.0", False), ("192.0.2.7", False), ("0.0.0.0", True), ("::", True), ("", True)],
)
def test_is_not_exposed_by_accident(host: str, expose: bool) -> None:
    with pytest.raises(Exposed, match="--expose"):
        LabServer(host, 0, expose=expose)


def test_is_not_exposed_together_with_the_readers_own_code(tmp_path: Path) -> None:
    with pytest.raises(Exposed):
        LabServer("192.0.2.7", 0, expose=True, project=tmp_path)
    with pytest.raises(Exposed):
        LabServer("192.0.2.7", 0, expose=True, user_app="app")


def test_says_that_a_port_is_taken() -> None:
    with listen() as other:
        port = other.getsockname()[1]
        with pytest.raises(PortTaken, match=str(port)):
            LabServer(port=port)
