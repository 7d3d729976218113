"""Zip archives read in place; nothing is ever unpacked by the names they carry.

Every member is judged before the first byte is used, and counted again while it streams: regular files and folders
only, no links, devices or set-uid bits; no absolute, climbing, over-long or twice-used names; no more bytes, members
or expansion than ``Limits`` allow.
"""

from __future__ import annotations

import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from reid_core.errors import DataError

CHUNK = 1 << 20
_DAMAGE = (
    *(zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error),
    *(EOFError, NotImplementedError, OverflowError, OSError, RuntimeError, ValueError),
)
"""What the standard library raises on damaged or unreadable archives (RuntimeError: a password is wanted)."""
_HARD_LINK_FIELD = 0x000D
"""PKWARE's Unix extra field; whatever follows its 12 fixed bytes is the target of a link."""


@dataclass(frozen=True)
class Limits:
    """What an archive may hold.

    Attributes:
        total: bytes of all members together.
        ratio: bytes out for a byte in; members below ``small`` bytes are not asked.
        count: members.
        small: see ``ratio``.
    """

    total: int = 50 * 10**9
    ratio: int = 200
    count: int = 5_000_000
    small: int = 1 << 20


def _bad_name(info: zipfile.ZipInfo) -> str:
    """What is wrong with a member's name, or ""."""
    name = info.orig_filename
    parts = name.rstrip("/").split("/")
    if "\0" in name:
        return "its name holds a NUL"
    if "\\" in name:
        return "its name holds a backslash"
    if name.startswith("/"):
        return "its name is absolute"
    if re.match(r"[A-Za-z]:", name):
        return "its name begins with a drive letter"
    if ".." in parts:
        return "its name climbs out with '..'"
    if "" in parts or "." in parts:
        return "its name has an empty part"
    if max(len(part.encode("utf-8", "surrogateescape")) for part in parts) > 255 or len(name) > 4000:
        return "its name is too long"
    return ""


def _bad_kind(info: zipfile.ZipInfo) -> str:
    """What is wrong with the kind of a member, or ""."""
    mode = info.external_attr >> 16
    kind = stat.S_IFMT(mode)
    if kind == stat.S_IFLNK:
        return "it is a symbolic link"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "it is a device, pipe or socket"
    if mode & (stat.S_ISUID | stat.S_ISGID):
        return "it wants to run as another user (set-uid)"
    if _has_link_field(info.extra):
        return "it is a hard link"
    if info.flag_bits & 0x1:
        return "it is encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "it is compressed in a way that is not read (only stored and deflated are)"
    return ""


def _has_link_field(extra: bytes) -> bool:
    while len(extra) >= 4:
        kind, length = int.from_bytes(extra[:2], "little"), int.from_bytes(extra[2:4], "little")
        if kind == _HARD_LINK_FIELD and length > 12:
            return True
        extra = extra[4 + length :]
    return False


def _check(path: Path, infos: list[zipfile.ZipInfo], limits: Limits) -> None:
    """Refuse an archive for its first bad member.

    Raises:
        DataError: naming the archive, the member and the reason.
    """
    if len(infos) > limits.count:
        raise DataError(f"{path} has {len(infos):,} members, more than {limits.count:,}; it is refused.")
    seen: dict[str, str] = {}
    folders: set[str] = set()
    total = 0
    for info in infos:
        why = _bad_name(info) or _bad_kind(info)
        key = unicodedata.normalize("NFC", info.filename.rstrip("/")).casefold()
        if not why and not info.is_dir():
            if key in seen:
                twice = seen[key] == info.filename
                why = "it is there twice" if twice else f"its name differs from {seen[key]!r} in letter case only"
            seen[key] = info.filename
        total += info.file_size
        if not why and info.file_size > max(limits.small, limits.ratio * info.compress_size):
            why = f"it grows more than {limits.ratio} times when it is unpacked ({info.file_size:,} bytes)"
        if not why and total > limits.total:
            why = f"with it the archive unpacks to more than {limits.total:,} bytes"
        if why:
            raise DataError(
                f"{path}: member {info.orig_filename!r} is refused because {why}. Nothing was written. Get the archive "
                "from its source again, or unpack it by means you trust and name the folder."
            )
        parents = key.split("/")[:-1] if not info.is_dir() else key.split("/")
        folders.update("/".join(parents[: i + 1]) for i in range(len(parents)))
    for key in sorted(folders & seen.keys()):
        raise DataError(f"{path}: member {seen[key]!r} is refused because it is a file and a folder at once.")


