"""The cache of quantized weights: whole or not there."""

import threading
from pathlib import Path

import numpy as np
import pytest

from workers.engines.reference import cache

ARRAYS = {"a.codes": np.arange(5000, dtype=np.uint8), "a.scale": np.ones((3, 1), dtype=np.float32)}


def same(path: Path) -> bool:
    got = cache.load(path, ARRAYS)
    return got is not None and all(np.array_equal(got[name], ARRAYS[name]) for name in ARRAYS)


def test_what_was_stored_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "weights.npz"
    assert cache.load(path, ARRAYS) is None
    cache.store(path, ARRAYS)
    assert same(path)
    assert [p.name for p in path.parent.iterdir()] == ["weights.npz"]


def test_damage_anywhere_is_found_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "weights.npz"
    cache.store(path, ARRAYS)
    whole = path.read_bytes()
    for at in (1, len(whole) // 3, len(whole) // 2):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])
        assert cache.load(path, ARRAYS) is None, at
    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert cache.load(path, ARRAYS) is None, size
    assert "weights.npz are damaged" in caplog.text
    cache.store(path, ARRAYS)
    assert same(path)


def test_a_file_without_an_array_counts_as_damaged(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    cache.store(path, {"a.codes": ARRAYS["a.codes"]})
    assert cache.load(path, ARRAYS) is None


def test_workers_that_start_at_once_do_not_clash(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    cache.store(path, ARRAYS)
    torn: list[int] = []

    def read() -> None:
        torn.extend(i for i in range(40) if not same(path))

    threads = [threading.Thread(target=read)] + [
        threading.Thread(target=lambda: [cache.store(path, ARRAYS) for _ in range(15)]) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torn == []
    assert [p.name for p in tmp_path.iterdir()] == ["weights.npz"]


def test_a_cache_that_cannot_be_written_is_only_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    cache.store(tmp_path / "file" / "weights.npz", ARRAYS)
    assert "cannot cache the quantized weights" in caplog.text


def test_the_directory_is_the_users_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BITLANE_CACHE_DIR", "/chosen")
    assert cache.path("sha256:" + "ab" * 32, "fp8") == Path("/chosen") / f"{'ab' * 16}-fp8-v{cache.LAYOUT}.npz"
    monkeypatch.delenv("BITLANE_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache.directory() == Path("/xdg/bitlane")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.directory() == Path.home() / ".cache" / "bitlane"
