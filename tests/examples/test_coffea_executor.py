"""A coffea Runner with shaper's executor beside the same Runner with coffea's own: real files, real processes."""

from __future__ import annotations

import functools
from collections import defaultdict
from pathlib import Path

import pytest

pytest.importorskip("coffea", reason="the Coffea executor needs the coffea extra")

import awkward as ak
import hist
import numpy as np
import uproot
from coffea.nanoevents import BaseSchema, NanoAODSchema
from coffea.nanoevents.trace import trace
from coffea.processor import Err, IterativeExecutor, Ok, ProcessorABC, Runner, SimpleCheckpointer
from coffea.processor.executor import UprootMissTreeError
from coffea.processor.test_items import NanoEventsProcessor

import shaper
from shaper.coffea import ShaperExecutor
from shaper.errors import BadInput, Changed, Incomplete
from shaper.policy import Fixed

CLUSTER = 100
SIZES = {"one": (950, 0, 430), "two": (620,), "empty": (0,)}
EVENTS = {dataset: sum(sizes) for dataset, sizes in SIZES.items()}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Dataset -> paths of files with clusters of 100 entries."""
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(1)
    made = {}
    for dataset, sizes in SIZES.items():
        made[dataset] = [str(folder / f"{dataset}_{n}.root") for n in range(len(sizes))]
        for path, size in zip(made[dataset], sizes, strict=True):
            with uproot.recreate(path) as file:
                tree = file.mktree("Events", {"x": "float64", "n": "int64"})
                for start in range(0, size, CLUSTER):
                    count = min(CLUSTER, size - start)
                    tree.extend({"x": rng.exponential(30, count), "n": np.arange(start, start + count)})
    return made


@pytest.fixture
def fileset(files):
    return {name: {"treename": "Events", "files": paths, "metadata": {"xsec": 2.5}} for name, paths in files.items()}


class Counts(ProcessorABC):
    def process(self, events):
        dataset = events.metadata["dataset"]
        assert events.metadata["xsec"] == 2.5
        histogram = hist.Hist(hist.axis.StrCategory([], name="dataset", growth=True), hist.axis.Regular(20, 0, 200))
        histogram.fill(dataset, ak.to_numpy(events.x))
        return {
            "histogram": histogram,
            "events": defaultdict(int, {dataset: len(events)}),
            "sum": {dataset: float(ak.sum(events.x))},
            "entries": {dataset: ak.to_list(events.n)},
        }

    def postprocess(self, accumulator):
        return accumulator


def fails_on(marker, kind, events):
    """Raises for files with a marker in their name; a partial of it is a processor."""
    if marker in events.metadata["filename"]:
        raise kind(f"cannot use {Path(events.metadata['filename']).name}")
    return {"events": {events.metadata["dataset"]: len(events)}}


def counting(events):
    return {"events": {events.metadata["dataset"]: len(events)}, "x": float(ak.sum(events.x))}


@pytest.fixture
def executor(tmp_path):
    return functools.partial(ShaperExecutor, run_dir=tmp_path / "run", cores=2, status=False)


def runner(executor, **options):
    options = {"schema": BaseSchema, "metadata_cache": {}, "chunksize": 170, **options}
    return Runner(executor=executor, **options)


def iterative(fileset, processor, **options):
    return runner(IterativeExecutor(status=False), **options).run(fileset, processor)


def spans_of(processed):
    return sorted((Path(item.filename).name, item.entrystart, item.entrystop) for item in processed)


def same(out, expected):
    assert out.keys() == expected.keys()
    assert dict(out["events"]) == dict(expected["events"])
    assert out["sum"] == pytest.approx(expected["sum"], rel=1e-9)
    assert {name: sorted(entries) for name, entries in out["entries"].items()} == {
        name: sorted(entries) for name, entries in expected["entries"].items()
    }
    for dataset in expected["histogram"].axes[0]:
        assert (out["histogram"][dataset, :].values() == expected["histogram"][dataset, :].values()).all()


@pytest.mark.parametrize("policy", [None, Fixed(chunksize=7 * CLUSTER + 13)], ids=["adaptive", "across-files"])
def test_the_result_is_that_of_coffea(executor, fileset, policy):
    out = runner(executor(policy=policy)).run(fileset, Counts())
    expected = iterative(fileset, Counts())
    same(out["out"], expected["out"])
    assert out["exception"] == 0
    assert dict(out["out"]["events"]) == EVENTS
    covered = defaultdict(int)
    for name, start, stop in spans_of(out["processed"]):
        covered[name] += stop - start
    assert covered == {f"{d}_{n}.root": size for d, sizes in SIZES.items() for n, size in enumerate(sizes)}


def test_items_run_as_they_are_without_reshape(executor, fileset):
    out = runner(executor(reshape=False)).run(fileset, Counts())
    assert out["processed"] == iterative(fileset, Counts())["processed"]


def test_metrics_count_all_entries(executor, fileset):
    out, metrics = runner(executor(), savemetrics=True)(fileset, counting)
    _, expected = runner(IterativeExecutor(status=False), savemetrics=True)(fileset, counting)
    assert out["events"] == EVENTS
    assert metrics["entries"] == expected["entries"] == sum(EVENTS.values())
    assert sorted(metrics["columns"]) == sorted(expected["columns"])
    assert metrics["chunks"] == expected["chunks"]


def test_maxchunks_limits_what_is_processed(executor, fileset):
    out = runner(executor(), maxchunks=2).run(fileset, counting)
    expected = iterative(fileset, counting, maxchunks=2)
    assert out["out"]["events"] == expected["out"]["events"]
    assert out["out"]["events"]["one"] < EVENTS["one"]
    assert out["out"]["x"] == pytest.approx(expected["out"]["x"], rel=1e-9)


def test_chunks_end_at_clusters_when_they_are_asked_for(executor, fileset):
    # With coffea's own metadata cache, where the executor looks.
    policy = Fixed(chunksize=CLUSTER * 3 + 50)
    out = runner(executor(policy=policy), align_clusters=True, metadata_cache=None).run(fileset, counting)
    ends = {stop for _, _, stop in spans_of(out["processed"])}
    assert ends <= {*range(0, 1000, CLUSTER), *(size for sizes in SIZES.values() for size in sizes)}
    assert len(ends) > len(SIZES["one"]) + 1


def test_parquet(executor, files, tmp_path):
    path = tmp_path / "one.parquet"
    with uproot.open(files["one"][0]) as file:
        ak.to_parquet(file["Events"].arrays(), path)
    given = {"one": {"treename": "Events", "files": [str(path)]}}
    out = runner(executor(), format="parquet")(given, counting)
    expected = runner(IterativeExecutor(status=False), format="parquet")(given, counting)
    assert out["events"] == expected["events"] == {"one": SIZES["one"][0]}
    assert out["x"] == pytest.approx(expected["x"], rel=1e-9)


def preloaded(events):
    total = ak.sum(events.x)  # not a float: a tracer knows no numbers
    arrays = getattr(events.attrs["@events_factory"]._mapping, "preloaded_arrays", None)
    return {"branches": set(arrays or ()), "x": total}


@pytest.mark.parametrize("how", ["fileset", "trace"])
def test_branches_are_loaded_beforehand(executor, fileset, how):
    given = {"one": fileset["one"] | ({"preload": ["x"]} if how == "fileset" else {})}
    out = runner(executor())(given, preloaded, trace=trace if how == "trace" else None)
    assert out["branches"] == {"x"}


def test_a_file_listed_twice_counts_twice(executor, files):
    given = {"two": {"treename": "Events", "files": files["two"] * 2}}
    assert runner(executor())(given, counting)["events"] == {"two": 2 * EVENTS["two"]}


def test_no_items_give_the_accumulator_back():
    assert ShaperExecutor()([], counting, {"so": "far"}) == {"so": "far"}


def plus_one(item):
    return {"sum": item + 1}


def test_it_runs_any_function_on_any_items(executor):
    assert executor()([1, 2, 3], plus_one, {"sum": 10}) == ({"sum": 19}, 0)


def test_arguments_that_would_mislead_are_refused():
    with pytest.raises(BadInput, match=r"retries=3.*Adaptive\(retries"):
        ShaperExecutor(retries=3)
    with pytest.raises(TypeError, match="worker"):
        ShaperExecutor(workers=3)


# -- bad files -------------------------------------------------------------------------------------------------------


@pytest.fixture
def broken(fileset, tmp_path):
    """A missing file and one that is no ROOT file, beside the good ones."""
    text = tmp_path / "text.root"
    text.write_text("this is no ROOT file")
    return fileset | {"bad": {"treename": "Events", "files": [str(tmp_path / "missing.root"), str(text)]}}


def test_a_bad_file_raises_what_coffea_raises_and_names_every_one(executor, broken):
    with pytest.raises(Exception, match=r"missing\.root|text\.root") as raised:
        runner(executor())(broken, counting)
    assert isinstance(raised.value, OSError)
    notes = "\n".join(raised.value.__notes__)
    assert "no output for " in notes
    assert "missing.root:Events: " in notes
    assert "text.root:Events: " in notes
    assert "two_0.root" not in notes
    assert raised.value.__context__ is None


def test_a_missing_tree_is_an_error_of_its_class(executor, files):
    given = {"one": {"treename": "NoSuchTree", "files": files["one"]}}
    with pytest.raises(UprootMissTreeError):
        runner(executor())(given, counting)
    with (
        pytest.raises(ValueError, match="No chunks survived"),
        pytest.warns(UserWarning, match="3 pieces were skipped"),
    ):
        runner(executor(), skipbadfiles=(UprootMissTreeError,))(given, counting)


def test_bad_files_are_skipped_by_leave(executor, broken):
    skipping = runner(executor(), skipbadfiles=True)
    with pytest.warns(UserWarning, match="2 pieces were skipped") as told:
        out = skipping(broken, counting)
    assert out["events"] == EVENTS
    [text] = [str(w.message) for w in told if " skipped:" in str(w.message)]
    assert "missing.root" in text
    assert "text.root" in text


def test_spans_of_a_file_that_goes_bad_are_skipped_and_listed(executor, fileset):
    processor = functools.partial(fails_on, "one_2", OSError)
    used = executor(policy=Fixed(chunksize=10_000))
    with pytest.warns(UserWarning, match="1 piece was skipped") as told:
        out = runner(used, skipbadfiles=True)(fileset, processor)
    assert out["events"] == EVENTS | {"one": EVENTS["one"] - SIZES["one"][2]}
    [text] = [str(w.message) for w in told if " skipped:" in str(w.message)]
    assert "one_2.root:Events[0:430]" in text
    assert "cannot use one_2.root" in text


def test_a_file_that_fails_does_not_take_others_of_its_chunk_along(executor, fileset):
    processor = functools.partial(fails_on, "one_", KeyError)
    used = executor(policy=Fixed(chunksize=10_000, retries=0), recoverable=True)
    with pytest.raises(Exception, match="Failed processing file") as raised:
        runner(used)(fileset, processor)
    assert isinstance(raised.value.__cause__, KeyError)
    assert raised.value.partial_output["events"] == {"two": EVENTS["two"], "empty": 0}
    notes = "\n".join(raised.value.__notes__)
    for name in files_named("one"):
        assert f"{name}:Events" in notes


def files_named(dataset):
    return [f"{dataset}_{number}.root" for number in range(len(SIZES[dataset]))]


def test_the_result_type_holds_output_or_exception(executor, broken, fileset):
    fresh = functools.partial(executor, resume=False)
    ok = runner(fresh(), use_result_type=True, skipbadfiles=True)(fileset, counting)
    assert isinstance(ok, Ok)
    assert ok.unwrap()["events"] == EVENTS
    err = runner(fresh(), use_result_type=True, skipbadfiles=True)(broken, counting)
    assert isinstance(err, Err)
    assert isinstance(err.exception, OSError)
    # Through the chain of causes: coffea wraps what a processor raises.
    processor = functools.partial(fails_on, "one_2", OSError)
    err = runner(fresh(), use_result_type=True, skipbadfiles=True)(fileset, processor)
    assert isinstance(err, Err)
    assert isinstance(err.exception.__cause__, OSError)
    with pytest.raises(Exception, match="cannot use one_2"):
        runner(fresh(), use_result_type=True, skipbadfiles=(KeyError,))(fileset, processor)


def greedy(events):
    if len(events) > 0 and int(events.n[0]) == 0 and "two" in events.metadata["dataset"]:
        np.ones(2**29, np.uint8).sum()
    return {"events": {events.metadata["dataset"]: len(events)}}


def test_what_does_not_fit_is_incomplete_not_the_users_error(executor, fileset):
    limit = shaper.Resources(cores=1, memory_mib=400)
    used = executor(policy=Fixed(chunksize=10_000, resources=limit), recoverable=True, memory="2000MiB")
    with pytest.raises(Incomplete, match=r"two_0\.root.*needs more than 400 MiB") as raised:
        runner(used)(fileset, greedy)
    assert raised.value.partial_output["events"] == {"one": EVENTS["one"], "empty": 0}


# -- run directories -------------------------------------------------------------------------------------------------


def test_the_users_own_instance_names_the_run(fileset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SHAPER_RUNS", raising=False)
    mine = ShaperExecutor(status=False)
    assert runner(mine)(fileset, counting)["events"] == EVENTS
    assert Path(mine.run_dir).parent == tmp_path / "shaper-runs"
    assert (mine.run_dir / "processing" / "report.html").exists()
    assert (mine.run_dir / "preprocessing" / "records.jsonl").exists()
    assert shaper.last_run() == mine.run_dir / "processing"


class Marking:
    """Leaves a line in a file for every piece it processes, and fails for some dataset while another file exists."""

    def __init__(self, log, trap):
        self.log = log
        self.trap = trap

    def __call__(self, events):
        if self.trap.exists() and events.metadata["dataset"] == "two":
            raise RuntimeError("not yet")
        with self.log.open("a") as file:
            file.write(f"{events.metadata['dataset']} {len(events)}\n")
        return counting(events)


def test_the_same_directory_resumes_and_another_processor_is_refused(executor, fileset, tmp_path):
    log, trap = tmp_path / "log", tmp_path / "trap"
    processor = Marking(log, trap)
    trap.touch()
    mine = executor()
    with pytest.raises(Exception, match="not yet"):
        runner(mine)(fileset, processor)
    before = log.read_text().splitlines()
    assert sum(int(line.split()[1]) for line in before) == EVENTS["one"]
    trap.unlink()
    # The same instance, as in a notebook whose cell is run again, goes on; a new one finds it all done.
    assert runner(mine)(fileset, processor)["events"] == EVENTS
    after = log.read_text().splitlines()[len(before) :]
    assert {line.split()[0] for line in after} == {"two"}
    assert runner(executor())(fileset, processor)["events"] == EVENTS
    assert log.read_text().splitlines() == before + after
    with pytest.raises(Changed):
        runner(executor())(fileset, counting)
    other = {name: {**entry, "metadata": {"xsec": 2.0}} for name, entry in fileset.items()}
    with pytest.raises(Changed, match="has changed"):
        runner(executor())(other, processor)
    # A second analysis with one executor is a run of its own.
    assert runner(mine)(fileset, counting)["events"] == EVENTS
    assert (tmp_path / "run" / "processing-2").is_dir()


def test_the_command_line_says_where(fileset, tmp_path, monkeypatch):
    monkeypatch.setenv("SHAPER_RUN_DIR", str(tmp_path / "asked"))
    mine = ShaperExecutor(status=False)
    assert mine.run_dir == tmp_path / "asked"
    monkeypatch.setenv("SHAPER_RUN_DIR", str(tmp_path / "asked" / "processing"))
    assert ShaperExecutor(status=False).run_dir == tmp_path / "asked"
    assert ShaperExecutor(status=False).run_dir != tmp_path / "asked"


@pytest.mark.parametrize("moved", [False, True], ids=["in-place", "moved"])
def test_checkpoints_stand_in_for_files(files, tmp_path, moved):
    data = Path(files["two"][0])
    copy = tmp_path / "two.root"
    copy.write_bytes(data.read_bytes())
    checkpointer = SimpleCheckpointer(str(tmp_path / "checkpoints"))

    def once(path, processor):
        given = {"two": {"treename": "Events", "files": [str(path)]}}
        executor = ShaperExecutor(reshape=False, run_dir=tmp_path / "run", resume=False, status=False)
        return runner(executor, checkpointer=checkpointer)(given, processor)

    assert once(copy, counting)["events"] == {"two": EVENTS["two"]}
    assert len(list((tmp_path / "checkpoints").rglob("*.coffea"))) == 4
    never = functools.partial(fails_on, "", OSError)
    assert once(copy.rename(tmp_path / "elsewhere.root") if moved else copy, never)["events"] == {"two": EVENTS["two"]}


# -- real files ------------------------------------------------------------------------------------------------------


def test_the_samples_of_coffea(executor, shared_data):
    given = {
        name: {"treename": "Events", "files": [str(shared_data / "hep" / f"coffea_nano_{file}.root")]}
        for name, file in (("ZJets", "dy"), ("Data", "dimuon"))
    }
    processor = NanoEventsProcessor(mode="virtual", check_filehandle=True)
    out = runner(executor(), schema=NanoAODSchema, chunksize=13)(given, processor)
    assert out["cutflow"] == {"ZJets_pt": 18, "ZJets_mass": 6, "Data_pt": 84, "Data_mass": 66}
    assert out["mass"].sum() == 72


def test_the_physics_example(executor, topeft_data):
    from examples.topeft.processor import QuietNanoAODSchema, TopEFTProcessor

    given = topeft_data.fileset()
    processor = TopEFTProcessor(systematics=("pileup", "jes"), only=("l0pt", "met"))
    used = executor(policy=Fixed(chunksize=700))
    out = runner(used, schema=QuietNanoAODSchema)(given, processor)
    expected = runner(IterativeExecutor(status=False), schema=QuietNanoAODSchema, chunksize=10**9)(given, processor)
    assert out["events"] == expected["events"]
    assert out["selected"] == expected["selected"]
    for name, wanted in expected["histograms"].items():
        found = out["histograms"][name]
        for mine, theirs in ((found.sums, wanted.sums), (found.variances, wanted.variances)):
            assert mine.keys() == theirs.keys()
            for key, values in theirs.items():
                # Terms cancel: what is equal is measured by the largest of a category.
                np.testing.assert_allclose(mine[key], values, rtol=1e-9, atol=1e-12 * np.abs(values).max())
