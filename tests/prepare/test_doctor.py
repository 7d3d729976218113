"""Doctor: every planted fault is found, named, weighed and mended in words; sound data pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from reid_core.data._images import ImageFacts
from reid_core.errors import UsageError
from reid_core.prepare._findings import CODES
from reid_core.prepare.doctor import DoctorReport, Finding, diagnose, image_paths, why_no_match
from reid_core.types import Sample, Split

ROOT = Path("/data")


def split_of(train: str = "", query: str = "", gallery: str = "", protocol: str = "market1501") -> Split:
    """``"7@1 7@2:junk"`` is pid 7 under camera 1, and junk with that pid under camera 2."""

    def samples(part: str, text: str) -> tuple[Sample, ...]:
        made = []
        for i, word in enumerate(text.split()):
            who, _, role = word.partition(":")
            pid, camid = map(int, who.split("@"))
            made.append(Sample(f"{part}/{i:03}.jpg", pid, camid, role or "identity"))  # type: ignore[arg-type]
        return tuple(made)

    return Split(
        "manifest", ROOT, "", samples("train", train), samples("query", query), samples("gallery", gallery), protocol
    )


def facts_of(split: Split, changes: dict[str, ImageFacts | str] | None = None) -> list[ImageFacts]:
    """Sound and different images of 64 x 128, but for ``changes``: other facts, or another image's path to be like."""
    facts = {p: ImageFacts(p, 64, 128, f"sha of {p}", "") for p in image_paths(split)}
    for name, change in (changes or {}).items():
        path = ROOT / name
        facts[path] = (
            change if isinstance(change, ImageFacts) else ImageFacts(path, 64, 128, f"sha of {ROOT / change}", "")
        )
    return list(facts.values())


def found(report: DoctorReport) -> dict[str, Finding]:
    return {f.code: f for f in report.findings}


SOUND = split_of("1@0 1@1 2@0 2@1", "3@0 3@1 4@0", "3@0 3@1 4@1 9@0:distractor -1@0:junk")


def test_sound_data() -> None:
    report = diagnose(SOUND, facts_of(SOUND))
    assert report.findings == () and report.fit
    assert report.counts["train"] == {"images": 4, "identities": 2, "cameras": 2, "junk": 0, "distractors": 0}
    assert report.counts["gallery"] == {"images": 5, "identities": 2, "cameras": 2, "junk": 1, "distractors": 1}
    assert report.sizes == {"width": (64, 64, 64), "height": (128, 128, 128)}
    assert report.to_json()["fit"] is True


