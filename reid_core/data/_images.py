"""One image in, RGB pixels out; damaged, oversized and foreign files are named, never crashed on.

Only JPEG and PNG are read. Other decoders are a larger surface for damaged or hostile files, and no re-identification
data set needs them; a file of another format is refused by that format's name. What becomes of unusual images:

- grey, 1-bit, palette and CMYK are converted to RGB by Pillow's plain formulas, colour profiles are ignored;
- 16 bits a channel keep their high byte;
- transparent pixels are blended over white, as a page shows them;
- EXIF orientation is applied: pixels stand as a viewer shows them; an unreadable EXIF block counts as none;
- of an animated PNG or a multi-picture JPEG the first picture counts.
"""

from __future__ import annotations

import hashlib
import io
import math
import stat
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from reid_core.errors import DataError, UsageError
from reid_core.plugins import closest

MAX_PIXELS = 50_000_000
"""Larger images are refused before they are decoded: no crop is that large, a decompression bomb is."""
MAX_BYTES = 512 * 2**20
"""Larger files are refused unread: 50 megapixels with 16 bits in 4 channels, not compressed at all, are 400 MB."""
MAX_SCAN_PIXELS = 1_500_000_000
"""Pixels times scans of a progressive JPEG: a few kilobytes of empty scans can keep a decoder busy for hours."""

_FORMATS = ("JPEG", "PNG")
_FOREIGN = (
    (b"GIF8", "a GIF image"),
    (b"BM", "a BMP image"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"SIMPLE  =", "a FITS file"),
    (b"%PDF", "a PDF document"),
    (b"\x1f\x8b", "a gzip file"),
    (b"PK\x03\x04", "a zip archive"),
    (b"version https://git-lfs", "a Git LFS pointer in place of the image (run git lfs pull)"),
    (b"<", "a web page or XML file, perhaps an error page saved by a download"),
)
_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class BadImage:
    """A file that cannot be used, and why, in words that follow "because it is/has ..." or stand alone."""

    path: Path
    reason: str


@dataclass(frozen=True)
class ImageFacts:
    """What one full decode tells.

    Attributes:
        path: the file.
        width, height: pixels as stored upright; 0 where the image is bad.
        sha256: of the file's bytes, hexadecimal; "" where it could not be read at all.
        reason: why the image is bad; "" where it is sound.
    """

    path: Path
    width: int
    height: int
    sha256: str
    reason: str


def load_image(path: str | Path) -> Image.Image:
    """Decode one JPEG or PNG file to an upright RGB image of 8 bits a channel.

    Args:
        path: a regular file (a link to one is followed).

    Returns:
        A fully loaded image in mode ``RGB``; no file is left open.

    Raises:
        DataError: missing, empty, damaged, truncated, of another format, or above ``MAX_PIXELS``; the message names
            file and reason.
    """
    try:
        return decode(_read(Path(path)))
    except _BadImage as error:
        raise DataError(
            f"image {path} cannot be used: {error}. Replace or remove the file, or go on without such images by "
            "--on_bad_image skip; reid-core doctor lists all of them."
        ) from error


def decode(data: bytes) -> Image.Image:
    """``load_image`` for bytes already read; problems are ``ValueError`` with the bare reason."""
    with _strict_pillow:
        try:
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                _check_size(image, data)
                image.load()
                return _upright(_to_rgb(image), image)
        except _BadImage:
            raise
        except UnidentifiedImageError as error:
            raise _BadImage(_what_is_it(data)) from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise _BadImage(f"it has more than {MAX_PIXELS / 1e6:.0f} megapixels") from error
        except MemoryError:
            raise
        except Exception as error:  # whatever a decoder raises on foreign bytes, the image is what is wrong
            raise _BadImage(f"it is damaged or truncated ({error or type(error).__name__})") from error


