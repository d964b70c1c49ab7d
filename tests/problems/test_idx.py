"""MNIST's IDX files."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from fastcheck.errors import InputError
from fastcheck.problems import load_idx

IMAGES = np.arange(5 * 2 * 3, dtype=np.uint8).reshape(5, 2, 3) * 8
LABELS = np.array([3, 1, 4, 1, 5], dtype=np.uint8)


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    header = bytes((0, 0, kind, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def write(
    folder: Path,
    images: bytes = idx(IMAGES),
    labels: bytes = idx(LABELS),
    stem: str = "train",
    ending: str = "",
) -> Path:
    for name, content in (("images-idx3", images), ("labels-idx1", labels)):
        path = folder / f"{stem}-{name}-ubyte{ending}"
        path.write_bytes(gzip.compress(content) if ending else content)
    return folder


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("stem", ["train", "t10k"])
def test_a_directory_is_read(tmp_path: Path, stem: str, ending: str) -> None:
    images, labels = load_idx(write(tmp_path, stem=stem, ending=ending))
    np.testing.assert_array_equal(images, IMAGES.reshape(5, 6) / 255)
    np.testing.assert_array_equal(labels, LABELS)
    assert (images.dtype, labels.dtype) == (np.float64, np.int64)


def test_the_images_file_is_read_with_the_labels_beside_it(tmp_path: Path) -> None:
    write(tmp_path)
    _, labels = load_idx(str(tmp_path / "train-images-idx3-ubyte"))
    np.testing.assert_array_equal(labels, LABELS)


def test_plain_images_find_gzipped_labels(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(IMAGES))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(LABELS)))
    assert len(load_idx(tmp_path)[1]) == 5


def test_the_dotted_names_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "train-images.idx3-ubyte").write_bytes(idx(IMAGES))
    (tmp_path / "train-labels.idx1-ubyte").write_bytes(idx(LABELS))
    assert len(load_idx(tmp_path)[1]) == 5


def test_an_unpacked_file_that_kept_its_gz_ending_is_read(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(idx(IMAGES))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(idx(LABELS))
    assert len(load_idx(tmp_path)[1]) == 5


def test_training_files_come_before_test_files(tmp_path: Path) -> None:
    write(tmp_path, stem="t10k", labels=idx(LABELS[::-1].copy()))
    write(tmp_path, stem="train")
    assert load_idx(tmp_path)[1][0] == 3


def test_count_reads_only_the_first(tmp_path: Path) -> None:
    images, labels = load_idx(write(tmp_path), count=2)
    np.testing.assert_array_equal(images, IMAGES[:2].reshape(2, 6) / 255)
    np.testing.assert_array_equal(labels, [3, 1])


def test_count_above_the_total_reads_all(tmp_path: Path) -> None:
    assert len(load_idx(write(tmp_path), count=99)[0]) == 5


def test_a_count_of_zero_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`count` is 0; ask for at least one image"):
        load_idx(write(tmp_path), count=0)


def test_a_missing_path_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"`data`: there is no file or directory .*nowhere; give"):
        load_idx(tmp_path / "nowhere")


def test_a_directory_without_the_files_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no train-images-idx3-ubyte or t10k-images"):
        load_idx(tmp_path)


def test_missing_labels_are_said_with_the_name_wanted(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(IMAGES)))
    with pytest.raises(InputError, match=r"not beside it; put train-labels-idx1-ubyte or train-"):
        load_idx(tmp_path)


def test_a_name_that_cannot_lead_to_the_labels_is_said(tmp_path: Path) -> None:
    (tmp_path / "mine.bin").write_bytes(idx(IMAGES))
    with pytest.raises(InputError, match=r"mine\.bin does not say where its labels are; name"):
        load_idx(tmp_path / "mine.bin")


def test_another_kind_of_file_is_said_with_its_first_bytes(tmp_path: Path) -> None:
    write(tmp_path, images=b"PK\x03\x04 and so on")
    with pytest.raises(InputError, match="not an IDX file of images: it begins with bytes 50 4b"):
        load_idx(tmp_path)


def test_an_empty_file_is_said(tmp_path: Path) -> None:
    write(tmp_path, images=b"")
    with pytest.raises(InputError, match=r"begins with bytes \(none\), not 00 00 08 03"):
        load_idx(tmp_path)


def test_images_in_place_of_labels_are_said(tmp_path: Path) -> None:
    write(tmp_path, labels=idx(IMAGES))
    with pytest.raises(InputError, match=r"not an IDX file of labels: .* give MNIST's idx1-ubyte"):
        load_idx(tmp_path)


def test_a_file_cut_in_its_header_is_said(tmp_path: Path) -> None:
    write(tmp_path, images=idx(IMAGES)[:9])
    with pytest.raises(InputError, match="ends inside its header; download it again"):
        load_idx(tmp_path)


def test_a_truncated_file_is_said_with_both_sizes(tmp_path: Path) -> None:
    write(tmp_path, images=idx(IMAGES)[:-4])
    with pytest.raises(InputError, match="promises 30 bytes of images but only 26 follow"):
        load_idx(tmp_path)


def test_a_file_with_bytes_left_over_is_said(tmp_path: Path) -> None:
    write(tmp_path, labels=idx(LABELS) + b"\x00")
    with pytest.raises(InputError, match="goes on after the 5 bytes of labels"):
        load_idx(tmp_path)


def test_a_truncated_gzip_stream_is_said(tmp_path: Path) -> None:
    write(tmp_path, ending=".gz")
    file = tmp_path / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-12])
    with pytest.raises(InputError, match="ends in the middle of its compressed stream"):
        load_idx(tmp_path)


def test_a_damaged_gzip_stream_is_said(tmp_path: Path) -> None:
    write(tmp_path, ending=".gz")
    file = tmp_path / "train-images-idx3-ubyte.gz"
    content = bytearray(file.read_bytes())
    content[-8:-4] = b"\xff\xff\xff\xff"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"cannot be read \(CRC check failed"):
        load_idx(tmp_path)


def test_no_images_at_all_is_said(tmp_path: Path) -> None:
    write(tmp_path, images=idx(IMAGES[:0]))
    with pytest.raises(InputError, match=r"holds no images \(shape \(0, 2, 3\)\)"):
        load_idx(tmp_path)


def test_a_huge_promise_is_refused_without_reserving_memory(tmp_path: Path) -> None:
    header = bytes((0, 0, 8, 3)) + struct.pack(">3I", 2**32 - 1, 2**16, 2**16)
    write(tmp_path, images=header + b"few")
    with pytest.raises(InputError, match="but only 3 follow"):
        load_idx(tmp_path)


def test_images_and_labels_of_different_number_are_said(tmp_path: Path) -> None:
    write(tmp_path, labels=idx(LABELS[:4]))
    with pytest.raises(InputError, match=r"holds 5 images but .* holds 4 labels; use two files"):
        load_idx(tmp_path)
