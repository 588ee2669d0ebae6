"""What records amount to: the figures of a report, and times without the pauses between sessions."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from shaper.records import Entry, Records, shifted
from shaper.tally import Report


def closed(records: Records) -> Records:
    """The same records with every session placed where the one before it stopped."""
    if len(records.sessions) < 2:
        return records
    begins = [session.offset_s for session in records.sessions]
    earlier_by = [0.0]
    for before, session in pairwise(records.sessions):
        earlier_by.append(earlier_by[-1] + max(0.0, session.offset_s - before.stopped_s))

    def moved(entries: Sequence[Entry]) -> list[Entry]:
        return [shifted(e, -earlier_by[max(0, bisect_right(begins, e["at_s"]) - 1)]) for e in entries]

    sessions = [
        replace(session, offset_s=session.offset_s - by_s, stopped_s=session.stopped_s - by_s)
        for session, by_s in zip(records.sessions, earlier_by, strict=True)
    ]
    return replace(
        records,
        sessions=sessions,
        tasks=moved(records.tasks),
        shapes=moved(records.shapes),
        beliefs=moved(records.beliefs),
        capacities=moved(records.capacities),
    )


def held_core_s(task: Entry) -> float:
    """Core-seconds for which an attempt held its slot."""
    if task["started_s"] is None:
        return 0.0
    return float((task["finished_s"] - task["started_s"]) * task["cores"])


def offered_core_s(records: Records) -> float:
    """Core-seconds of the connected workers, while sessions lasted."""
    total = 0.0
    begins = [session.offset_s for session in records.sessions]
    for number, entry in enumerate(records.capacities):
        session = records.sessions[bisect_right(begins, entry["at_s"]) - 1]
        until_s = session.stopped_s
        if number + 1 < len(records.capacities):
            until_s = min(until_s, records.capacities[number + 1]["at_s"])
        total += sum(kind["cores"] * kind["count"] for kind in entry["kinds"]) * max(0.0, until_s - entry["at_s"])
    return total


def costs_core_s(records: Records) -> dict[str, float]:
    """Core-seconds by what became of them; idle is what the connected workers offered and no task held."""
    costs = dict.fromkeys(("useful", "overhead", "over a limit", "failed", "lost or taken back", "idle"), 0.0)
    for task in records.tasks:
        held, outcome = held_core_s(task), task["outcome"]
        if outcome == "done":
            overhead = min(held, ((task["used"] or {}).get("overhead_s") or 0.0) * task["cores"])
            costs["useful"] += held - overhead
            costs["overhead"] += overhead
        elif outcome.startswith("out of"):
            costs["over a limit"] += held
        elif outcome == "failed":
            costs["failed"] += held
        else:
            costs["lost or taken back"] += held
    costs["idle"] = max(0.0, offered_core_s(records) - sum(costs.values()))
    return costs


def done_elements(records: Records) -> int:
    """Elements with an accepted result, of all sessions."""
    if not records.sessions:
        return 0
    last = records.sessions[-1]
    if last.end is not None and "elements_done" in last.end:
        return int(last.end["elements_done"])
    mine = [t for t in records.tasks if t["at_s"] >= last.offset_s and t["work"] == "process"]
    new: int = sum(t["elements"] - t.get("skipped_elements", 0) for t in mine if t["verdict"] == "accept")
    return int(last.run.get("already_done_elements", 0)) + new


def all_elements(records: Records) -> int:
    """Elements of the whole run, done or not."""
    if not records.sessions:
        return 0
    last = records.sessions[-1]
    if last.end is not None and "elements" in last.end:
        return int(last.end["elements"])
    return sum(int(stage["elements"]) for stage in records.stages.values())


def left_out(records: Records, what: str) -> list[str]:
    """One line for each span that is `missing` or `skipped`; of an unfinished run what its tasks skipped."""
    end = records.sessions[-1].end if records.sessions else None
    if end is not None:
        return list(end.get(what) or ())
    return [span for t in records.tasks for span in t.get("skipped", ())] if what == "skipped" else []


def summary(records: Records) -> Report:
    """What a run amounted to over all its sessions; pauses between them do not count."""
    tasks, costs = records.tasks, costs_core_s(records)
    by_category: dict[str, dict[str, float]] = {}
    for task in tasks:
        row = by_category.setdefault(task["category"], {"tasks": 0, "elements": 0, "core_s": 0.0})
        row["tasks"] += 1
        row["core_s"] += held_core_s(task)
        if task["verdict"] == "accept" and task["work"] == "process":
            row["elements"] += task["elements"]
    busy = sum(map(held_core_s, tasks))
    return Report(
        makespan_s=sum(session.stopped_s - session.offset_s for session in records.sessions),
        elements=done_elements(records),
        tasks=len(tasks),
        splits=sum(t["verdict"] == "split" for t in tasks),
        retries=sum(t["verdict"] == "retry" for t in tasks),
        losses=sum(t["outcome"] == "lost" for t in tasks),
        failures=sum(t["outcome"] == "failed" for t in tasks),
        busy_core_s=busy,
        lost_core_s=costs["over a limit"] + costs["failed"] + costs["lost or taken back"],
        idle_core_s=costs["idle"],
        offered_core_s=offered_core_s(records),
        peak_memory_mib=max(filter(None, ((t["used"] or {}).get("memory_mib") for t in tasks)), default=None),
        by_category=by_category,
        decisions=tuple(_told(entry) for entry in records.shapes if entry.get("fan_in") is None),
        skipped=tuple(left_out(records, "skipped")),
        missing=tuple(left_out(records, "missing")),
    )


def _told(entry: Entry) -> str:
    where = f"{entry['stage']} {entry['group']}".strip()
    return f"{entry['at_s']:.2f} s  {where}: {entry['elements']} elements, {entry['reason']}"


def lanes(tasks: Sequence[Entry]) -> list[tuple[Entry, str]]:
    """Tasks that ran, in the order in which they started, each with a lane of its worker that is free at that time."""
    ran = sorted((t for t in tasks if t["started_s"] is not None), key=lambda t: (t["started_s"], t["finished_s"]))
    free: dict[str, list[int]] = {}
    busy: dict[str, list[tuple[float, int]]] = {}
    found = []
    for task in ran:
        worker = task["worker"] or "worker"
        mine, spare = busy.setdefault(worker, []), free.setdefault(worker, [])
        # Times are rounded in the records: a task may seem to begin a little before the last one ended.
        while mine and mine[0][0] <= task["started_s"] + 2e-4:
            heapq.heappush(spare, heapq.heappop(mine)[1])
        lane = heapq.heappop(spare) if spare else len(mine)
        heapq.heappush(mine, (task["finished_s"], lane))
        found.append((task, lane))
    several = {worker for worker in busy if len(busy[worker]) + len(free[worker]) > 1}
    return [(t, f"{w} #{lane + 1}" if (w := t["worker"] or "worker") in several else w) for t, lane in found]


def natural(lane: str) -> tuple[int, str, int, str]:
    """Order lanes by worker, the tenth after the ninth."""
    worker = lane.rpartition(" #")[0] or lane
    return (len(worker), worker, len(lane), lane)