def examine_images(paths: Sequence[str | Path], progress: Progress | None = None, workers: int = 0) -> list[ImageFacts]:
    """Decode every image in full and keep size, checksum and verdict.

    Args:
        paths: files; the result has the same order and length.
        progress: called with (done, total).
        workers: threads; 0 works in the calling thread. Pillow decodes outside the interpreter's lock.
    """
    if workers < 0:
        raise UsageError(f"workers must be 0 or more, got {workers}")
    facts: list[ImageFacts] = []
    with _strict_pillow:
        if workers == 0:
            for path in paths:
                facts.append(_examine(path))
                _tick(progress, len(facts), len(paths))
            return facts
        with ThreadPoolExecutor(workers) as pool:
            # A task is 32 files, as one alone is over before the next thread wakes; rounds, so that Ctrl-C waits for
            # one round and not for the whole data set.
            for start in range(0, len(paths), 32 * workers):
                tasks = [paths[i : i + 32] for i in range(start, min(start + 32 * workers, len(paths)), 32)]
                for done in pool.map(lambda task: [_examine(path) for path in task], tasks):
                    facts.extend(done)
                _tick(progress, len(facts), len(paths))
    return facts


def check_images(paths: Sequence[str | Path], progress: Progress | None = None, workers: int = 0) -> list[BadImage]:
    """Every image that ``load_image`` would refuse, in the order of ``paths``; all are decoded, none stops the work.

    Args:
        paths: files.
        progress: called with (done, total).
        workers: threads; 0 works in the calling thread.
    """
    return [BadImage(f.path, f.reason) for f in examine_images(paths, progress, workers) if f.reason]


def settle_bad_images(
    bad: Sequence[BadImage], total: int, on_bad_image: str = "error", max_bad_images: float = 0.01
) -> frozenset[Path]:
    """What ``--on_bad_image`` and ``--max_bad_images`` make of the bad images among ``total``.

    Args:
        bad: from ``check_images``.
        total: number of images that were checked.
        on_bad_image: ``error`` stops at the first bad image (all are named), ``skip`` leaves them out.
        max_bad_images: with ``skip``, the largest share of ``total`` that may be left out, in [0, 1].

    Returns:
        The paths to leave out; empty where nothing is bad.

    Raises:
        UsageError: another word than ``error`` or ``skip``, or a share outside [0, 1].
        DataError: bad images and ``error``; or more than the share allows; or nothing would be left.
    """
    if on_bad_image not in ("error", "skip"):
        hint = closest(on_bad_image, ("error", "skip"))
        raise UsageError(f"--on_bad_image is either error or skip, got {on_bad_image!r}.{hint}")
    if not 0 <= max_bad_images <= 1:  # also refuses NaN
        raise UsageError(f"--max_bad_images is a share in [0, 1], got {max_bad_images}")
    if not bad:
        return frozenset()
    named = f"{len(bad)} of {total} images cannot be used: {name_bad_images(bad)}."
    if on_bad_image == "error":
        raise DataError(f"{named} Replace or remove them, or train without them by --on_bad_image skip.")
    allowed = min(math.floor(max_bad_images * total + 1e-9), total - 1)
    if len(bad) > allowed:
        raise DataError(
            f"{named} --max_bad_images {max_bad_images:g} allows {allowed} of "
            f"{total}: more usually mean an interrupted copy or download. Mend them, or raise --max_bad_images."
        )
    return frozenset(b.path for b in bad)


def name_bad_images(bad: Sequence[BadImage], limit: int = 500) -> str:
    """``a.jpg (reason); b.jpg (reason)``; beyond ``limit`` only their number."""
    named = "; ".join(f"{b.path} ({b.reason})" for b in bad[:limit])
    return named + (f"; and {len(bad) - limit} more (reid-core doctor --json names them)" if len(bad) > limit else "")


class _BadImage(ValueError):
    """The bare reason; who raises it does not know the file's name."""


