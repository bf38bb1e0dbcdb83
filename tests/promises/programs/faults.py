"""Damages a checkpoint in one place at a time and tries to read it.

Arguments: count, seed. Reports counts; `failures` is a list of texts.
"""

import json
import logging
import os
import pathlib
import random
import shutil
import sys
from collections import Counter

import states

from tflearner.checkpoint.directory import CheckpointDirectory
from tflearner.errors import CheckpointCorruptError

OLDER, NEWER = 1100, 1200  # The steps of the run; the newer one is damaged.
PAGE = 512
PATH = pathlib.Path("run")


class Step:
    """The directory of the step that is damaged; remembers what it was."""

    def __init__(self, path: pathlib.Path, older: pathlib.Path):
        self.path, self.whole = path, _contents(path)
        self.older, self.other = older, _contents(older)
        self.known = {name: _stamp(path / name) for name in self.whole}

    def __truediv__(self, name):
        return self.path / name

    def repair(self):
        """Makes the step what it was; only what was touched is written again."""
        for path in PATH.glob("step-*"):
            if path.name not in (self.path.name, self.older.name):
                path.rename(self.path)
        for entry in os.scandir(self.path):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry)
            elif self.known.get(entry.name) != _stamp(entry.path):
                os.unlink(entry)
        for name in self.whole.keys() - os.listdir(self.path):
            (self.path / name).write_bytes(self.whole[name])
            self.known[name] = _stamp(self.path / name)


def _stamp(path):
    found = os.lstat(path)
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _contents(path):
    return {p.name: p.read_bytes() for p in path.iterdir() if p.is_file()}


# Each fault takes (step, file name, generator), does its work, and returns the names one
# of which the error has to give; nothing if there is nothing to damage.


def flip_a_bit(step, name, rng):
    content = bytearray(step.whole[name])
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return _write(step, name, content)


def truncate(step, name, rng):
    return _write(step, name, step.whole[name][: rng.randrange(len(step.whole[name]))])


def extend(step, name, rng):
    return _write(step, name, step.whole[name] + rng.randbytes(rng.randint(1, 600)))


def zero_a_page(step, name, rng):
    content = bytearray(step.whole[name])
    start = rng.randrange(0, len(content), PAGE)
    stop = min(start + PAGE, len(content))
    content[start:stop] = bytes(stop - start)
    return _write(step, name, content)


def lose_a_piece(step, name, rng):
    content = step.whole[name]
    start = rng.randrange(len(content))
    stop = rng.randint(start + 1, len(content))
    return _write(step, name, content[:start] + content[stop:])


def swap_between_steps(step, name, rng):
    return _write(step, name, step.other[name])


def swap_two_files(step, name, rng):
    other = rng.choice([each for each in step.whole if each != name])
    _write(step, other, step.whole[name])
    return _write(step, name, step.whole[other]) and (name, other)


def delete(step, name, rng):
    (step / name).unlink()
    return (name,)


def add(step, name, rng):
    new = rng.choice(
        [name + "~", "." + name, "x.safetensors", "m9.weights.safetensors"]
    )
    (step / new).write_bytes(rng.choice([b"", step.whole[name]]))
    return (new,)


def add_a_directory(step, name, rng):
    (step / "more").mkdir()
    return ("more",)


def rename(step, name, rng):
    new = rng.choice([name.upper(), name + ".bak", "m1.weights.safetensors"])
    (step / name).rename(step / new)
    return (name, new)


def replace_by_a_link(step, name, rng):
    (step / name).rename(PATH / "elsewhere")
    (step / name).symlink_to((PATH / "elsewhere").absolute())
    return (name,)


def replace_by_a_pipe(step, name, rng):
    (step / name).unlink()
    os.mkfifo(step / name)
    return (name,)


def replace_by_a_directory(step, name, rng):
    (step / name).unlink()
    (step / name).mkdir()
    return (name,)


def rename_the_step(step, name, rng):
    new = step.path.with_name(f"step-{rng.randrange(NEWER + 1, 10**11):012}")
    step.path.rename(new)
    return (new.name,)


def _write(step, name, content):
    (step / name).write_bytes(content)
    return (name,) if bytes(content) != step.whole[name] else ()


FAULTS = {
    flip_a_bit: 10,
    truncate: 4,
    extend: 3,
    zero_a_page: 4,
    lose_a_piece: 3,
    swap_between_steps: 2,
    swap_two_files: 2,
    delete: 1,
    add: 1,
    add_a_directory: 1,
    rename: 1,
    replace_by_a_link: 1,
    replace_by_a_pipe: 1,
    replace_by_a_directory: 1,
    rename_the_step: 1,
}  # Fault: how often, relative to others.


class Log(logging.Handler):
    """Keeps what is logged."""

    def __init__(self):
        super().__init__()
        self.texts = []

    def emit(self, record):
        self.texts.append(record.getMessage())


def try_to_read(run, names):
    """Returns what is wrong with how a damaged step is refused, or `None`."""
    try:
        run.read()
        return "read as if it were whole"
    except CheckpointCorruptError as error:
        text = str(error)
    if not any(name in text for name in names):
        return f"none of {names} named: {text}"
    if "Nothing was changed." not in text:
        return f"no promise: {text}"
    return None


def try_to_go_back(run, names, log):
    """Returns what is wrong with how the step before is taken instead, or `None`."""
    before = run.read(on_corrupt="previous")
    if before.step != OLDER or not states.same(before.state, states.state_of(OLDER)):
        return f"went on with step {before.step}"
    if [path.name[:5] for path in before.skipped] != ["step-"]:
        return f"skipped {before.skipped}"
    if len(log.texts) != 1 or not any(name in log.texts[0] for name in names):
        return f"none of {names} in what is logged: {log.texts}"
    log.texts.clear()
    return None


def main(count, seed):
    rng, counts, failures = random.Random(seed), Counter(), []
    run = CheckpointDirectory(PATH)
    older, newer = (run.save(states.state_of(n), {}, step=n) for n in (OLDER, NEWER))
    step, log = Step(newer, older), Log()
    logging.getLogger("tflearner").addHandler(log)
    while counts["faults"] < count:
        fault = rng.choices([*FAULTS], [*FAULTS.values()])[0]
        name = rng.choice([*step.whole])
        try:
            names = fault(step, name, rng)
            if names:
                # The manifest is called by its name or by what it is.
                names += ("manifest",) if "MANIFEST.json" in names else ()
                wrong = try_to_read(run, names)
                counts["faults"] += 1
                if counts["faults"] % 4 == 0:
                    wrong = wrong or try_to_go_back(run, names, log)
                    counts["back"] += 1
                counts[f"{fault.__name__} {name}"] += 1
                if wrong:
                    failures.append(f"{fault.__name__} {name}: {wrong}")
        except Exception as error:  # noqa: BLE001 - what a user must never meet
            failures.append(f"{fault.__name__} {name}: {error!r}")
        step.repair()
        if len(failures) > 20:
            break
    assert states.same(run.read().state, states.state_of(NEWER)), "repaired badly"
    kinds = sorted(fault.__name__ for fault in FAULTS)
    return counts | {"kinds": kinds, "files": sorted(step.whole), "failures": failures}


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
