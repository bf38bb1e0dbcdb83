"""What is written is flushed before what relies on it: the calls of a save, in order.

A kill does not show what a power failure would: the system still has what was not
flushed. No arguments. Reports the number of calls; `failures` is a list of texts.
"""

import json
import os
import pathlib
import sys

import stand_ins
import states

from tflearner.checkpoint.directory import CheckpointDirectory


def calls_of_save(path, step) -> list[tuple[str, str]]:
    """Returns (function, path) of every call; paths instead of descriptors."""
    calls, paths = [], {}

    def call(function, arguments, keywords):
        name, first = function.__name__, arguments[0] if arguments else ""
        where = paths.get(first, "?") if isinstance(first, int) else str(first)
        creates = name == "open" and arguments[1] & os.O_CREAT
        calls.append(("create" if creates else name, where))
        result = function(*arguments, **keywords)
        if name == "open":
            paths[result] = where
        return result

    with stand_ins.calling(call):
        CheckpointDirectory(path, keep=1).save(states.state_of(step), {}, step=step)
    return calls


def faults(calls, run) -> list[str]:
    """Returns what is out of order."""
    found = []
    commit = next(n for n, (name, _) in enumerate(calls) if name == "rename")
    stage = calls[commit][1]

    def last(name, where, stop=None):
        indices = [n for n, each in enumerate(calls[:stop]) if each == (name, where)]
        return indices[-1] if indices else -1

    created = [where for name, where in calls if name == "create"]
    written = [where for where in created if where.startswith(f"{stage}/")]
    for where in written:
        flushed = last("fsync", where, commit)
        if flushed < last("write", where):
            found.append(
                f"{where} is not flushed between its last write and the commit"
            )
    if not written or not written[-1].endswith("/MANIFEST.json"):
        found.append(f"the manifest is not the last file: {written}")
    before = last("fsync", written[-2]) if len(written) > 1 else -1
    if before > last("create", written[-1]):
        found.append("the manifest is written before the files are flushed")
    if last("fsync", stage, commit) < last("create", written[-1]):
        found.append("the stage is not flushed between its last file and the commit")
    behind = calls[commit + 1 :]
    flushed = [n for n, each in enumerate(behind) if each == ("fsync", str(run))]
    removals = [n for n, (name, _) in enumerate(behind) if name in REMOVING]
    if not flushed or (removals and removals[0] < flushed[0]):
        found.append("the commit is not flushed before older steps are removed")
    deleted = [n for n, (name, _) in enumerate(behind) if name in ("rmtree", "unlink")]
    if deleted and not any(removals[0] < n < deleted[0] for n in flushed):
        found.append("a step is deleted before its new name is flushed")
    return found


REMOVING = ("rename", "rmtree", "unlink")


def main():
    run = pathlib.Path("some/run").absolute()
    first = calls_of_save(run, 1)
    failures = faults(first, run)
    for parent in (run.parent.parent, run.parent):
        if ("fsync", str(parent)) not in first:
            failures.append(f"new directories in {parent} are not flushed")
    second = calls_of_save(run, 2)
    if not any(name == "rmtree" for name, _ in second):
        failures.append("no step was removed")
    return {"calls": len(second), "failures": failures + faults(second, run)}


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
