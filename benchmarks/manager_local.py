"""Jobs of three kinds that arrive at random on this machine, through `shaper.Manager`: a part of `benchmarks.manager`.

The kinds are the physics example, the genome workflow and the alignment of real reads. Each kind is first run alone,
twice on one core and twice on two: what comes out of that is what every job of the kind must give, and how long the
second took is its row of the table of run times with which `shaper.simulation.live` foretells the same arrivals under
the same method. Kinds
whose programs are not installed are left out, and named.
"""

from __future__ import annotations

import gzip
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Target, say
from examples.alignment import tools
from examples.alignment.__main__ import GASIC, records
from examples.alignment.align import Align, merge_in_order
from examples.alignment.index import digest_of, index_of
from examples.genome import generate as genome
from examples.genome.workflow import Workflow
from shaper import Chunk, Manager, Source, Span, Stage, readers
from shaper.errors import BadInput, ShaperError
from shaper.scheduling import MoldableJob
from shaper.scheduling.live import Sharing
from shaper.simulation.live import Arrival, share

CORES = 2
LOAD = 1.2  # cores that the jobs would keep busy, each run on one
EVENTS, VARIANTS, READS = 12_000, 4_000, 20_000
COEFFICIENTS = 6
SEED = 1


@dataclass(frozen=True)
class Kind:
    """Jobs of one kind.

    Args:
        stages: of a job.
        essence: of what a job gives, as far as it does not depend on how it was cut.
    """

    stages: Callable[[], list[Stage]]
    essence: Callable[[Any], Any]


@dataclass(frozen=True)
class Analyse:
    """The physics example, as a process function; it holds what it uses, so that tasks find that imported."""

    processor: Any
    events_of: Callable[..., Any]
    schema: Any
    accumulate: Callable[[Iterable[Any]], Any]

    def __call__(self, chunk: Chunk) -> Any:
        return self.accumulate([self.processor.process(self._events(span)) for span in chunk.spans])

    def _events(self, span: Span) -> Any:
        source = span.source
        where = {"entry_start": span.start, "entry_stop": span.stop}
        found = self.events_of({source.id: "Events"}, schemaclass=self.schema, metadata=source.payload, **where)
        return found.events()


def analyses(data: Path) -> Kind:
    """The physics example.

    Raises:
        ImportError: coffea is not installed.
    """
    from coffea.nanoevents import NanoEventsFactory
    from coffea.processor import accumulate

    from examples.topeft.generate import Settings, generate
    from examples.topeft.processor import QuietNanoAODSchema, TopEFTProcessor
    from shaper.coffea.function import merge

    manifest = generate(Settings(EVENTS, 3, COEFFICIENTS), data / "topeft")
    known = manifest.fileset()
    sources = []
    for file in manifest.files:
        path = str(manifest.folder / file.path)
        payload = known[file.process]["metadata"] | {"dataset": file.process, "filename": path}
        sources.append(Source(path, file.events, payload=payload))

    def essence(values: Any) -> Any:
        (value,) = values.values()
        # Sums of floats depend on their order in the last digits.
        sums = {name: {c: rounded(v.sum()) for c, v in one.sums.items()} for name, one in value["histograms"].items()}
        return value["events"], value["selected"], sums

    process = Analyse(
        TopEFTProcessor(COEFFICIENTS, systematics=()), NanoEventsFactory.from_root, QuietNanoAODSchema, accumulate
    )
    return Kind(lambda: [Stage("analysis", sources, process, merge)], essence)


def rounded(value: float) -> float:
    """With six digits."""
    return float(f"{value:.6g}")


def workflows(data: Path) -> Kind:
    """The genome workflow."""
    files = genome.generate(genome.Settings(VARIANTS, 1, 500), data / "genome")
    work = Workflow(files.genotypes, files.annotations, files.populations, draw=20, runs=300)

    def essence(values: Any) -> Any:
        last = ("mutation_overlap", "frequency_all", "frequency")
        return {name: {key: np.trim_zeros(found, "b").tolist() for key, found in values[name].items()} for name in last}

    return Kind(work.stages, essence)


def alignments(data: Path) -> Kind:
    """The alignment of the first real reads of Debian's gasic-examples to the genomes of bee viruses.

    Raises:
        BadInput: bwa, samtools or the reads are not installed.
    """
    tools.need("bwa", "samtools")
    packed = GASIC / "reads" / "SRR059298_subset.fastq.gz"
    if not packed.is_file():
        raise BadInput(f"{packed} is not there; on Debian, as root: apt-get install gasic-examples")
    folder = data / "alignment"
    folder.mkdir(parents=True, exist_ok=True)
    reads, viruses = folder / "reads.fastq", folder / "viruses.fasta"
    with gzip.open(packed) as lines:
        reads.write_bytes(b"".join(islice(lines, 4 * READS)))
    genomes = [gzip.decompress(path.read_bytes()).rstrip() for path in sorted((GASIC / "genomes").glob("*.gz"))]
    viruses.write_bytes(b"\n".join(genomes) + b"\n")
    align = Align(str(viruses.resolve()), digest_of(viruses))
    index_of(viruses, align.digest)
    source = readers.fastq(reads.resolve())

    def essence(values: Any) -> Any:
        with tempfile.NamedTemporaryFile(suffix=".bam") as out:
            out.write(values["align"])
            out.flush()
            return records(tools.run("samtools", "view", out.name))

    return Kind(lambda: [Stage("align", [source], align, merge_in_order, mode="threads", ordered=True)], essence)


