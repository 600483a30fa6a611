"""The store as a whole: names, blobs, leases, and what goes when."""

import json
import logging
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from registry.errors import DiskFull
from registry.manifest import CONFIG, MODEL, Layer, Manifest, ManifestError
from registry.names import Digest
from registry.storage.blobs import digest_of
from registry.storage.partials import Division
from registry.storage.store import GRACE, BlobMissing, BlobTooLarge, BrokenManifest, ModelMissing, Store, StoreError
from tests.registry.storage.test_blobs import age
from tests.registry.storage.test_files import largest_file
from tests.registry.stores import HOUR, add_model, blob_names, blobs, check_whole, files, name, names

CONFIG_BLOB = b"{}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def store(root: Path) -> Store:
    return Store(root)


def make_old(root: Path) -> None:
    """Make all blobs as old as if they had been written two hours ago."""
    for path in (root / "blobs").iterdir():
        age(path, time.time() - 2 * HOUR)


def test_an_empty_store_is_not_made_by_looking_at_it(store: Store, root: Path) -> None:
    assert store.list() == []
    assert not store.has_blob(Digest.of(b""))
    with pytest.raises(ModelMissing, match="model 'x:latest' not found"):
        store.find(name("x"))
    store.prune(time.time())
    assert not root.exists()


def test_a_model(store: Store, root: Path) -> None:
    stored = add_model(store, "ns/m:v1", b"weights", b"weights")
    assert store.find(name("NS/M:V1")) == stored
    assert store.list() == [stored]
    path = root / "manifests" / "registry.ollama.ai" / "ns" / "m" / "v1"
    assert (stored.name.shortest, stored.digest) == ("ns/m:v1", Digest.of(path.read_bytes()).hex)
    assert (stored.size, stored.modified_at) == (2 + 7 + 7, path.stat().st_mtime_ns)
    assert path.read_bytes() == stored.manifest.encode()
    assert blobs(root) == blob_names(b"weights", CONFIG_BLOB)
    assert (
        store.blob_path(Digest.of(b"weights")).read_bytes() == store.read_blob(Digest.of(b"weights"), 7) == b"weights"
    )


def test_the_bytes_of_a_registry_are_kept(store: Store) -> None:
    config = store.add_blob(CONFIG_BLOB)
    layer = {"mediaType": CONFIG, "digest": str(config.digest), "size": 2, "extra": True}
    data = json.dumps({"config": layer, "layers": None}, indent=3).encode()
    stored = store.write_manifest(name("m"), data)
    assert stored.digest == Digest.of(data).hex
    assert stored.manifest == Manifest(Layer(CONFIG, *config), ())


def test_a_manifest_comes_after_its_blobs(store: Store, root: Path) -> None:
    config = store.add_blob(CONFIG_BLOB)
    manifest = Manifest(Layer(CONFIG, *config), (Layer(MODEL, Digest.of(b"missing"), 7),))
    with pytest.raises(BlobMissing, match=str(Digest.of(b"missing"))):
        store.write_manifest(name("m"), manifest)
    with pytest.raises(ManifestError):
        store.write_manifest(name("m"), b"{}")
    assert store.list() == []
    assert blobs(root) == blob_names(CONFIG_BLOB)


def test_the_newest_comes_first(store: Store, root: Path) -> None:
    for number, text in enumerate(["old", "b", "a", "new"]):
        add_model(store, text, b"w")
        seconds = {"old": 100.0, "new": 300.0}.get(text, 200.0 + number / 10)
        age(root / "manifests" / "registry.ollama.ai" / "library" / text / "latest", seconds)
    assert [model.name.model for model in store.list()] == ["new", "a", "b", "old"]


