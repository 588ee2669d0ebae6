"""Who has the rare allele: per variant of a chromosome (`individuals`), then per sample (`individuals_merge`).

Of two haplotypes the first counts. Its allele is rare when it is the reference and the alternates together have a
frequency of at least one half, or when it is an alternate with a frequency below one half. Frequencies are those of AF
in INFO, found by its key.

Bits travel, compressed: a fifth of a bit per variant and sample where most variants are rare.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shaper import Chunk, Source, Span
from shaper.readers import header, lines_of

_BATCH = 256  # lines; a multiple of 8, so that bits of batches join
_FIRST_SAMPLE = 9  # columns of a VCF file before the samples
_BLOCK = 256  # samples of one source of individuals_merge
_RS = re.compile(rb"(?:^|;)rs(\d+)")
_LEVEL = 1
_CALL = re.compile(rb"(\d+|\.)([|/](\d+|\.))*")
_NUMBER = re.compile(rb"\d+")
# Two alleles of 0 and 1 as four bytes, the last of them the tab: all bits but those that tell 0 from 1.
_OF_TWO, _PHASED, _UNPHASED = (int.from_bytes(four, "little") for four in (b"\xfe\xff\xfe\xff", b"0|0\t", b"0/0\t"))


@dataclass(frozen=True, slots=True)
class Calls:
    """In whom the rare allele comes first, of the variants from `start` to `stop`.

    Args:
        samples: columns.
        rs: compressed numbers after "rs" in ID, int64 (variants,); 0 where there is none.
        rare: compressed bits, uint8 (ceil(variants / 8), samples): the highest bit is the first variant.
    """

    start: int
    stop: int
    samples: int
    rs: bytes
    rare: bytes

    def octets(self) -> NDArray[np.uint8]:
        """The bits, (ceil(variants / 8), samples)."""
        return np.frombuffer(zlib.decompress(self.rare), np.uint8).reshape(-1, self.samples)


# individuals ------------------------------------------------------------------------------------------------------

ByChromosome = Mapping[str, tuple[Calls, ...]]


def samples_of(path: str | Path) -> Sequence[str]:
    """The names of the samples of a VCF file."""
    lines = header(path)
    return lines[-1].split("\t")[_FIRST_SAMPLE:] if lines else ()


def individuals(chunk: Chunk) -> ByChromosome:
    """Read ranges of variant lines."""
    found: dict[str, tuple[Calls, ...]] = {}
    for span in chunk.spans:
        found[span.source.group] = (*found.get(span.source.group, ()), calls_of(span))
    return found


def join(a: ByChromosome, b: ByChromosome) -> ByChromosome:
    """Put ranges beside each other, in order."""
    both = {name: (*a.get(name, ()), *b.get(name, ())) for name in (*a, *b)}
    return {name: tuple(sorted(calls, key=lambda part: part.start)) for name, calls in both.items()}


def calls_of(span: Span) -> Calls:
    """Read one range.

    Raises:
        ValueError: a line has no AF, or not a genotype of its alleles for every sample; the message names it.
    """
    numbers: list[int] = []
    octets: list[NDArray[np.uint8]] = []
    lines, samples = lines_of(span), len(samples_of(span.source.id))
    while batch := [line.split(b"\t", 9) for line in islice(lines, _BATCH)]:
        try:
            rare = _rare_first(batch, samples)
        except (IndexError, ValueError):
            raise _named(batch, samples, span.source, span.start + len(numbers)) from None
        octets.append(np.packbits(rare, axis=0))
        numbers += [_rs_number(fields[2]) for fields in batch]
    rs = np.array(numbers, np.int64)
    bits = np.concatenate(octets)
    packed = zlib.compress(rs.tobytes(), _LEVEL), zlib.compress(bits.tobytes(), _LEVEL)
    return Calls(span.start, span.stop, samples, *packed)


def _named(batch: Sequence[Sequence[bytes]], samples: int, source: Source, first: int) -> ValueError:
    """What is wrong with the first line that is."""
    for number, fields in enumerate(batch, first):
        try:
            _rare_first([fields], samples)
        except IndexError:
            return ValueError(f"{source}: variant {number} has {len(fields)} columns and no genotypes")
        except ValueError as error:
            return ValueError(f"{source}: variant {number}: {error}")
    raise AssertionError("lines that cannot be read together can be read one by one")


def _rs_number(identifier: bytes) -> int:
    found = _RS.search(identifier)
    return int(found[1]) if found else 0


def rare_alleles(info: bytes) -> tuple[int, ...]:
    """The alleles that are rare, by AF: 0 the reference, 1 the first alternate, and so on.

    Raises:
        ValueError: there is no AF.
    """
    for entry in info.split(b";"):
        if entry.startswith(b"AF="):
            frequencies = [float(number) for number in entry[3:].split(b",")]
            alternates = tuple(k for k, frequency in enumerate(frequencies, 1) if frequency < 0.5)
            return (0, *alternates) if sum(frequencies) >= 0.5 else alternates
    raise ValueError(f"INFO has no AF: {info[:60].decode()}")


def _rare_first(batch: Sequence[Sequence[bytes]], samples: int) -> NDArray[np.bool_]:
    """Whose first allele is rare, (lines, samples)."""
    rare = [rare_alleles(fields[7]) for fields in batch]
    found = np.empty((len(batch), samples), np.bool_)
    short = [row for row, fields in enumerate(batch) if fields[8] == b"GT" and len(fields[9]) == 4 * samples - 1]
    text = np.frombuffer(b"\t".join([batch[row][9] for row in short] + [b""]), np.uint8).reshape(-1, samples, 4)
    calls = text.view("<u4")[:, :, 0] & _OF_TWO
    plain = ((calls == _PHASED) | (calls == _UNPHASED)).all(axis=1)
    wanted = np.array([ord("0") + (rare[row] or (256,))[0] for row in short], np.uint16)
    quick = text[:, :, 0] == wanted[:, None]
    long = set(range(len(batch))) - set(short)
    for place, row in enumerate(short):
        alternates = _alternates(batch[row])
        if not (alternates and plain[place]) and not _readable(text[place], alternates):
            long.add(row)
        elif len(rare[row]) > 1:
            found[row] = np.isin(text[place, :, 0], [ord("0") + allele for allele in rare[row]])
        else:
            found[row] = quick[place]
    for row in long:
        found[row] = _slowly(batch[row], rare[row], samples)
    return found


def _alternates(fields: Sequence[bytes]) -> int:
    return 0 if fields[4] == b"." else 1 + fields[4].count(b",")


def _readable(calls: NDArray[np.uint8], alternates: int) -> bool:
    """Whether all calls of a line, (samples, 4), are two alleles that it has, or missing ones, of one character."""
    alleles = [ord("."), *range(ord("0"), ord("0") + min(alternates, 9) + 1)]
    marks = np.isin(calls[:, 1], [ord("|"), ord("/")]).all() and (calls[:, 3] == ord("\t")).all()
    return bool(marks and np.isin(calls[:, ::2], alleles).all())


def _slowly(fields: Sequence[bytes], rare: tuple[int, ...], samples: int) -> list[bool]:
    """Genotypes of any form: haploid, with further fields, of many alleles."""
    alternates = _alternates(fields)
    calls = [call.partition(b":")[0] for call in fields[9].split(b"\t")]
    if len(calls) != samples:
        raise ValueError(f"it has {len(calls)} samples, the header {samples}")
    known = {call: _first_allele(call, alternates) in rare for call in dict.fromkeys(calls)}
    return [known[call] for call in calls]


def _first_allele(call: bytes, alternates: int) -> int | None:
    """None where it is missing."""
    if _CALL.fullmatch(call) is None or any(int(allele) > alternates for allele in _NUMBER.findall(call)):
        raise ValueError(f"{call[:20].decode(errors='replace')!r} is no genotype of {alternates + 1} alleles")
    first = _NUMBER.match(call)
    return int(first[0]) if first else None


# individuals_merge ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Block:
    """The bits of some samples over a whole chromosome, as they come from `individuals`.

    Args:
        first, samples: which samples.
        variants: of each range; its bits begin a new octet.
        rare: compressed, uint8 (octets of all ranges, samples).
        rs: of the whole chromosome, in the block of the first sample; None in the others.
    """

    first: int
    samples: int
    variants: tuple[int, ...]
    rare: bytes
    rs: bytes | None


@dataclass(frozen=True, slots=True)
class Genotypes:
    """In whom the rare allele comes first, of a whole chromosome, by sample.

    Args:
        variants: lines.
        rs: compressed int64 (variants,); None in a part without the first sample.
        parts: (first sample, samples, compressed uint8 (samples, ceil(variants / 8))).
    """

    variants: int
    rs: bytes | None
    parts: tuple[tuple[int, int, bytes], ...]

    def rs_numbers(self) -> NDArray[np.int64]:
        """Of the variants; 0 where there is none."""
        assert self.rs is not None, "the first sample is missing"
        return np.frombuffer(zlib.decompress(self.rs), np.int64)

    def of(self, variants: NDArray[np.int64]) -> NDArray[np.uint8]:
        """0 or 1, (samples, len(variants)), for some variants by number."""
        chosen = []
        for _, samples, packed in sorted(self.parts):
            rows = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(samples, -1)
            chosen.append(rows[:, variants >> 3] >> (7 - (variants & 7)).astype(np.uint8) & 1)
        return np.concatenate(chosen)


def sample_blocks(calls: ByChromosome) -> Iterator[Source]:
    """The dataset of `individuals_merge`: samples; each task gets the bits of its block alone."""
    for chromosome, parts in calls.items():
        octets = np.concatenate([part.octets() for part in parts])
        variants = tuple(part.stop - part.start for part in parts)
        for first in range(0, octets.shape[1], _BLOCK):
            columns = np.ascontiguousarray(octets[:, first : first + _BLOCK])
            rs = None if first else zlib.compress(b"".join(zlib.decompress(part.rs) for part in parts), _LEVEL)
            rare = zlib.compress(columns.tobytes(), _LEVEL)
            block = Block(first, columns.shape[1], variants, rare, rs)
            yield Source(
                f"{chromosome}, samples from {first}", columns.shape[1], first, group=chromosome, payload=block
            )


def individuals_merge(chunk: Chunk) -> Mapping[str, Genotypes]:
    """Put the ranges of each sample together."""
    return _joined((span.source.group, _of_samples(span)) for span in chunk.spans)


def join_samples(a: Mapping[str, Genotypes], b: Mapping[str, Genotypes]) -> Mapping[str, Genotypes]:
    """Put samples beside each other."""
    return _joined((*a.items(), *b.items()))


def _joined(found: Iterable[tuple[str, Genotypes]]) -> Mapping[str, Genotypes]:
    out: dict[str, Genotypes] = {}
    for name, more in found:
        known = out.get(name, more)
        parts = more.parts if known is more else tuple(sorted((*known.parts, *more.parts)))
        out[name] = Genotypes(more.variants, known.rs or more.rs, parts)
    return out


def _of_samples(span: Span) -> Genotypes:
    block: Block = span.source.payload
    octets = np.frombuffer(zlib.decompress(block.rare), np.uint8).reshape(-1, block.samples)
    columns = octets[:, span.start - block.first : span.stop - block.first]
    ranges, at = [], 0
    for variants in block.variants:
        end = at + -(-variants // 8)
        ranges.append(np.unpackbits(columns[at:end], axis=0, count=variants))
        at = end
    rows = np.packbits(np.concatenate(ranges).T, axis=1)
    rs = block.rs if span.start == 0 else None
    return Genotypes(sum(block.variants), rs, ((span.start, len(span), zlib.compress(rows.tobytes(), _LEVEL)),))
