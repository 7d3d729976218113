"""Images: odd ones have a defined outcome, damaged and hostile ones are named and never hang or crash."""

from __future__ import annotations

import hashlib
import io
import os
import random
import re
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from reid_core.data._images import (
    BadImage,
    check_images,
    decode,
    examine_images,
    load_image,
    name_bad_images,
    settle_bad_images,
)
from reid_core.errors import DataError, UsageError

HANG = 20.0
"""Seconds; a decode of a thumbnail takes a millisecond."""


def encoded(image: Image.Image, form: str = "JPEG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG by the letter of its specification, independent of Pillow's writer."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def photo(width: int = 32, height: int = 64, seed: int = 0) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 255, (8, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


RED = Image.new("RGB", (4, 6), (255, 0, 0))
TOP_LEFT_RED = Image.new("RGB", (2, 3), (0, 0, 255))
TOP_LEFT_RED.putpixel((0, 0), (255, 0, 0))


def rotated(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(TOP_LEFT_RED, "PNG", exif=exif)


SOUND = {
    # name: (bytes, expected size, (x, y), expected colour there, tolerance)
    "jpeg": (encoded(RED, quality=95), (4, 6), (1, 1), (255, 0, 0), 3),
    "progressive": (encoded(RED, quality=95, progressive=True), (4, 6), (1, 1), (255, 0, 0), 3),
    "grey jpeg": (encoded(Image.new("L", (4, 6), 77), quality=95), (4, 6), (1, 1), (77, 77, 77), 2),
    # No ink but a quarter of black: three quarters of white are left.
    "cmyk jpeg": (encoded(Image.new("CMYK", (4, 6), (0, 0, 0, 64)), quality=95), (4, 6), (1, 1), (191, 191, 191), 3),
    "one bit": (png(8, 1, 1, 0, b"\0\x7f"), (8, 1), (1, 0), (255, 255, 255), 0),
    "grey 16 bit": (png(1, 1, 16, 0, b"\0\x12\xff"), (1, 1), (0, 0), (0x12, 0x12, 0x12), 0),
    "rgb 16 bit": (png(1, 1, 16, 2, b"\0\x12\xff\x34\x00\x56\x80"), (1, 1), (0, 0), (0x12, 0x34, 0x56), 0),
    "palette": (png(1, 1, 8, 3, b"\0\1", chunk(b"PLTE", b"\0\0\0\x0a\x14\x1e")), (1, 1), (0, 0), (10, 20, 30), 0),
    "palette, clear": (
        png(1, 1, 8, 3, b"\0\1", chunk(b"PLTE", b"\0\0\0\x0a\x14\x1e") + chunk(b"tRNS", b"\xff\0")),
        (1, 1),
        (0, 0),
        (255, 255, 255),
        0,
    ),
    "grey and alpha": (png(1, 1, 8, 4, b"\0\x64\xff"), (1, 1), (0, 0), (100, 100, 100), 0),
    "alpha, clear": (png(1, 1, 8, 6, b"\0\x0a\x14\x1e\0"), (1, 1), (0, 0), (255, 255, 255), 0),
    # 0.2 of the colour over 0.8 of white: 10 * 0.2 + 255 * 0.8 = 206, and so on.
    "alpha, a fifth": (png(1, 1, 8, 6, b"\0\x0a\x14\x1e\x33"), (1, 1), (0, 0), (206, 208, 210), 1),
    "one colour clear": (
        png(1, 1, 8, 2, b"\0\x0a\x14\x1e", chunk(b"tRNS", b"\0\x0a\0\x14\0\x1e")),
        (1, 1),
        (0, 0),
        (255, 255, 255),
        0,
    ),
    # Orientation 6: turn the stored picture a quarter clockwise; its top left goes to the top right.
    "exif 6": (rotated(6), (3, 2), (2, 0), (255, 0, 0), 0),
    "exif 3": (rotated(3), (2, 3), (1, 2), (255, 0, 0), 0),
    "exif 8": (rotated(8), (3, 2), (0, 1), (255, 0, 0), 0),
    "exif 2": (rotated(2), (2, 3), (1, 0), (255, 0, 0), 0),
    "exif 4": (rotated(4), (2, 3), (0, 2), (255, 0, 0), 0),
    "exif 5": (rotated(5), (3, 2), (0, 0), (255, 0, 0), 0),
    "exif 7": (rotated(7), (3, 2), (2, 1), (255, 0, 0), 0),
    "exif nonsense": (rotated(99), (2, 3), (0, 0), (255, 0, 0), 0),
    "rubbish after the end": (encoded(RED, quality=95) + b"rubbish" * 9, (4, 6), (1, 1), (255, 0, 0), 3),
}

JPEG = encoded(photo(), quality=90)
PNG = encoded(photo(), "PNG")
BOMB = png(65_000, 65_000, 8, 2, b"\0" * 1000)

BAD = {
    "empty": (b"", "empty"),
    "zeros": (b"\0" * 4096, "zero bytes"),
    "half a jpeg": (JPEG[: len(JPEG) // 2], "truncated"),
    "jpeg without its last tenth": (JPEG[: len(JPEG) * 9 // 10], "truncated"),
    "jpeg header alone": (JPEG[:20], "header"),
    "half a png": (PNG[: len(PNG) // 2], "truncated"),
    "png header alone": (PNG[:30], "header"),
    "png with a wrong checksum": (PNG[:29] + bytes([PNG[29] ^ 1]) + PNG[30:], "header"),
    "text": (b"not an image at all", "neither"),
    "web page": (b"<!DOCTYPE html><html>404</html>", "web page"),
    "lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "git lfs pull"),
    "gif": (encoded(RED, "GIF"), "GIF"),
    "bmp": (encoded(RED, "BMP"), "BMP"),
    "tiff": (encoded(RED, "TIFF"), "TIFF"),
    "webp": (encoded(RED, "WEBP"), "WebP"),
    "fits": (b"SIMPLE  =                    T".ljust(2880), "FITS"),
    "bomb": (BOMB, "65000 x 65000|50 megapixels"),
    "just above the cap": (png(10_000, 5_001, 8, 0, b"\0" * 1000), "10000 x 5001"),
    "pillow only warns": (png(10_000, 10_000, 8, 0, b"\0" * 1000), "megapixels"),
    "gif frames": (
        encoded(RED, "GIF", save_all=True, append_images=[Image.new("RGB", (4, 6), (0, i, 0)) for i in range(30)]),
        "GIF",
    ),
}


@pytest.mark.parametrize("name", SOUND)
def test_odd_but_sound(name: str, tmp_path: Path) -> None:
    data, size, at, colour, tolerance = SOUND[name]
    path = tmp_path / "a.jpg"  # the content decides, not the name
    path.write_bytes(data)
    image = load_image(path)
    assert image.mode == "RGB"
    assert image.size == size
    pixel = image.getpixel(at)
    assert isinstance(pixel, tuple)
    assert max(abs(a - b) for a, b in zip(pixel, colour)) <= tolerance
    assert check_images([path]) == []


@pytest.mark.parametrize("name", BAD)
def test_bad_is_named_with_its_reason(name: str, tmp_path: Path) -> None:
    data, reason = BAD[name]
    path = tmp_path / "some crop.jpg"
    path.write_bytes(data)
    start = time.perf_counter()
    with pytest.raises(DataError) as error:
        load_image(path)
    assert time.perf_counter() - start < HANG
    assert str(path) in str(error.value)
    assert re.search(reason, str(error.value)), str(error.value)
    assert "BytesIO" not in str(error.value)
    assert [b.path for b in check_images([path])] == [path]


def test_the_cap_itself_is_allowed() -> None:
    rows = (b"\0" + b"\0" * 1250) * 5000
    assert decode(png(10_000, 5_000, 1, 0, rows)).size == (10_000, 5_000)


def test_jpeg_of_a_thousand_scans_is_refused_before_decoding() -> None:
    """Copies of the last scan of a progressive file: legal, small, and each walks over every pixel again."""
    data = encoded(Image.new("L", (4000, 4000), 9), quality=30, progressive=True)
    last = data.rfind(b"\xff\xda")
    data = data[:-2] + data[last:-2] * 1000 + data[-2:]
    start = time.perf_counter()
    with pytest.raises(ValueError, match="scans"):
        decode(data)
    assert time.perf_counter() - start < HANG


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_what_is_not_a_file(tmp_path: Path) -> None:
    pipe, folder, dead, missing = (tmp_path / n for n in ("pipe.jpg", "folder.jpg", "dead.jpg", "missing.jpg"))
    os.mkfifo(pipe)
    folder.mkdir()
    dead.symlink_to(tmp_path / "nowhere")
    found = check_images([pipe, folder, dead, missing, "a\0b.jpg", tmp_path / ("x" * 300)])
    assert [b.reason.split(" (")[0] for b in found] == [
        "it is not a regular file",
        "it is a folder",
        "it is a link to nothing",
        "there is no such file",
        "it cannot be read",
        "it cannot be read",
    ]


def test_names_with_escapes_spaces_and_unicode(tmp_path: Path) -> None:
    good = tmp_path / "été 行人 .jpg"
    good.write_bytes(JPEG)
    assert load_image(good).size == (32, 64)
    evil = tmp_path / "\x1b[2J\n[INFO] fake.jpg"
    evil.write_bytes(b"")
    with pytest.raises(DataError) as error:
        load_image(evil)
    assert "\x1b" not in str(error.value) and "\n" not in str(error.value)
    assert "\\x1b[2J\\n[INFO] fake.jpg" in str(error.value)


def test_bomb_takes_no_memory_to_refuse(tmp_path: Path) -> None:
    """Peak resident memory of a child that decodes a sound image, then the bomb and its kin."""
    for name, data in (("good.jpg", JPEG), ("bomb.png", BOMB), ("frames.gif", BAD["gif frames"][0])):
        (tmp_path / name).write_bytes(data)
    code = (
        "import resource, sys, time\n"
        "from reid_core.data._images import check_images\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "assert check_images(['good.jpg']) == []\n"
        "before, start = peak(), time.perf_counter()\n"
        "assert len(check_images(['bomb.png', 'frames.gif'])) == 2\n"
        "print(time.perf_counter() - start, (peak() - before) / 1024)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    seconds, mebibytes = map(float, done.stdout.split())
    assert seconds < 20 * 0.1
    assert mebibytes <= 64


def test_truncated_is_refused_even_where_someone_allowed_half_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(ValueError, match="truncated"):
        decode(BAD["half a jpeg"][0])
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_no_global_state_is_left_changed(tmp_path: Path) -> None:
    """Eight threads start and end decoding at different times; filters and Pillow's switch are as before."""
    paths = []
    for i, name in enumerate(["half a jpeg", "bomb", "pillow only warns", "gif"] * 5):
        paths.append(tmp_path / f"{i}.png")
        paths[-1].write_bytes(BAD[name][0] if i % 3 else JPEG)
    before = list(warnings.filters)

    def work() -> None:
        for path in paths:
            try:
                load_image(path)
            except DataError:
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_warnings_do_not_reach_the_screen(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(ValueError, match="megapixels"):
            decode(BAD["pillow only warns"][0])
    assert caught == []


def flipped(data: bytes, seed: int) -> bytes:
    """1 to 20 bytes anywhere replaced; now and then a piece is cut out or the end is missing."""
    rng = random.Random(seed)
    changed = bytearray(data)
    for _ in range(rng.randint(1, 20)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    if seed % 5 == 0:
        at = rng.randrange(len(changed))
        del changed[at : at + rng.randrange(60)]
    if seed % 7 == 0:
        del changed[rng.randrange(2, len(changed)) :]
    return bytes(changed)


KINDS = {
    "baseline": JPEG,
    "progressive": encoded(photo(), quality=90, progressive=True),
    "with exif": encoded(photo(), quality=90, exif=Image.Exif()),
    "png": PNG,
}


def mutate(count: int, folder: Path) -> None:
    paths = []
    for seed in range(count):
        paths.append(folder / f"{seed}.jpg")
        paths[-1].write_bytes(flipped(list(KINDS.values())[seed % 4], seed))
    verdicts = {b.path for b in check_images(paths)}
    slowest = 0.0
    for path in paths:
        start = time.perf_counter()
        try:
            load_image(path)
            sound = True
        except DataError as error:
            sound = False
            assert str(path) in str(error)
        slowest = max(slowest, time.perf_counter() - start)
        assert sound == (path not in verdicts)
    assert slowest < HANG, f"a decode took {slowest:.2f} s"
    assert len(verdicts) > count // 10


def test_flipped_bytes_neither_hang_nor_crash(tmp_path: Path) -> None:
    mutate(400, tmp_path)


@pytest.mark.slow
def test_ten_thousand_flipped(tmp_path: Path) -> None:
    mutate(10_000, tmp_path)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_all_bad_ones_in_order_and_progress(tmp_path: Path, workers: int) -> None:
    paths = []
    for i in range(250):
        paths.append(tmp_path / f"{i:03}.jpg")
        paths[-1].write_bytes(b"" if i % 50 == 7 else JPEG)
    ticks: list[tuple[int, int]] = []
    bad = check_images(paths, progress=lambda done, total: ticks.append((done, total)), workers=workers)
    assert [b.path.name for b in bad] == ["007.jpg", "057.jpg", "107.jpg", "157.jpg", "207.jpg"]
    assert ticks[-1] == (250, 250)
    assert ticks == sorted(ticks)


def test_facts(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(rotated(6))
    (tmp_path / "b.jpg").write_bytes(b"junk")
    turned, junk, gone = examine_images([tmp_path / "a.jpg", tmp_path / "b.jpg", tmp_path / "c.jpg"])
    assert (turned.width, turned.height, turned.reason) == (3, 2, "")
    assert turned.sha256 == hashlib.sha256(rotated(6)).hexdigest()
    assert (junk.width, junk.sha256) == (0, hashlib.sha256(b"junk").hexdigest())
    assert gone.sha256 == "" and gone.reason


def test_policy() -> None:
    bad = [BadImage(Path(f"{i}.jpg"), "it is empty (0 bytes)") for i in range(3)]
    assert settle_bad_images([], 10) == frozenset()
    assert settle_bad_images([], 0) == frozenset()
    with pytest.raises(DataError, match=r"3 of 300 .*0\.jpg .*1\.jpg .*2\.jpg .*--on_bad_image skip"):
        settle_bad_images(bad, 300)
    assert settle_bad_images(bad, 300, "skip") == {b.path for b in bad}  # exactly one percent
    with pytest.raises(DataError, match=r"--max_bad_images 0\.01 allows 2 of 299"):
        settle_bad_images(bad, 299, "skip")
    with pytest.raises(DataError):
        settle_bad_images(bad, 3, "skip", 1.0)  # nothing would be left
    with pytest.raises(UsageError, match="Did you mean 'skip'"):
        settle_bad_images(bad, 300, "skp")
    for share in (-0.1, 1.5, float("nan")):
        with pytest.raises(UsageError, match="max_bad_images"):
            settle_bad_images([], 300, "skip", share)
    assert "and 1 more" in name_bad_images(bad, limit=2)
    with pytest.raises(UsageError, match="workers"):
        check_images([], workers=-1)
