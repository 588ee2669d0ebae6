"""Readers: every element once however a file is cut, from near where a piece begins; damage and change are named."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shaper import Source, Span, readers
from shaper.errors import BadInput, Changed
from shaper.readers import blocks, lines

FASTQ = b"".join(b"@r%d\n%s\n+\n%s\n" % (n, b"ACGT"[: n % 5] * 9, b"IIII"[: n % 5] * 9) for n in range(1000))
VCF = b"##fileformat=VCFv4.2\n##x\n#CHROM\tPOS\n" + b"".join(b"22\t%d\n" % n for n in range(5000))


@pytest.fixture(scope="module", autouse=True)
def small_blocks() -> Iterator[None]:
    """Blocks so small that files of tests have many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_PLAIN_BYTES", 64)
        patch.setattr(blocks, "_COMPRESSED_BYTES", 40)
        patch.setattr(lines, "_APART_BYTES", 100)
        patch.setattr(lines, "_POINTS", 16)
        yield


def members(data: bytes, each: int) -> bytes:
    """As bgzip does: one gzip member after the other."""
    return b"".join(gzip.compress(data[at : at + each], mtime=0) for at in range(0, len(data), each))


def pieces(source: Source, size: int) -> Iterator[Span]:
    assert source.elements is not None
    for start in range(0, source.elements, size):
        yield Span(source, start, min(start + size, source.elements))


PACKED = {"plain": lambda data: data, "gzip": gzip.compress, "bgzip": lambda data: members(data, 300)}


@settings(max_examples=200, deadline=None)
@given(
    content=st.lists(st.binary(max_size=150).map(lambda line: line.replace(b"\n", b"").rstrip(b"\r")), max_size=60),
    ended=st.booleans(),
    packed=st.sampled_from(["plain", "gzip", "bgzip"]),
    size=st.integers(1, 20),
)
def test_a_text_file_in_pieces_is_the_whole_file(
    content: list[bytes], ended: bool, packed: str, size: int, tmp_path_factory: Any
) -> None:
    path = tmp_path_factory.mktemp("text") / "file"
    # A last line that is empty and not ended is no line.
    data = b"\n".join(content) + (b"\n" if content and (ended or not content[-1]) else b"")
    path.write_bytes(PACKED[packed](data))
    source = readers.text(path, group="g")
    assert (source.id, source.elements, source.group) == (str(path), len(content), "g")
    assert [line for piece in pieces(source, size) for line in readers.lines_of(piece)] == content
    assert len(source.payload.points) <= 16


@pytest.mark.parametrize("packed", PACKED)
def test_header_lines_of_a_vcf_file_are_no_elements(packed: str, tmp_path: Path) -> None:
    path = tmp_path / "a.vcf"
    path.write_bytes(PACKED[packed](VCF))
    source = readers.vcf(path)
    assert source.elements == 5000
    assert readers.header(path) == ("##fileformat=VCFv4.2", "##x", "#CHROM\tPOS")
    assert list(readers.lines_of(Span(source, 0, 1))) == [b"22\t0"]
    assert list(readers.lines_of(Span(source, 4998, 5000))) == [b"22\t4998", b"22\t4999"]


@pytest.mark.parametrize("packed", PACKED)
def test_a_read_is_four_lines(packed: str, tmp_path: Path) -> None:
    path = tmp_path / "a.fastq"
    path.write_bytes(PACKED[packed](FASTQ))
    source = readers.fastq(path)
    assert source.elements == 1000
    assert b"".join(read for piece in pieces(source, 7) for read in readers.reads_of(piece)) == FASTQ
    assert list(readers.reads_of(Span(source, 998, 999))) == [b"@r998\n" + b"ACG" * 9 + b"\n+\n" + b"III" * 9 + b"\n"]


@pytest.mark.parametrize("packed", ["plain", "bgzip"])
def test_a_piece_is_not_read_from_the_beginning_of_the_file(packed: str, tmp_path: Path) -> None:
    path = tmp_path / "a.fastq"
    path.write_bytes(PACKED[packed](FASTQ))
    source = readers.fastq(path)
    content = path.read_bytes()
    path.write_bytes(content[:2] + b"\n" * (len(content) // 2) + content[len(content) // 2 + 2 :])
    last = Span(source, 900, 1000)
    assert b"".join(readers.reads_of(last)) == b"".join(FASTQ.splitlines(keepends=True)[3600:])


def test_line_ends_of_windows_are_no_part_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\r\ntwo\r")
    source = readers.text(path)
    assert list(readers.lines_of(Span(source, 0, 2))) == [b"one", b"two"]


def test_zeros_after_compressed_data_are_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"one\n") + b"\0" * 100 + gzip.compress(b"two\n") + b"\0" * 100)
    source = readers.text(path)
    assert list(readers.lines_of(Span(source, 0, 2))) == [b"one", b"two"]


def test_the_identity_of_a_source_changes_with_its_content_and_not_with_its_time(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\ntwo\n")
    before = readers.text(path).identity
    path.touch()
    assert readers.text(path).identity == before
    path.write_bytes(b"one\ntwi\n")
    assert readers.text(path).identity != before


def test_a_file_that_changed_since_it_was_counted_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\ntwo\n")
    source = readers.text(path)
    path.write_bytes(b"one two\n")
    with pytest.raises(Changed, match="fewer lines than when it was counted"):
        list(readers.lines_of(Span(source, 0, 2)))
    path.write_bytes(b"one\ntwo\nthree\n")
    with pytest.raises(Changed, match="size has changed"):
        list(readers.lines_of(Span(source, 0, 2)))


@pytest.mark.parametrize(
    ("reader", "content", "message"),
    [
        (readers.text, gzip.compress(b"one\ntwo\n")[:-9], "cut short"),
        (readers.text, gzip.compress(b"one\ntwo\n" * 99)[:20] + b"x" * 40, "damaged compressed data"),
        (readers.text, gzip.compress(b"one\n") + b"two\n", "damaged compressed data"),
        (readers.fastq, b"@a\nA\n+\n", "it has 3 lines, and 4 make an element"),
        (readers.vcf, b"22\t1\n", "not a VCF file"),
    ],
)
def test_files_that_are_not_what_they_should_be_are_refused(
    reader: Any, content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=message):
        reader(path)


@pytest.mark.parametrize(
    "content", [b"r\nA\n+\nI\n", b"@r\nA\nI\n+\n", b"@r\nAC\n+\nI\n"], ids=["no name", "no plus", "no quality"]
)
def test_four_lines_that_are_no_read_are_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.fastq"
    path.write_bytes(b"@r\nA\n+\nI\n" + content)
    with pytest.raises(BadInput, match="read 1 is not four lines of FASTQ"):
        list(readers.reads_of(Span(readers.fastq(path), 0, 2)))


def test_a_missing_file_and_a_foreign_source_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nowhere.txt: No such file"):
        readers.text(tmp_path / "nowhere.txt")
    with pytest.raises(BadInput, match=r"'x' was not made by shaper.readers"):
        list(readers.lines_of(Span(Source("x", 1), 0, 1)))