@pytest.mark.parametrize(
    ("train", "query", "gallery", "protocol", "codes", "fit"),
    [
        ("1@0 1@1 2@0 2@1", "", "", "market1501", {"no_test"}, True),
        ("", "3@0", "3@1", "market1501", {"no_train"}, False),
        ("1@0 1@1", "3@0", "3@1", "market1501", {"one_train_identity"}, False),
        ("1@0 1@1 2@0 2@1", "3@0", "", "market1501", {"no_gallery"}, False),
        ("1@0 1@1 2@0 2@1", "", "3@0", "market1501", {"no_query"}, False),
        ("1@0 1@1 2@0 2@1", "2@0", "2@1", "market1501", {"identity_in_train_and_test"}, False),
        ("1@0 1@1 2@0 2@1", "3@0", "3@1 2@0", "market1501", {"identity_in_train_and_test"}, False),
        ("1@0 1@1 2@0", "3@0", "3@1", "market1501", {"identity_with_one_image"}, True),
        ("1@0 1@1 2@0 2@0", "3@0", "3@1", "market1501", {"identity_with_one_camera"}, True),
        ("1@-1 1@-1 2@-1 2@-1", "3@-1", "3@-1", "any-camera", set(), True),
        ("1@0 1@1 2@0 2@1", "3@0 4@0", "3@1", "market1501", {"query_identity_not_in_gallery"}, True),
        ("1@0 1@1 2@0 2@1", "3@0 4@0", "3@1 4@0 4@0", "market1501", {"query_only_same_camera"}, True),
        ("1@0 1@1 2@0 2@1", "3@0 4@0", "3@1 4@0 4@0", "any-camera", set(), True),
        ("1@0 1@1 2@0 2@1", "3@0 4@0", "3@1 4@1:junk", "market1501", {"query_only_junk"}, True),
        ("1@0 1@1 2@0 2@1", "3@0 4@0", "3@1 4@1:distractor", "any-camera", {"query_only_junk"}, True),
        ("1@0 1@1 2@0 2@1", "3@0 4@0", "3@1 4@0 4@1:junk", "market1501", {"query_only_same_camera"}, True),
        ("1@0 1@1 2@0 2@1", "3@0", "3@0", "market1501", {"query_only_same_camera", "no_query_has_a_match"}, False),
        (
            "1@0 1@1 2@0 2@1",
            "3@0",
            "4@0",
            "any-camera",
            {"query_identity_not_in_gallery", "no_query_has_a_match"},
            False,
        ),
    ],
)
def test_records_alone(train: str, query: str, gallery: str, protocol: str, codes: set[str], fit: bool) -> None:
    split = split_of(train, query, gallery, protocol)
    report = diagnose(split, facts_of(split))
    assert set(found(report)) == codes
    assert report.fit == fit
    assert all(f.mend and f.examples and "{}" not in f.text for f in report.findings)


def test_every_dropped_query_is_named_with_its_rule() -> None:
    split = split_of("1@0 1@1 2@0 2@1", "3@0 4@0 5@0 6@0 5@1", "3@1 5@0 5@0 6@0:junk")
    report = found(diagnose(split, facts_of(split)))
    assert report["query_identity_not_in_gallery"].examples == ("query/001.jpg (pid 4, camera 0)",)
    assert report["query_only_same_camera"].examples == ("query/002.jpg (pid 5, camera 0)",)
    assert report["query_only_junk"].examples == ("query/003.jpg (pid 6, camera 0)",)
    assert "no_query_has_a_match" not in report


def test_second_opinion_on_matches() -> None:
    """All small cases against the ranking rule, restated: drop junk, drop same pid and camera, look for the pid."""
    gallery_of = [Sample(f"{p}{c}{r}", p, c, r) for p in (1, 2) for c in (0, 1) for r in ("identity", "junk")]  # type: ignore[arg-type]
    for mask in range(256):
        gallery = [g for i, g in enumerate(gallery_of) if mask >> i & 1]
        for camid in (0, 1):
            query = Sample("q", 1, camid)
            kept = [g for g in gallery if g.role != "junk" and not (g.pid == 1 and g.camid == camid)]
            assert (why_no_match(query, gallery, "market1501") == "") == any(g.pid == 1 for g in kept)
            assert why_no_match(query, gallery, "cuhk03") == why_no_match(query, gallery, "market1501")
            any_camera = [g for g in gallery if g.role != "junk" and g.pid == 1]
            assert (why_no_match(query, gallery, "any-camera") == "") == bool(any_camera)


def test_images() -> None:
    bad = ROOT / "train/000.jpg"
    changes: dict[str, ImageFacts | str] = {
        "train/000.jpg": ImageFacts(bad, 0, 0, "e3b0", "it is empty (0 bytes)"),
        "train/001.jpg": ImageFacts(ROOT / "train/001.jpg", 0, 0, "e3b0", "it is empty (0 bytes)"),
        "train/002.jpg": ImageFacts(ROOT / "train/002.jpg", 15, 30, "x", ""),
    }
    report = diagnose(SOUND, facts_of(SOUND, changes))
    assert set(found(report)) == {"unreadable_image", "tiny_image"}  # two empty files are no duplicates
    assert found(report)["unreadable_image"].count == 2
    assert found(report)["unreadable_image"].examples[0] == f"{bad}: it is empty (0 bytes)"
    assert not report.fit
    assert report.sizes["width"] == (15, 64, 64)
    assert report.findings[0].level == "serious"


