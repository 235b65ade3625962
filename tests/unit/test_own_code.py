"""Stored task names run the app's own functions only, however packages are installed."""

from __future__ import annotations

import importlib
import sys
import zipfile
from pathlib import Path

import pytest

from flask_offload.tasks.names import find_declared

SOURCE = "def edit(path): ...\n"


def imported(monkeypatch: pytest.MonkeyPatch, entry: Path, name: str) -> None:
    monkeypatch.syspath_prepend(str(entry))
    importlib.import_module(name)
    monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.import_module(name)


def write(folder: Path, name: str) -> None:
    folder.mkdir(parents=True)
    (folder / f"{name}.py").write_text(SOURCE)


def test_the_app_s_own_module_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "app", "own_shop")
    imported(monkeypatch, tmp_path / "app", "own_shop")
    assert find_declared("own_shop.edit") is not None
    assert find_declared("own_shop.missing") is None


def test_a_target_folder_of_pip_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "vendor", "targeted")
    (tmp_path / "vendor" / "targeted-1.0.dist-info").mkdir()
    imported(monkeypatch, tmp_path / "vendor", "targeted")
    assert find_declared("targeted.edit") is None


@pytest.mark.parametrize("folder", ["lib/python3/dist-packages", ".local/lib/site-packages"])
def test_folders_of_packages_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    name = "packaged_" + folder[:3].strip("./")
    write(tmp_path / folder, name)
    imported(monkeypatch, tmp_path / folder, name)
    assert find_declared(f"{name}.edit") is None


def test_an_archive_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "app.pyz"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("zipped_shop.py", SOURCE)
    imported(monkeypatch, archive, "zipped_shop")
    assert find_declared("zipped_shop.edit") is None


def test_installed_and_standard_modules_do_not() -> None:
    import click.termui  # noqa: F401 (loaded, so that it could be found)

    assert find_declared("click.termui.edit") is None
    assert find_declared("shutil.rmtree") is None
