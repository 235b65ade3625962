from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flask_offload.cli.terminal import bar, did_you_mean, table
from flask_offload.textui import ago, duration, fit, plain, width_of

# --- text --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mail.send_welcome", "mail.send_welcome"),
        ("Grüße 你好", "Grüße 你好"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("two\nlines\r\ttab", r"two\nlines\r\ttab"),
        ("alert\a, C1 \x9b2J", r"alert\x07, C1 \x9b2J"),
        ("\u202etxt.exe", r"\u202etxt.exe"),
        ("zero\u200bwidth", r"zero\u200bwidth"),
        ("\u2028line", r"\u2028line"),
        ("lone \udc80", r"lone \udc80"),
        ("tag \U000e0041", r"tag \U000e0041"),
    ],
)
def test_what_could_move_the_cursor_is_written_out(text: str, shown: str) -> None:
    assert plain(text) == shown


@settings(deadline=None)
@given(st.text(st.characters()))
def test_plain_text_is_one_printable_line(text: str) -> None:
    shown = plain(text)
    assert len(shown.splitlines()) <= 1
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in shown)
    assert plain(shown) == shown
    shown.encode()


@pytest.mark.parametrize(
    ("text", "columns"),
    [("abc", 3), ("", 0), ("é", 1), ("e\u0301", 1), ("你好", 4), ("ｗ", 2), ("🎉", 2), ("…", 1)],  # noqa: RUF001
)
def test_columns_by_hand(text: str, columns: int) -> None:
    assert width_of(text) == columns


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdef", 5, "abcd…"),
        ("abcdef", 1, "…"),
        ("abcdef", 0, ""),
        ("你好吗", 6, "你好吗"),
        ("你好吗", 5, "你好…"),
        ("你好吗", 4, "你…"),
        ("e\u0301e\u0301e\u0301", 2, "e\u0301…"),
    ],
)
def test_fit_by_hand(text: str, width: int, shown: str) -> None:
    assert fit(text, width) == shown


@settings(deadline=None)
@given(st.text(), st.integers(0, 20))
def test_fitted_text_fits(text: str, width: int) -> None:
    shown = fit(text, width)
    assert width_of(shown) <= width
    assert shown == text or shown == "" or (shown[-1] == "…" and text.startswith(shown[:-1]))


# --- tables ------------------------------------------------------------------------------------

ROWS = [["mail", 12, None, "waits for\nits time"], ["reports", 3, 0.5, "你好"]]


def lines_of(text: str) -> list[str]:
    return text.split("\n")


def test_a_table_by_hand() -> None:
    assert lines_of(table(["queue", "jobs", "p50 ms", "note"], ROWS, width=None)) == [
        "queue    jobs  p50 ms  note",
        "mail       12          waits for\\nits time",
        "reports     3     0.5  你好",
    ]


def test_the_widest_text_gives_way_first() -> None:
    rows = [["a" * 30, 1234567, "b" * 10, "c" * 20]]
    assert lines_of(table(["x", "n", "y", "z"], rows, width=45)) == [
        "x                  n  y           z",
        "aaaaaaaaaa…  1234567  bbbbbbbbbb  cccccccccc…",
    ]


def test_numbers_are_not_cut_before_text_is_gone() -> None:
    assert lines_of(table(["name", "n"], [["abcdef", 123456]], width=9)) == [
        "…       n",
        "…  123456",
    ]
    assert lines_of(table(["name", "n"], [["abcdef", 123456]], width=6)) == ["…    …", "…  12…"]


def test_a_table_without_rows_is_its_headers() -> None:
    assert table(["id", "status"], [], width=80) == "id  status"
    assert table([], [], width=80) == ""


def test_mixed_columns_and_booleans_are_text() -> None:
    assert lines_of(table(["value", "ok"], [[1, True], ["two", False]], width=None)) == [
        "value  ok",
        "1      True",
        "two    False",
    ]


@pytest.mark.parametrize("rows", [[["a"]], [["a", "b"], ["a"]], [["a", "b", "c"]]])
def test_a_row_of_another_length_is_refused(rows: list[list[str]]) -> None:
    with pytest.raises(ValueError, match="zip"):
        table(["x", "y"], rows, width=None)


cells = st.one_of(st.none(), st.text(max_size=30), st.integers(), st.booleans())