def test_lying_images() -> None:
    wide = {str(p.relative_to(ROOT)): ImageFacts(p, 128, 64, str(p), "") for p in image_paths(SOUND)}
    assert set(found(diagnose(SOUND, facts_of(SOUND, wide)))) == {"lying_images"}


@pytest.mark.parametrize(
    ("one", "other", "codes"),
    [
        ("train/000.jpg", "train/001.jpg", {"duplicate_within_identity"}),
        ("train/000.jpg", "train/002.jpg", {"duplicate_across_identities"}),
        ("train/000.jpg", "gallery/000.jpg", {"duplicate_across_identities", "duplicate_across_train_and_test"}),
        ("train/000.jpg", "gallery/004.jpg", {"duplicate_across_train_and_test"}),
        ("query/000.jpg", "gallery/001.jpg", {"duplicate_across_query_and_gallery"}),
        ("query/000.jpg", "gallery/003.jpg", {"duplicate_across_query_and_gallery"}),
        ("query/000.jpg", "gallery/002.jpg", {"duplicate_across_identities"}),
        ("gallery/000.jpg", "gallery/003.jpg", {"duplicate_of_junk_or_distractor"}),
        ("gallery/000.jpg", "gallery/004.jpg", {"duplicate_of_junk_or_distractor"}),
        ("gallery/000.jpg", "gallery/001.jpg", {"duplicate_within_identity"}),
    ],
)
def test_duplicates(one: str, other: str, codes: set[str]) -> None:
    report = diagnose(SOUND, facts_of(SOUND, {one: other}))
    assert set(found(report)) == codes
    assert report.fit == all(f.level != "serious" for f in report.findings)
    assert all(one in f.examples[0] and other in f.examples[0] for f in report.findings)


def test_protocol_is_checked_and_overrides() -> None:
    split = split_of("1@0 1@1 2@0 2@1", "3@0", "3@0")
    assert diagnose(split, facts_of(split), "any-camera").fit
    with pytest.raises(UsageError, match="Did you mean 'any-camera'"):
        diagnose(split, facts_of(split), "anycamera")
    with pytest.raises(ValueError, match="facts of 6 images are missing"):
        diagnose(split, [])


def classes_of(train: str, test: str = "") -> Split:
    """An image a letter: its class."""

    def samples(part: str, letters: str) -> tuple[Sample, ...]:
        return tuple(Sample(f"{part}/{i:03d}.jpg", "abc".index(c), -1) for i, c in enumerate(letters))

    return Split(
        "image_folder", ROOT, "train", samples("train", train), test=samples("test", test), class_names=("a", "b", "c")
    )


def test_class_folders() -> None:
    """Classes are trained on and tested alike, nobody searches, and nothing has to stand upright."""
    sound = classes_of("aabbcc", "abc")
    wide = {str(p.relative_to(ROOT)): ImageFacts(p, 128, 64, str(p), "") for p in image_paths(sound)}
    report = diagnose(sound, facts_of(sound, wide))
    assert report.findings == () and report.protocol == "classification"
    assert {part: counts["images"] for part, counts in report.counts.items()} == {"train": 6, "test": 3}
    assert set(found(diagnose(classes_of("aabbcc"), facts_of(classes_of("aabbcc"))))) == {"no_class_test"}
    single = classes_of("aabbc", "abc")
    assert set(found(diagnose(single, facts_of(single)))) == {"identity_with_one_image"}
    leak = diagnose(sound, facts_of(sound, {"train/000.jpg": "test/000.jpg"}))
    assert set(found(leak)) == {"duplicate_across_train_and_test"} and not leak.fit
    with pytest.raises(UsageError, match="--protocol has no meaning"):
        diagnose(sound, facts_of(sound), "any-camera")


def test_every_code_is_reached_by_a_test() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    assert [code for code in CODES if f'"{code}"' not in source] == []