class _StrictPillow:
    """Pillow's warnings are errors and half files are refused inside; afterwards all is as it was.

    Both settings belong to the process, not to a thread: the first thread in saves them, the last one out restores
    them. Saving and restoring in every thread would leave one thread's settings behind for good.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._filters: warnings.catch_warnings[None] = warnings.catch_warnings()
        self._half_files = False

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside > 1:
                return
            self._filters = warnings.catch_warnings()
            self._filters.__enter__()
            for category in (UserWarning, RuntimeWarning):
                warnings.filterwarnings("error", category=category, module=r"PIL(\.|$)")
            self._half_files = ImageFile.LOAD_TRUNCATED_IMAGES
            ImageFile.LOAD_TRUNCATED_IMAGES = False

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                ImageFile.LOAD_TRUNCATED_IMAGES = self._half_files
                self._filters.__exit__(None, None, None)


_strict_pillow = _StrictPillow()


def _tick(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None:
        progress(min(done, total), total)


def _examine(path: str | Path) -> ImageFacts:
    path = Path(path)
    try:
        data = _read(path)
    except _BadImage as error:
        return ImageFacts(path, 0, 0, "", str(error))
    checksum = hashlib.sha256(data).hexdigest()
    try:
        image = decode(data)
    except _BadImage as error:
        return ImageFacts(path, 0, 0, checksum, str(error))
    return ImageFacts(path, image.width, image.height, checksum, "")


def _read(path: Path) -> bytes:
    """The bytes of a regular file; opening a pipe or a device would wait for ever."""
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_BYTES:
            return path.read_bytes()
    except FileNotFoundError as error:
        raise _BadImage("it is a link to nothing" if path.is_symlink() else "there is no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise _BadImage(f"it cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if stat.S_ISREG(status.st_mode):
        raise _BadImage(f"it has {status.st_size} bytes, more than {MAX_BYTES}")
    raise _BadImage("it is a folder" if stat.S_ISDIR(status.st_mode) else "it is not a regular file")


def _check_size(image: Image.Image, data: bytes) -> None:
    """Refuse what would take too much memory or time; the pixels are not decoded yet."""
    pixels = image.width * image.height
    if pixels > MAX_PIXELS:
        raise _BadImage(f"it has {image.width} x {image.height} pixels, more than {MAX_PIXELS / 1e6:.0f} megapixels")
    scans = data.count(b"\xff\xda") if image.format != "PNG" else 1
    if pixels * scans > MAX_SCAN_PIXELS:
        raise _BadImage(f"it stores its {image.width} x {image.height} pixels in {scans} scans")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey: I;16 and its byte orders, plain I in older Pillow
        high_byte = np.asarray(image).astype(np.int64) >> 8
        return Image.fromarray(high_byte.clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "white")
        opaque.alpha_composite(image.convert("RGBA"))
        return opaque.convert("RGB")
    return image.convert("RGB")


def _upright(rgb: Image.Image, original: Image.Image) -> Image.Image:
    try:
        turn = _UPRIGHT.get(original.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - the block is damaged, the pixels are not; a viewer shows them as stored
        turn = None
    return rgb if turn is None else rgb.transpose(turn)


def _what_is_it(data: bytes) -> str:
    """Why ``data`` is neither JPEG nor PNG, as helpfully as its first bytes allow."""
    if not data:
        return "it is empty (0 bytes)"
    if not data.strip(b"\0"):
        return f"it holds nothing but {len(data)} zero bytes, as an interrupted copy leaves"
    kind = next((name for start, name in _FOREIGN if data.startswith(start)), "")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind = "a WebP image"
    if data[4:8] == b"ftyp":
        kind = "a HEIC, AVIF or video file"
    if kind:
        return f"it is {kind}; only JPEG and PNG are read"
    if data.startswith((b"\xff\xd8", b"\x89PNG")):
        return "its header is damaged or cut off"
    return "it is neither a JPEG nor a PNG image"