@dataclass(frozen=True)
class Archive:
    """A checked zip as a source of files; ``top`` is the folder taken as its root, "" or ending in "/"."""

    path: Path
    zip: zipfile.ZipFile = field(repr=False)
    members: dict[str, zipfile.ZipInfo] = field(repr=False)
    tree: dict[str, tuple[set[str], list[str]]] = field(repr=False)
    top: str = ""

    @classmethod
    def open(cls, path: Path, limits: Limits | None = None) -> Archive:
        """Open and judge an archive.

        Raises:
            DataError: it is no zip, is damaged, or has a member that is refused.
        """
        try:
            opened = zipfile.ZipFile(path)
        except PermissionError:
            raise
        except _DAMAGE as error:
            raise DataError(
                f"{path} is not a zip archive that can be read ({error}); it may be cut short: compare its size."
            ) from error
        try:
            infos = opened.infolist()
            _check(path, infos, limits or Limits())
        except DataError:
            opened.close()
            raise
        tree: dict[str, tuple[set[str], list[str]]] = {"": (set(), [])}
        for info in infos:
            parts = info.filename.rstrip("/").split("/")
            for depth in range(len(parts)):
                folder = "/".join(parts[:depth])
                folders, files = tree.setdefault(folder, (set(), []))
                if depth < len(parts) - 1 or info.is_dir():
                    folders.add(parts[depth])
                else:
                    files.append(parts[depth])
            if info.is_dir():
                tree.setdefault("/".join(parts), (set(), []))
        return cls(path, opened, {info.filename: info for info in infos if not info.is_dir()}, tree)

    @property
    def where(self) -> str:
        return str(self.path) + (f" ({self.top})" if self.top else "")

    def entries(self, folder: str) -> tuple[list[str], list[str]] | None:
        found = self.tree.get((self.top + folder).rstrip("/"))
        return None if found is None else (sorted(found[0]), sorted(found[1]))

    def read_text(self, path: str) -> str:
        return b"".join(self.stream(path)).decode("utf-8-sig")

    def size(self, path: str) -> int:
        return self.members[self.top + path].file_size

    def tag(self, path: str) -> str:
        return f"{self.members[self.top + path].CRC:08x}"

    def stream(self, path: str) -> Iterator[bytes]:
        """The member's bytes; never more than its directory entry says.

        Raises:
            DataError: it is damaged or longer than announced.
        """
        info = self.members[self.top + path]
        done = 0
        try:
            with self.zip.open(info) as file:
                while piece := file.read(CHUNK):
                    done += len(piece)
                    if done > info.file_size:
                        raise DataError(f"{self.path}: member {info.filename!r} is longer than the archive says.")
                    yield piece
        except DataError:
            raise
        except _DAMAGE as error:
            raise DataError(
                f"{self.path}: member {info.filename!r} is damaged ({error}). Get the archive again."
            ) from error
        if done != info.file_size:
            raise DataError(
                f"{self.path}: member {info.filename!r} is damaged: {done} bytes where {info.file_size} were announced."
            )

    def on_disk(self, path: str) -> Path | None:
        return None

    def below(self, folder: str) -> Archive:
        return Archive(self.path, self.zip, self.members, self.tree, f"{self.top}{folder}/")

    def verify(self, paths: list[str]) -> None:
        """Read every member of ``paths`` once: damage is found before anything is written."""
        for path in paths:
            for _ in self.stream(path):
                pass
