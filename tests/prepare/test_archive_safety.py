"""Hostile and damaged archives: each is refused by name of archive, member and reason, and nothing is written."""

from __future__ import annotations

import stat
import struct
import zipfile
from pathlib import Path

import pytest

from reid_core.errors import DataError
from reid_core.prepare._archive import Archive, Limits
from reid_core.prepare.training_layout import prepare

NAMES = (
    "bounding_box_train/0002_c1s1_000451_03.jpg",
    "bounding_box_train/0002_c2s1_000451_03.jpg",
    "bounding_box_test/0001_c1s1_000451_03.jpg",
    "query/0001_c2s1_000451_03.jpg",
)


def member(name: str, mode: int = stat.S_IFREG | 0o644, extra: bytes = b"") -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("x")
    info.filename = info.orig_filename = name  # ZipInfo("a\0b") would cut the name itself
    info.external_attr = mode << 16
    info.create_system = 3
    info.extra = extra
    return info


def archive(path: Path, *more: tuple[zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as packed:
        for name in NAMES:
            packed.writestr(name, name.encode())
        for info, data in more:
            packed.writestr(info, data)
    return path


LINK_FIELD = struct.pack("<HHIIHH", 0x000D, 12 + 11, 0, 0, 0, 0) + b"/etc/passwd"
HOSTILE = {
    "climbing": ([(member("query/../../evil.jpg"), b"x")], "climbs out"),
    "absolute": ([(member("/absolute/evil.jpg"), b"x")], "absolute"),
    "drive": ([(member("C:/evil.jpg"), b"x")], "drive letter"),
    "backslash": ([(member("..\\evil.jpg"), b"x")], "backslash"),
    "symlink then file": (
        [(member("out", stat.S_IFLNK | 0o777), b"/tmp"), (member("out/evil.jpg"), b"x")],
        "symbolic link",
    ),
    "hard link": ([(member("query/0001_c3s1_1.jpg", extra=LINK_FIELD), b"x")], "hard link"),
    "long name": ([(member("query/0001_c1s1_" + "x" * 250 + ".jpg"), b"x")], "too long"),
    "long path": ([(member("query/" + "a/" * 2500 + "x.jpg"), b"x")], "too long"),
    "duplicate": ([(member(NAMES[0]), b"x")], "there twice"),
    "case clash": ([(member(NAMES[0].replace("jpg", "JPG")), b"x")], "letter case"),
    "device": ([(member("query/sda", stat.S_IFBLK | 0o644), b"")], "device"),
    "pipe": ([(member("query/pipe.jpg", stat.S_IFIFO | 0o644), b"")], "device, pipe"),
    "set-uid": ([(member("query/run.jpg", stat.S_IFREG | 0o4755), b"x")], "set-uid"),
    "NUL": ([(member("query/0001_c3s1_1.jpg\0.sh"), b"x")], "NUL"),
    "file and folder": ([(member("query/a"), b"x"), (member("query/a/b.jpg"), b"x")], "file and a folder"),
    "empty part": ([(member("query//b.jpg"), b"x")], "empty part"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_members_are_refused(tmp_path, kind):
    members, reason = HOSTILE[kind]
    path = archive(tmp_path / "data.zip", *members)
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(DataError) as caught:
        prepare("market1501", path, tmp_path / "out")
    assert reason in str(caught.value) and str(path) in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    assert not Path("/absolute/evil.jpg").exists() and not (tmp_path.parent / "evil.jpg").exists()


def test_the_same_archive_without_the_hostile_member_is_fine(tmp_path):
    done = prepare("market1501", archive(tmp_path / "data.zip"), tmp_path / "out")
    assert done.counts["train_all"] == (2, 1)


def test_links_to_other_kinds_in_the_extra_field_are_no_links(tmp_path):
    plain = struct.pack("<HHIIHH", 0x000D, 12, 0, 0, 0, 0)  # times and owner only
    path = archive(tmp_path / "data.zip", (member("query/0001_c3s1_1.jpg", extra=plain), b"x"))
    assert prepare("market1501", path, tmp_path / "out").counts["query"] == (2, 1)


def test_bombs_are_refused_before_they_go_off(tmp_path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("query/0001_c1s1_0.jpg", bytes(4 << 20))
    assert path.stat().st_size < 10_000
    with pytest.raises(DataError, match="grows more than 200 times"):
        Archive.open(path)
    with pytest.raises(DataError, match="unpacks to more than 1,000 bytes"):
        Archive.open(archive(tmp_path / "big.zip", (member("x.bin"), bytes(1001))), Limits(total=1000))
    with pytest.raises(DataError, match="4 members, more than 3"):
        Archive.open(archive(tmp_path / "many.zip"), Limits(count=3))
    assert Archive.open(archive(tmp_path / "few.zip"), Limits(count=4)).size(NAMES[3]) == len(NAMES[3])


def patched(path: Path, old: bytes, new: bytes, where: bytes) -> Path:
    """Replace bytes of the central directory entry that follows ``where``."""
    content = bytearray(path.read_bytes())
    start = content.rindex(where)
    position = content.rindex(old, 0, start + len(where))
    content[position : position + len(old)] = new
    path.write_bytes(content)
    return path


def test_a_member_that_is_longer_than_announced_stops(tmp_path):
    path = tmp_path / "liar.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in NAMES:
            packed.writestr(name, bytes(100_000) if name == NAMES[3] else name.encode())
    patched(path, struct.pack("<I", 100_000), struct.pack("<I", 10), NAMES[3].encode())
    with pytest.raises(DataError, match="damaged"):
        prepare("market1501", path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_damage_inside_is_found_before_anything_is_written(tmp_path):
    path = archive(tmp_path / "data.zip")
    content = bytearray(path.read_bytes())
    position = content.index(NAMES[3].encode()) + len(NAMES[3])  # first byte of its data: stored, so its name again
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        prepare("market1501", path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.6, 0.9, 0.99])
def test_cut_archives(tmp_path, keep):
    content = archive(tmp_path / "data.zip").read_bytes()
    (tmp_path / "data.zip").write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(DataError, match="cannot be read|not a zip|damaged"):
        prepare("market1501", tmp_path / "data.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_every_flipped_byte_is_refused_or_harmless(tmp_path):
    """Damage anywhere gives a DataError or the very same images; never another exception, never other bytes."""
    content = archive(tmp_path / "data.zip").read_bytes()
    for position in range(len(content)):
        bad = bytearray(content)
        bad[position] ^= 0x55 if position % 2 else 0xFF
        path = tmp_path / "bad.zip"
        path.write_bytes(bad)
        try:
            opened = Archive.open(path)
            for name in opened.members:
                data = b"".join(opened.stream(name))
                assert data.decode() in NAMES
        except DataError:
            continue


def test_encrypted_members_are_refused(tmp_path):
    path = archive(tmp_path / "data.zip")
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        content[content.index(mark) + offset] |= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="encrypted"):
        prepare("market1501", path, tmp_path / "out")


def test_other_compressions_are_refused(tmp_path):
    path = tmp_path / "data.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as packed:
        packed.writestr(NAMES[0], b"x" * 100)
    with pytest.raises(DataError, match="stored and deflated"):
        Archive.open(path)


@pytest.mark.parametrize(("name", "content"), [("a.zip", b""), ("a.zip", b"hello"), ("a.jpg", b"\xff\xd8\xff")])
def test_what_is_no_zip(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match="not a zip"):
        prepare("market1501", tmp_path / name, tmp_path / "out")


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.7z"])
def test_other_archives_are_to_be_unpacked(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match="Unpack it"):
        prepare("market1501", tmp_path / name, tmp_path / "out")


def test_the_name_in_the_local_header_must_agree(tmp_path):
    path = archive(tmp_path / "data.zip")
    content = path.read_bytes()
    first = content.index(NAMES[0].encode())
    path.write_bytes(content[:first] + b"X" + content[first + 1 :])
    with pytest.raises(DataError, match="damaged"):
        prepare("market1501", path, tmp_path / "out")


def test_a_zip_is_never_unpacked_by_its_names(tmp_path, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("unpacked")

    for name in ("extract", "extractall", "_extract_member"):
        monkeypatch.setattr(zipfile.ZipFile, name, refuse)
    prepare("market1501", archive(tmp_path / "data.zip"), tmp_path / "out")