MAKERS = {"topeft": analyses, "genome": workflows, "alignment": alignments}


def made(data: Path) -> tuple[dict[str, Kind], list[str]]:
    """The kinds that can be run here, and why others cannot."""
    found, missing = {}, []
    for name, make in MAKERS.items():
        try:
            found[name] = make(data)
        except (ImportError, BadInput) as error:
            missing.append(f"{name} is left out: {error}")
            say(missing[-1])
    return found, missing


def alone(kind: Kind, cores: int, folder: Path) -> tuple[float, Any]:
    """How long a job takes that has the machine to itself, after one of its kind, and what it gives."""
    with Manager(cores=cores, run_dir=folder, history=False) as manager:
        first = kind.essence(manager.submit(kind.stages()).result().value)
        began_s = time.perf_counter()
        second = kind.essence(manager.submit(kind.stages()).result().value)
        took_s = time.perf_counter() - began_s
    assert first == second, "the same job gives something else"
    return took_s, first


def measure(data: Path, jobs: int) -> tuple[dict[str, Any], list[Target]]:
    """Let jobs arrive; say how they fared beside how they should have."""
    data = data.resolve()
    kinds, missing = made(data)
    scratch = Path(tempfile.mkdtemp(prefix="shaper-manager-"))
    try:
        times, reference = {}, {}
        for name, kind in kinds.items():
            one_s, reference[name] = alone(kind, 1, scratch / f"{name}-1")
            two_s, again = alone(kind, CORES, scratch / f"{name}-{CORES}")
            assert again == reference[name], f"{name} depends on how it is cut"
            times[name] = [one_s, two_s]
            say(f"{name} alone: {one_s:.1f} s on one core, {two_s:.1f} s on {CORES}")
        rng = np.random.default_rng(SEED)
        order = [list(kinds)[at % len(kinds)] for at in rng.permutation(jobs)]
        arrivals_s = sorted(rng.uniform(0.0, sum(times[name][0] for name in order) / LOAD, jobs))
        flows_s, right = arrive(kinds, reference, order, arrivals_s, scratch / "all")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    coming = [
        Arrival(MoldableJob(at, release_s, times[name]))
        for at, (name, release_s) in enumerate(zip(order, arrivals_s, strict=True))
    ]
    planned = share(coming, [CORES], Sharing())
    stretch = [flow_s / times[name][0] for flow_s, name in zip(flows_s, order, strict=True)]
    figures = {
        "jobs": jobs,
        "left_out": missing,
        "alone_s": times,
        "load": LOAD,
        "method": Sharing().method,
        "right": right,
        "stretch": statistics.mean(stretch),
        "stretch_planned": float(planned.stretch.mean()),
        "stretch_by_kind": {
            name: statistics.mean(one for one, mine in zip(stretch, order, strict=True) if mine == name)
            for name in kinds
        },
        "max_stretch": max(stretch),
        "max_stretch_planned": float(planned.stretch.max()),
        "flow_s": statistics.mean(flows_s),
        "flow_planned_s": float(planned.flow_s.mean()),
    }
    beside = f"average stretch {figures['stretch']:.2f}, planned {figures['stretch_planned']:.2f}"
    say(f"{right} of {jobs} jobs right; {beside}")
    return figures, [Target("live_local_right", right / jobs, 1.0, at_least=True)]


def arrive(
    kinds: dict[str, Kind], reference: dict[str, Any], order: list[str], arrivals_s: list[float], folder: Path
) -> tuple[list[float], int]:
    """Hand the jobs in when they are due; how long each was there, and how many came out right."""
    ends_s: dict[int, float] = {}
    right = 0
    with Manager(cores=CORES, run_dir=folder, history=False) as manager:
        manager.submit({"x": 1}, process=len, merge=max, name="begin").result()
        began_s = time.perf_counter()
        handles: list[Any] = []
        waiting: set[int] = set()
        while len(ends_s) < len(order):
            now_s = time.perf_counter() - began_s
            while len(handles) < len(order) and arrivals_s[len(handles)] <= now_s:
                at = len(handles)
                handles.append(manager.submit(kinds[order[at]].stages(), name=f"{at}-{order[at]}"))
                waiting.add(at)
            for at in [at for at in waiting if handles[at].done()]:
                ends_s[at] = now_s
                waiting.remove(at)
            time.sleep(0.02)
        for at, handle in enumerate(handles):
            try:
                right += kinds[order[at]].essence(handle.result().value) == reference[order[at]]
            except ShaperError as error:
                say(f"job {at} ({order[at]}): {error}")
    return [ends_s[at] - arrivals_s[at] for at in range(len(order))], right