def test_what_cannot_be_read_is_not_listed(store: Store, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    add_model(store, "good", b"w")
    for text, data in (("torn", b'{"config":'), ("other", b"{}"), ("empty", b"")):
        add_model(store, text, b"w")
        (root / "manifests" / "registry.ollama.ai" / "library" / text / "latest").write_bytes(data)
        with pytest.raises(ManifestError):
            store.find(name(text))
    with caplog.at_level(logging.WARNING):
        assert names(store) == ["good:latest"]
    assert {record.args[0] for record in caplog.records if isinstance(record.args, tuple)} == {
        "torn:latest",
        "other:latest",
        "empty:latest",
    }


def test_a_model_without_its_config_is_not_listed(store: Store) -> None:
    add_model(store, "m", b"w")
    store.blob_path(Digest.of(CONFIG_BLOB)).unlink()
    assert store.list() == []
    assert store.find(name("m")).name == name("m")


def test_one_spelling(store: Store, root: Path) -> None:
    add_model(store, "Foo", b"1")
    assert add_model(store, "fOO", b"2").name == name("Foo")
    store.copy(name("FOO"), name("bar"))
    store.copy(name("bar"), name("FOo:latest"))
    assert names(store) == ["Foo:latest", "bar:latest"]
    store.delete(name("BAR"))
    assert names(store) == ["Foo:latest"]


def test_a_copy(store: Store, root: Path) -> None:
    original = add_model(store, "m", b"w")
    add_model(store, "n", b"x")
    store.copy(name("m"), name("h/n/m:t"))
    store.copy(name("M"), name("n"))
    store.copy(name("m"), name("M"))
    assert names(store) == ["h/n/m:t", "m:latest", "n:latest"]
    assert {model.digest for model in store.list()} == {original.digest}
    with pytest.raises(ModelMissing):
        store.copy(name("missing"), name("o"))
    assert len(files(root / "manifests")) == 3


def test_deleting_keeps_what_others_need(store: Store, root: Path) -> None:
    add_model(store, "a", b"shared", b"only a", b"only a")
    add_model(store, "b", b"shared", b"only b")
    store.delete(name("a"))
    assert blobs(root) == blob_names(CONFIG_BLOB, b"shared", b"only b")
    store.delete(name("b"))
    assert files(root) == set()
    with pytest.raises(ModelMissing):
        store.delete(name("b"))


def test_deleting_does_without_blobs_that_are_gone(store: Store, root: Path) -> None:
    add_model(store, "a", b"w")
    store.blob_path(Digest.of(b"w")).unlink()
    store.delete(name("a"))
    assert files(root) == set()


def test_deleting_removes_no_blob_while_a_manifest_cannot_be_read(store: Store, root: Path) -> None:
    add_model(store, "a", b"w")
    add_model(store, "torn", b"x")
    (root / "manifests" / "registry.ollama.ai" / "library" / "torn" / "latest").write_bytes(b"{")
    store.delete(name("a"))
    assert blobs(root) == blob_names(CONFIG_BLOB, b"w", b"x")


def test_unused_blobs(store: Store, root: Path) -> None:
    old = add_model(store, "m", b"old", b"both").manifest
    add_model(store, "m", b"new", b"both")
    store.remove_unused(old.digests)
    assert blobs(root) == blob_names(CONFIG_BLOB, b"new", b"both")


def test_a_full_disk_changes_nothing(store: Store, root: Path) -> None:
    before = add_model(store, "m", b"w")
    for room in range(0, 200, 37):
        with largest_file(room), pytest.raises(StoreError, match="File too large"):
            store.add_blob(bytes(300))
        with largest_file(room), pytest.raises(StoreError, match="File too large"):
            store.write_manifest(name("m"), Manifest(before.manifest.config, ()))
    assert store.list() == [before]
    assert blobs(root) == blob_names(CONFIG_BLOB, b"w")
    assert len(files(root)) == 3


def test_pruning_waits_an_hour(store: Store, root: Path) -> None:
    add_model(store, "m", b"w")
    store.add_blob(b"orphan")
    upload = root / "blobs" / f"{Digest.of(b'x').filename}-partial"
    upload.touch()
    (root / "blobs" / "folder").mkdir()
    now = time.time()
    for path in (root / "blobs").iterdir():
        age(path, now - GRACE)
    store.prune(now)
    assert blobs(root) == blob_names(CONFIG_BLOB, b"w", b"orphan") | {upload.name}
    store.prune(now + 1)
    assert blobs(root) == blob_names(CONFIG_BLOB, b"w")
    assert (root / "blobs" / "folder").is_dir()
    assert names(store) == ["m:latest"]


def test_pruning_leaves_a_download_alone_that_is_on_its_way(store: Store, root: Path) -> None:
    digest = Digest.of(b"to come")
    partial = store.partial(digest)
    partial.open(7, Division())
    partial.close()
    with store.lease([digest]):
        store.prune(time.time() + 2 * HOUR)
        assert blobs(root) == {f"{digest.filename}-partial", f"{digest.filename}-partial-0"}
    store.prune(time.time() + 2 * HOUR)
    assert blobs(root) == set()


def test_what_is_stored(store: Store, root: Path) -> None:
    assert store.stored(name("m")) is None
    model = add_model(store, "m", b"w")
    assert store.stored(name("M")) == model
    (root / "manifests" / "registry.ollama.ai" / "library" / "m" / "latest").write_bytes(b"{")
    assert store.stored(name("m")) is None
    assert store.stored(name("tinychat")) is None


def test_what_is_unused(store: Store) -> None:
    add_model(store, "m", b"w")
    orphan, leased = store.add_blob(b"orphan").digest, store.add_blob(b"leased").digest
    with store.lease([leased]):
        assert store.unused([orphan, leased, Digest.of(b"w")]) == {orphan}
    assert store.unused([orphan, leased, Digest.of(b"w")]) == {orphan, leased}


def test_sizes_and_room(store: Store) -> None:
    assert store.blob_size(Digest.of(b"w")) is None
    store.add_blob(b"w")
    assert store.blob_size(Digest.of(b"w")) == 1
    store.require_space(1)
    with pytest.raises(DiskFull, match=r"no space left on device: 1000000\.0 TB needed, .+ free"):
        store.require_space(10**18)


def test_pruning_removes_what_a_crash_left(store: Store, root: Path) -> None:
    add_model(store, "m", b"w")
    (root / "manifests" / "h" / "n").mkdir(parents=True)
    (root / "manifests" / ".incoming-x").touch()
    store.prune(time.time() + 2 * HOUR)
    assert os.listdir(root / "manifests") == ["registry.ollama.ai"]


def test_pruning_stops_at_a_manifest_that_cannot_be_read(
    store: Store, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add_model(store, "m", b"w")
    store.add_blob(b"orphan")
    (root / "manifests" / "registry.ollama.ai" / "library" / "m" / "latest").write_bytes(b"")
    store.prune(time.time() + 2 * HOUR)
    assert blobs(root) == blob_names(CONFIG_BLOB, b"w", b"orphan")
    assert "nothing is removed" in caplog.text


def test_a_blob_that_is_used_again_is_young_again(store: Store, root: Path) -> None:
    for data in (b"added", b"leased", b"written", b"old"):
        store.add_blob(data)
    add_model(store, "copied", b"copied")
    make_old(root)
    store.copy(name("copied"), name("copy"))
    store.add_blob(b"added")
    with store.lease([Digest.of(b"leased"), Digest.of(b"missing")]):
        pass
    config = Layer(CONFIG, Digest.of(CONFIG_BLOB), 2)
    store.write_manifest(name("m"), Manifest(config, (Layer(MODEL, Digest.of(b"written"), 7),)))
    shutil.rmtree(root / "manifests")
    store.prune(time.time())
    assert blobs(root) == blob_names(b"added", b"leased", b"written", b"copied", CONFIG_BLOB)


def test_a_lease_outlasts_the_grace(store: Store, root: Path) -> None:
    add_model(store, "m", b"w")
    with store.lease([Digest.of(b"w"), Digest.of(b"to come")]), store.lease([Digest.of(b"w")]):
        store.add_blob(b"to come")
        store.delete(name("m"))
        store.prune(time.time() + 2 * HOUR)
        store.remove_unused([Digest.of(b"w"), Digest.of(b"to come")])
        assert blobs(root) == blob_names(b"w", b"to come")
    store.remove_unused([Digest.of(b"w")])
    store.prune(time.time() + 2 * HOUR)
    assert blobs(root) == set()


def test_a_lease_ends_with_an_error_too(store: Store, root: Path) -> None:
    digest = store.add_blob(b"w").digest
    with pytest.raises(ValueError, match="x"), store.lease([digest]):
        raise ValueError("x")
    store.remove_unused([digest])
    assert blobs(root) == set()


def test_an_upload_is_leased(store: Store, root: Path) -> None:
    digest = Digest.of(b"w")
    with store.put_blob(digest) as blob:
        blob.write(b"w")
        blob.commit()
        store.remove_unused([digest])
        assert store.has_blob(digest)
    store.remove_unused([digest])
    assert not store.has_blob(digest)


def test_reading_blobs(store: Store) -> None:
    digest = store.add_blob(b"text").digest
    with pytest.raises(BlobTooLarge):
        store.read_blob(digest, 3)
    with pytest.raises(BlobMissing):
        store.read_blob(Digest.of(b"other"), 3)


def test_a_file_from_outside(store: Store, root: Path, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(3_000_000))
    blob = store.add_file(path)
    assert blob == (Digest.of(bytes(3_000_000)), 3_000_000)
    assert store.blob_path(blob.digest).read_bytes() == path.read_bytes()
    assert path.exists()


def test_old_names_of_blobs_change_when_a_store_is_opened(root: Path) -> None:
    digest = Digest.of(b"w")
    (root / "blobs").mkdir(parents=True)
    (root / "blobs" / str(digest)).write_bytes(b"w")
    assert Store(root).read_blob(digest, 1) == b"w"


def test_a_store_that_cannot_be_opened_says_so_when_it_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "models").touch()
    store = Store(tmp_path / "models")
    assert store.list() == []
    with pytest.raises(StoreError) as caught:
        store.add_blob(b"x")
    assert str(tmp_path) not in str(caught.value) + caplog.text


def stored_digests(root: Path) -> list[Digest]:
    return [digest for blob in blobs(root) if (digest := digest_of(blob)) is not None]


def work(store: Store, number: int) -> None:
    """Make, copy and delete models, some of whose layers others use as well."""
    for turn in range(12):
        layers = [f"{number % 2} {turn % 3}".encode(), f"own {number}".encode()]
        with store.lease(Digest.of(layer) for layer in (*layers, CONFIG_BLOB)):
            add_model(store, f"m{number}", *layers)
        store.copy(name(f"M{number}"), name(f"copy{number}"))
        store.delete(name(f"m{number}"))


def sweep(store: Store, root: Path, done: threading.Event) -> None:
    """Remove again and again whatever may be removed."""
    while not done.is_set():
        store.list()
        store.prune(time.time())
        store.remove_unused(stored_digests(root))


def test_many_at_once(store: Store, root: Path) -> None:
    """Whoever holds leases gets a whole model, whatever others remove meanwhile."""
    done = threading.Event()
    with ThreadPoolExecutor(5) as pool:
        sweeper = pool.submit(sweep, store, root, done)
        workers = [pool.submit(work, store, number) for number in range(4)]
        wait(workers)
        done.set()
    for future in (*workers, sweeper):
        future.result()
    assert names(store) == [f"copy{number}:latest" for number in range(4)]
    check_whole(root)
    store.remove_unused(stored_digests(root))
    assert blobs(root) == blob_names(CONFIG_BLOB, b"0 2", b"1 2", *(f"own {number}".encode() for number in range(4)))


def test_every_flipped_bit_is_found(store: Store, root: Path) -> None:
    add_model(store, "a", b"shared", bytes(5 << 20))
    add_model(store, "b", b"shared", b"gone")
    orphan = store.add_blob(b"orphan").digest
    users = store.digests()
    assert set(users) == {Digest.of(data) for data in (CONFIG_BLOB, b"shared", bytes(5 << 20), b"gone", b"orphan")}
    assert users[Digest.of(b"shared")] == {name("a"), name("b")}
    assert users[orphan] == set()
    assert not [check for check in store.verify(users) if check.fault]
    large = Digest.of(bytes(5 << 20))
    data = bytearray(bytes(5 << 20))
    data[-1] ^= 1
    store.blob_path(large).write_bytes(data)
    store.blob_path(Digest.of(b"gone")).unlink()
    assert {check.digest: check.fault for check in store.verify(users) if check.fault} == {
        large: "its bytes have changed",
        Digest.of(b"gone"): "missing",
    }
    steps = list(store.verify([large]))
    assert [(step.completed, step.total, step.done) for step in steps] == [
        (4 << 20, 5 << 20, False),
        (5 << 20, 5 << 20, False),
        (5 << 20, 5 << 20, True),
    ]


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def no_json(path: Path) -> None:
    path.write_bytes(b"\0" * 4096)


def another_schema(path: Path) -> None:
    path.write_text('{"schemaVersion":1,"config":{"digest":"../../etc/passwd"},"layers":{}}')


def endless(path: Path) -> None:
    path.write_bytes(b" " * (5 << 20))


def link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("nothing")


def link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def unreadable(path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    path.chmod(0)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "file").touch()


@pytest.mark.parametrize(
    "spoil",
    [
        empty,
        truncated,
        no_json,
        another_schema,
        endless,
        link_to_nothing,
        link_to_itself,
        pipe,
        unreadable,
        folder,
    ],
)
def test_a_broken_manifest(store: Store, root: Path, spoil: Callable[[Path], None]) -> None:
    add_model(store, "good", b"good")
    add_model(store, "bad", b"bad")
    store.add_blob(b"orphan")
    path = root / "manifests" / "registry.ollama.ai" / "library" / "bad" / "latest"
    everything = blobs(root)
    spoil(path)
    assert names(store) == ["good:latest"]
    for use in (store.find, lambda bad: store.copy(bad, name("other"))):
        with pytest.raises(
            BrokenManifest, match=r"model 'bad:latest' is broken.* pull or create it again, or delete it"
        ):
            use(name("BAD"))
    assert store.stored(name("bad")) is None
    if spoil is not folder:  # what is no manifest by its kind needs nothing
        store.prune(time.time() + 2 * HOUR)
        assert blobs(root) == everything
    store.delete(name("BAD"))
    assert not os.path.lexists(path)
    with pytest.raises(ModelMissing):
        store.find(name("bad"))
    store.prune(time.time() + 2 * HOUR)
    assert blobs(root) == blob_names(CONFIG_BLOB, b"good")


@pytest.mark.parametrize("spoil", [empty, link_to_nothing, pipe, folder])
def test_a_broken_manifest_gives_way_to_a_new_one(store: Store, root: Path, spoil: Callable[[Path], None]) -> None:
    add_model(store, "good", b"good")
    for how in (lambda: add_model(store, "BAD", b"new"), lambda: store.copy(name("good"), name("bad"))):
        add_model(store, "bad", b"bad")
        spoil(root / "manifests" / "registry.ollama.ai" / "library" / "bad" / "latest")
        how()
        assert names(store) == ["bad:latest", "good:latest"]


def test_a_new_store_has_the_bundled_models_until_they_are_deleted(store: Store) -> None:
    store.seed()
    assert {model.name.shortest for model in store.list()} == {"tinychat:latest", "sight:latest"}
    store.delete(name("sight"))
    store.delete(name("tinychat"))
    store.seed()
    assert store.list() == []


def test_a_bundled_model_whose_weights_are_gone(store: Store, root: Path) -> None:
    weights = store.blob_path(store.bundled(name("tinychat")).manifest.layers[0].digest)
    whole = weights.read_bytes()
    weights.unlink()
    store.bundled(name("tinychat"))
    assert weights.read_bytes() == whole
    weights.write_bytes(whole[:-1])
    store.bundled(name("tinychat"))
    assert weights.read_bytes() == whole


def test_a_bundled_model_that_is_broken(store: Store, root: Path) -> None:
    store.find(name("tinychat"))
    empty(root / "manifests" / "registry.ollama.ai" / "library" / "tinychat" / "latest")
    with pytest.raises(BrokenManifest):
        store.find(name("tinychat"))
    assert store.bundled(name("TINYCHAT")) == store.find(name("tinychat")) == store.bundled(name("tinychat"))


@pytest.mark.parametrize(
    ("kept", "repaired"),
    [
        (b"0123456789", False),
        (b"01234X6789", True),
        (b"X123456789", True),
        (b"012345678", True),
        (b"0123456789 and more", True),
        (b"", True),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 10])
def test_what_is_uploaded_again_repairs_what_has_changed(
    store: Store, root: Path, kept: bytes, repaired: bool, size: int
) -> None:
    digest = store.add_blob(b"0123456789").digest
    store.blob_path(digest).write_bytes(kept)
    inode = store.blob_path(digest).stat().st_ino
    for data, replaces in ((b"another one", False), (b"", False), (b"01234", False), (b"0123456789", repaired)):
        with store.repair_blob(digest) as blob:
            for start in range(0, len(data), size):
                blob.write(data[start : start + size])
            blob.commit()
        assert blob.repaired is replaces
        assert store.blob_path(digest).read_bytes() == (b"0123456789" if replaces else kept)
    assert (store.blob_path(digest).stat().st_ino != inode) is repaired
    assert files(root) == {f"blobs/{digest.filename}"}


def test_what_was_made_of_a_blob_that_had_changed_goes_with_it(store: Store) -> None:
    digest = store.add_blob(b"weights").digest
    with store.derived.making(store.blob_path(digest)), store.derived.put(digest, "x-1-text") as file:
        file.write(b"derived")
    made = store.derived.path(digest, "x-1-text")
    for data, left in ((b"weights", True), (b"Weights", False)):
        store.blob_path(digest).write_bytes(data)
        with store.repair_blob(digest) as blob:
            blob.write(b"weights")
            blob.commit()
        assert made.exists() is left


def test_a_repaired_blob_may_be_large(store: Store) -> None:
    data = os.urandom(9 << 20)
    digest = store.add_blob(data).digest
    store.blob_path(digest).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with store.repair_blob(digest) as blob:
        for start in range(0, len(data), 1 << 20):
            blob.write(data[start : start + (1 << 20)])
        blob.commit()
    assert blob.repaired
    assert store.blob_path(digest).read_bytes() == data


def test_what_is_replaced_goes_if_that_is_wanted(store: Store, root: Path) -> None:
    model = add_model(store, "m", b"new", b"both")
    add_model(store, "n", b"old", b"both")
    store.copy(name("m"), name("N"), prune=True)
    assert blobs(root) == blob_names(CONFIG_BLOB, b"new", b"both")
    add_model(store, "n", b"other")
    store.write_manifest(name("n"), model.manifest, prune=True)
    assert blobs(root) == blob_names(CONFIG_BLOB, b"new", b"both")
    assert names(store) == ["m:latest", "n:latest"]
    assert not list(root.glob("lease-*"))


def looping_folder(library: Path) -> None:
    (library / "odd").symlink_to("odd")


def folder_elsewhere(library: Path) -> None:
    (library / "odd").symlink_to("/nowhere")


def unreadable_folder(library: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (library / "odd").mkdir(mode=0)


def pipes(library: Path) -> None:
    os.mkfifo(library / "odd")
    os.mkfifo(library.parent / "pipe")
    os.mkfifo(library.parent.parent / "pipe")


def socket_file(library: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        before = os.getcwd()
        os.chdir(library)  # the path of a socket may not be long
        try:
            sock.bind("odd")
        finally:
            os.chdir(before)


def long_names(library: Path) -> None:
    (library / ("x" * 255)).mkdir()
    (library / ("x" * 255) / ("y" * 255)).touch()


@pytest.mark.parametrize(
    ("spoil", "hides"),
    [
        (looping_folder, False),
        (folder_elsewhere, True),
        (unreadable_folder, True),
        (pipes, False),
        (socket_file, False),
        (long_names, False),
    ],
)
def test_odd_things_beside_models(store: Store, root: Path, spoil: Callable[[Path], None], *, hides: bool) -> None:
    add_model(store, "good", b"good")
    add_model(store, "other", b"other")
    everything = blobs(root)
    spoil(root / "manifests" / "registry.ollama.ai" / "library")
    assert names(store) == ["good:latest", "other:latest"]
    assert [stored.shortest for stored in store.digests()[Digest.of(b"good")]] == ["good:latest"]
    with pytest.raises(ModelMissing):
        store.find(name("odd"))
    store.delete(name("good"))
    assert names(store) == ["other:latest"]
    store.prune(time.time() + 2 * HOUR)  # what a model may need that cannot be seen stays
    assert blobs(root) == (everything if hides else blob_names(CONFIG_BLOB, b"other"))


def test_a_folder_that_is_passed_over_is_told_once(store: Store, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    add_model(store, "good", b"good")
    looping_folder(root / "manifests" / "registry.ollama.ai" / "library")
    for _ in range(3):
        store.list()
    assert [record.levelname for record in caplog.records if "library/odd is seen: too many" in record.message] == [
        "WARNING"
    ]


def test_odd_things_among_blobs(store: Store, root: Path) -> None:
    good = add_model(store, "good", b"good")
    add_model(store, "other", b"other")
    loop, pipe, folder = (Digest.of(text) for text in (b"loop", b"pipe", b"folder"))
    (root / "blobs" / loop.filename).symlink_to(loop.filename)
    os.mkfifo(root / "blobs" / pipe.filename)
    (root / "blobs" / folder.filename).mkdir()
    (root / "blobs" / ("x" * 255)).touch()
    for digest in (loop, pipe, folder):
        assert not store.has_blob(digest)
        assert store.blob_size(digest) is None
        with pytest.raises(StoreError):
            store.read_blob(digest, 10)
        assert [check.done for check in store.verify([digest])] == [True]
    assert names(store) == ["good:latest", "other:latest"]
    path = store.blob_path(good.manifest.layers[0].digest)
    path.unlink()
    path.mkdir()
    store.delete(name("good"))
    assert names(store) == ["other:latest"]
    store.prune(time.time() + 2 * HOUR)
    assert blobs(root) == blob_names(CONFIG_BLOB, b"other")
    with store.put_blob(pipe) as writer:
        writer.write(b"pipe")
        writer.commit()
    assert store.read_blob(pipe, 10) == b"pipe"


def test_a_pipe_in_the_place_of_a_config(store: Store) -> None:
    good = add_model(store, "good", b"good")
    path = store.blob_path(good.manifest.config.digest)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(StoreError, match="cannot read a blob: not a regular file"):
        store.read_blob(good.manifest.config.digest, 10)
    store.delete(name("good"))
    assert not os.path.lexists(path)