@settings(deadline=None)
@given(st.lists(st.tuples(cells, cells, cells), max_size=6), st.integers(1, 60))
def test_no_line_is_wider_than_the_terminal(
    rows: list[tuple[object, object, object]], width: int
) -> None:
    lines = lines_of(table(["one", "two", "three"], rows, width=width))
    assert len(lines) == len(rows) + 1
    assert all(width_of(line) <= width for line in lines)


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(0, 40))
def test_the_whole_width_is_used(lengths: list[int], less: int) -> None:
    full = sum(lengths) + 2 * (len(lengths) - 1)
    width = max(full - less, 3 * len(lengths))
    line = table(["h"] * len(lengths), [["x" * length for length in lengths]], width=width)
    used = width_of(lines_of(line)[1])
    assert min(width, full) - len(lengths) < used <= width


def test_a_huge_cell_costs_no_time_per_column() -> None:
    line = lines_of(table(["payload"], [["x" * 1_000_000]], width=80))[1]
    assert line == "x" * 79 + "…"


# --- time --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.0352, "35 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (1.25, "1.2 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (185, "3 min 5 s"),
        (3599.9, "1 h"),
        (3600, "1 h"),
        (7530, "2 h 5 min"),
        (86_399, "23 h 59 min"),
        (86_400, "1 d"),
        (100_000, "1 d 3 h"),
        (-90, "-1 min 30 s"),
    ],
)
def test_durations_by_hand(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "just now"),
        (0.9, "just now"),
        (-0.9, "just now"),
        (1, "1 s ago"),
        (59.9, "59 s ago"),
        (60, "1 min ago"),
        (3599, "59 min ago"),
        (7300, "2 h ago"),
        (200_000, "2 d ago"),
        (-240, "in 4 min"),
    ],
)
def test_ages_by_hand(seconds: float, text: str) -> None:
    assert ago(seconds) == text


@settings(deadline=None)
@given(st.floats(0, 1e9))
@example(0.99949999)
@example(9.9499999)
@example(3599.5)
def test_a_duration_reads_back_as_about_itself(seconds: float) -> None:
    units = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
    words = duration(seconds).split()
    pairs = list(zip(words[::2], words[1::2], strict=True))
    value = sum(float(number) * units[unit] for number, unit in pairs)
    smaller = {"ms": 0.001, "s": 1.0, "min": 1.0, "h": 60.0, "d": 3600.0}[pairs[0][1]]
    assert abs(value - seconds) <= smaller
    number, unit = pairs[0]
    assert float(number) < {"ms": 1000, "s": 60, "min": 60, "h": 24, "d": 1e5}[unit]


def test_columns_that_say_least_go_where_there_is_no_room() -> None:
    headers = ["id", "task", "queue", "details"]
    rows = [["6b0a1f2e9c3d", "shop.mail.send_welcome", "default", "ConnectionError: no route"]]

    def shown(width: int) -> list[str]:
        return lines_of(table(headers, rows, width=width, whole=["id"], least=["queue", "details"]))

    assert shown(200)[0].split() == headers
    assert shown(60)[0].split() == headers
    assert shown(46)[0].split() == ["id", "task", "details"]
    assert shown(30)[0].split() == ["id", "task"]
    for width in range(16, 70):
        assert shown(width)[1].startswith("6b0a1f2e9c3d  ")
        assert all(width_of(line) <= width for line in shown(width))


def test_colours_take_no_columns() -> None:
    text = table(["status", "n"], [["FAILED", 1]], width=20, paint=lambda cell: f"<{cell}>")
    assert lines_of(text) == ["status  n", "<FAILED>  <1>"]


@pytest.mark.parametrize(
    ("fraction", "shown"), [(0, "░░░░"), (0.5, "██░░"), (0.99, "███░"), (1, "████"), (7, "████")]
)
def test_bars(fraction: float, shown: str) -> None:
    assert bar(fraction, 4) == shown


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("send_welcme", "shop.send_welcome"),
        ("shop.send_welcom", "shop.send_welcome"),
        ("Export", "shop.export"),
        ("nothing_like_it", None),
        ("", None),
    ],
)
def test_names_that_are_meant(name: str, guess: str | None) -> None:
    expected = "" if guess is None else f" Did you mean {guess!r}?"
    assert did_you_mean(name, ["shop.send_welcome", "shop.export"]) == expected
