"""Uploaded files as arguments: in the spool, or without one inside the payload."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, request
from werkzeug.datastructures import FileStorage, Headers

from flask_offload.errors import (
    FileGone,
    FileTooLarge,
    PayloadError,
    PayloadTooLarge,
    SpoolFull,
)
from flask_offload.payload.calls import CallSpec, Codecs, decode_value, encode_value
from flask_offload.payload.spool import Spool

LIMIT = 10_000
CODECS = Codecs()


def resize(photo: FileStorage, others: list[FileStorage] | None = None, **more: Any) -> None:
    pass


SPEC = CallSpec(resize, "shop.resize", CODECS)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "jobs.db-files", max_file=100_000, max_total=250_000)


def upload(
    content: bytes = b"pixels", filename: str | None = "p.png", **kwargs: Any
) -> FileStorage:
    return FileStorage(io.BytesIO(content), filename, **kwargs)


def names(spool: Spool) -> set[str]:
    return {path.name for path in spool.folder.iterdir()} if spool.folder.exists() else set()


def test_a_file_reaches_the_task_as_it_was(spool: Spool) -> None:
    headers = Headers([("Content-Type", "image/png; q=1"), ("X-A", "1"), ("X-A", "2")])
    photo = upload(b"pixels" * 1000, "../ü.png", name="photo", headers=headers)
    encoded = SPEC.encode((photo,), {}, limit=LIMIT, spool=spool)
    assert set(encoded.files) == names(spool)
    assert len(encoded.files) == 1
    for _ in range(2):  # every attempt gets the whole file
        (back,), _kwargs = SPEC.decode(encoded.data, spool=spool)
        assert type(back) is FileStorage
        assert back.read() == b"pixels" * 1000
        assert (back.filename, back.name, back.mimetype) == ("../ü.png", "photo", "image/png")
        assert list(back.headers) == list(headers)


def test_a_file_without_a_name_gets_none(spool: Spool) -> None:
    photo = upload(filename=None)
    assert photo.filename is None
    encoded = SPEC.encode((photo,), {}, limit=LIMIT, spool=spool)
    (back,), _ = SPEC.decode(encoded.data, spool=spool)
    assert back.filename is None


def test_files_anywhere_in_the_arguments(spool: Spool) -> None:
    encoded = SPEC.encode(
        (upload(b"1"),),
        {"others": [upload(b"2")], "deep": {"k": (upload(b"3"),)}},
        limit=LIMIT,
        spool=spool,
    )
    assert len({*encoded.files}) == 3
    args, kwargs = SPEC.decode(encoded.data, spool=spool)
    assert args[0].read() == b"1"
    assert kwargs["others"][0].read() == b"2"
    assert kwargs["deep"]["k"][0].read() == b"3"


def test_a_file_that_the_view_has_read_is_still_encoded_whole(spool: Spool) -> None:
    photo = upload(b"pixels")
    assert photo.read(3) == b"pix"
    encoded = SPEC.encode((photo,), {}, limit=LIMIT, spool=spool)
    assert photo.read() == b"els"
    (back,), _ = SPEC.decode(encoded.data, spool=spool)
    assert back.read() == b"pixels"


def test_a_real_upload(spool: Spool) -> None:
    app = Flask(__name__)
    results: list[Any] = []

    @app.post("/")
    def view() -> str:
        results.append(SPEC.encode((request.files["photo"],), {}, limit=LIMIT, spool=spool))
        return ""

    content = b"x" * 80_000
    app.test_client().post("/", data={"photo": (io.BytesIO(content), "a.jpg", "image/jpeg")})
    (back,), _ = SPEC.decode(results[0].data, spool=spool)
    assert (back.filename, back.mimetype, back.name) == ("a.jpg", "image/jpeg", "photo")
    assert back.read() == content


def test_a_file_object_works_as_an_image_library_needs_it(spool: Spool) -> None:
    encoded = SPEC.encode((upload(b"0123456789"),), {}, limit=LIMIT, spool=spool)
    (back,), _ = SPEC.decode(encoded.data, spool=spool)
    assert back.seek(0, io.SEEK_END) == 10
    back.seek(4)
    assert back.stream.read(2) == b"45"
    target = io.BytesIO()
    back.save(target)
    assert target.getvalue() == b"6789"
    with pytest.raises(io.UnsupportedOperation):
        back.stream.write(b"x")


def test_without_a_spool_a_file_counts_as_payload() -> None:
    encoded = SPEC.encode((upload(b"pixels", "p.png", name="n"),), {}, limit=LIMIT)
    assert encoded.files == ()
    (back,), _ = SPEC.decode(encoded.data)
    assert (back.read(), back.filename, back.name) == (b"pixels", "p.png", "n")
    with pytest.raises(PayloadTooLarge, match=r"argument 'photo': the file .* pass its name"):
        SPEC.encode((upload(b"x" * LIMIT),), {}, limit=LIMIT)
    result = decode_value(encode_value(upload(), CODECS, what="it", limit=LIMIT), CODECS)
    assert result.read() == b"pixels"


@pytest.mark.parametrize("fails", ["later argument", "size of the rest", "text", "interrupt"])
def test_a_failed_enqueue_leaves_no_file(
    spool: Spool, fails: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest: Any = {"later argument": object(), "size of the rest": ["x"] * LIMIT, "text": "\ud800"}
    if fails == "interrupt":
        monkeypatch.setattr("flask_offload.payload.calls._encode", interrupted)
    with pytest.raises((PayloadError, KeyboardInterrupt)):
        SPEC.encode((upload(),), {"more": rest.get(fails)}, limit=LIMIT, spool=spool)
    assert names(spool) == set()


def interrupted(*args: Any) -> bytes:
    raise KeyboardInterrupt


def test_limits_name_the_argument_and_the_remedy(spool: Spool) -> None:
    with pytest.raises(FileTooLarge) as info:
        SPEC.encode((upload(b"x" * 100_001),), {}, limit=LIMIT, spool=spool)
    assert str(info.value).startswith(
        "task 'shop.resize': argument 'photo': the file is larger than 97.66 KiB (OFFLOAD_MAX_FILE)"
    )
    for _ in range(2):
        SPEC.encode((upload(b"x" * 100_000),), {}, limit=LIMIT, spool=spool)
    with pytest.raises(SpoolFull, match=r"argument 'photo': there is no room .*OFFLOAD_MAX_SPOOL"):
        SPEC.encode((upload(b"x" * 60_000),), {}, limit=LIMIT, spool=spool)
    assert len(names(spool)) == 2
    assert SPEC.encode((upload(b"x" * 50_000),), {}, limit=LIMIT, spool=spool)


def test_a_closed_file_is_refused(spool: Spool) -> None:
    photo = upload()
    photo.close()
    with pytest.raises(PayloadError, match="'photo' is a file that is closed already"):
        SPEC.encode((photo,), {}, limit=LIMIT, spool=spool)


class OwnStorage(FileStorage):
    pass


def test_a_subclass_is_refused(spool: Spool) -> None:
    with pytest.raises(PayloadError, match="OwnStorage, which can't be encoded"):
        SPEC.encode((OwnStorage(io.BytesIO(b"x")),), {}, limit=LIMIT, spool=spool)


def test_a_file_that_is_gone_has_an_error_of_its_own(spool: Spool) -> None:
    encoded = SPEC.encode((upload(),), {}, limit=LIMIT, spool=spool)
    spool.remove(encoded.files)
    with pytest.raises(FileGone, match="is no longer in"):
        SPEC.decode(encoded.data, spool=spool)
    with pytest.raises(PayloadError, match="there is no spool"):
        SPEC.decode(encoded.data)


@pytest.mark.parametrize(
    "name", ["../secret", "secret", "/etc/passwd", "", "0" * 31, 7, None, "A" * 32]
)
def test_a_forged_name_opens_nothing(spool: Spool, name: Any) -> None:
    import json

    spool.folder.mkdir()
    (spool.folder / "secret").write_text("s")
    (spool.folder.parent / "secret").write_text("s")
    (spool.folder / ("A" * 32)).write_text("s")
    data = json.dumps([[{"$": ["file", name, None, None, []]}], {}])
    with pytest.raises(PayloadError):
        SPEC.decode(data, spool=spool)


def test_a_link_is_not_followed(spool: Spool) -> None:
    encoded = SPEC.encode((upload(),), {}, limit=LIMIT, spool=spool)
    copy = spool.folder / encoded.files[0]
    secret = spool.folder.parent / "secret"
    secret.write_text("s")
    copy.unlink()
    copy.symlink_to(secret)
    with pytest.raises(PayloadError):
        SPEC.decode(encoded.data, spool=spool)


def test_equal_files_give_equal_fingerprints() -> None:
    def fingerprint(content: bytes) -> str:
        return SPEC.fingerprint((upload(content),), {"deep": [upload(b"x" * 60_000_000)]})

    assert fingerprint(b"1") == fingerprint(b"1") != fingerprint(b"2")
