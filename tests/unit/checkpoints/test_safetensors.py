"""Our reader and writer of safetensors against the library's, and damaged files."""

import json
import struct
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file  # pyright: ignore[reportUnknownVariableType]

from workers.engines.reference.safetensors_file import (
    NotSafetensors,
    SafetensorsFile,
    SafetensorsFolder,
    Stored,
    bf16,
    codes,
    f32,
    write,
)


def test_the_library_reads_what_is_written(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((3, 5), dtype=np.float32)
    packed = np.arange(6, dtype=np.uint8).reshape(2, 3)
    write(
        tmp_path / "x.safetensors",
        [("a", f32(values)), ("b", codes("U8", packed)), ("c", f32(np.array(2, np.float32)))],
        {},
    )
    read = load_file(tmp_path / "x.safetensors")
    assert np.array_equal(read["a"], values)
    assert np.array_equal(read["b"], packed)
    assert read["c"].shape == ()


def test_what_the_library_wrote_is_read(tmp_path: Path) -> None:
    values = {
        "wide": np.linspace(-2, 2, 7, dtype=np.float32).reshape(7, 1),
        "half": np.array([1.5, -3], dtype=np.float16),
        "codes": np.array([[1, 255]], dtype=np.uint8),
    }
    save_file(values, tmp_path / "x.safetensors", {"made": "by the library"})
    file = SafetensorsFile(tmp_path / "x.safetensors")
    assert set(file.names) == set(values)
    assert file.note["made"] == "by the library"
    assert np.array_equal(file.tensor("wide").values(), values["wide"])
    assert np.array_equal(file.tensor("half").values(), values["half"])
    assert np.array_equal(file.tensor("codes").codes(), values["codes"])
    with pytest.raises(NotSafetensors, match="holds codes"):
        file.tensor("codes").values()


def test_bfloat16_is_rounded_to_nearest_even() -> None:
    values = np.random.default_rng(1).standard_normal(10_000, dtype=np.float32) * np.float32(1e3)
    expected = values.astype(ml_dtypes.bfloat16)
    assert np.array_equal(bf16(values).values(), expected.astype(np.float32))
    assert bf16(values).raw.tobytes() == expected.tobytes()


def test_a_folder_has_the_tensors_of_all_its_files(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"model-{number}.safetensors", [(f"t{number}", f32(np.full(2, number, np.float32)))], {})
    folder = SafetensorsFolder(tmp_path)
    assert [folder.tensor(f"t{number}").values()[0] for number in range(3)] == [0, 1, 2]
    with pytest.raises(NotSafetensors, match="no tensor t9"):
        folder.tensor("t9")
    with pytest.raises(FileNotFoundError, match=r"no \*\.safetensors"):
        SafetensorsFolder(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "has 0 bytes"),
        (b"\xff" * 16, "its header would have"),
        (struct.pack("<Q", 2) + b"{x", "its header is no JSON"),
        (struct.pack("<Q", 2) + b"{}", None),
    ],
)
def test_damaged_files_name_themselves(tmp_path: Path, content: bytes, says: str | None) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    if says is None:
        assert SafetensorsFile(path).names == ()
        return
    with pytest.raises(NotSafetensors, match=f"x.safetensors: {says}"):
        SafetensorsFile(path)


def test_a_file_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write(path, [("a", f32(np.zeros(100, np.float32)))], {})
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(NotSafetensors, match="tensor a lies outside of the file"):
        SafetensorsFile(path)
    header = json.dumps({"a": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 8)
    with pytest.raises(NotSafetensors, match="of type 'I64'"):
        SafetensorsFile(path)


def test_nothing_is_left_of_a_write_that_failed(tmp_path: Path) -> None:
    broken = Stored("F32", (2,), np.zeros(3, np.uint8))  # its bytes do not fit its shape
    write(tmp_path / "x.safetensors", [("a", broken)], {})
    with pytest.raises(NotSafetensors):
        SafetensorsFile(tmp_path / "x.safetensors")
