"""Files that somebody made to run code, to read elsewhere, or to exhaust the machine.

`corpus(base, elsewhere)` yields `Case`s: what is done to a copy of a good checkpoint.
What a payload would do, were it run, is to make the file `elsewhere / "ran"`.
"""

import dataclasses
import hashlib
import io
import itertools
import json
import marshal
import os
import pathlib
import pickle
import random
import socket
import struct
import zipfile
from collections.abc import Callable, Iterator

import numpy as np

TENSOR_FILES = ("m0.weights.safetensors", "m0.slots.safetensors", "extra.safetensors")
FILES = ("MANIFEST.json", "state.json", *TENSOR_FILES)
DEEP = 100_000


@dataclasses.dataclass
class Case:
    """One hostile checkpoint.

    Attributes:
        name: What it is.
        make: Function of the path of a step's directory that spoils it.
        loads: Whether it may load; `None` if either is fine.
    """

    name: str
    make: Callable[[pathlib.Path], None]
    loads: bool | None = False


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return (os.system, (self.command,))


# Making things.


def forge(step: pathlib.Path, name: str, content: bytes) -> None:
    """Replaces a file and makes the manifest agree."""
    if name == "MANIFEST.json":
        (step / name).write_bytes(content)
        return
    (step / name).write_bytes(content)
    manifest = manifest_of(step)
    digest = hashlib.sha256(content).hexdigest()
    manifest["files"][name] = {"bytes": len(content), "sha256": digest}
    write_manifest(step, json.dumps(manifest))


def manifest_of(step) -> dict:
    return json.loads((step / "MANIFEST.json").read_bytes().split(b"\n")[0])


def write_manifest(step, text: str | bytes) -> None:
    """Writes line 1 and the hash of it."""
    text = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    digest = hashlib.sha256(text).hexdigest().encode()
    (step / "MANIFEST.json").write_bytes(text + b"\n" + digest + b"\n")


def tensors(header, data: bytes = b"", length: int | None = None) -> bytes:
    """Returns a tensor file of a header, which may be JSON text, and its bytes."""
    if not isinstance(header, bytes):
        text = header if isinstance(header, str) else json.dumps(header)
        header = text.encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def tensor(dtype="F32", shape=(2,), offsets=(0, 8), **more) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets} | more


def _zip(**members) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _npy(array) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


# What can lie where one of our files should be.


def bodies(elsewhere: pathlib.Path) -> dict[str, bytes]:
    """Returns {kind: content}: programs and archives of other formats."""
    command = f"touch {elsewhere / 'ran'}"
    source = f"import os; os.system({command!r})"
    bomb, objects = Bomb(command), np.array([Bomb(command)], dtype=object)
    keras = {
        "class_name": "Lambda",
        "config": {
            "function": {"class_name": "__lambda__", "config": {"code": "4wEA"}}
        },
        "module": "os",
        "registered_name": "system",
    }
    found = {f"pickle {n}": pickle.dumps(bomb, protocol=n) for n in range(6)}
    found["pickle eval"] = b"cbuiltins\neval\n(V" + source.encode() + b"\ntR."
    found["pickle exec"] = b"cbuiltins\nexec\n(V" + source.encode() + b"\ntR."
    found |= {
        "npy of objects": _npy(objects),
        "npy of numbers": _npy(np.ones(3)),
        "npz of objects": _zip(**{"a.npy": _npy(objects)}),
        "torch zip": _zip(**{"archive/data.pkl": pickle.dumps(bomb)}),
        "keras zip": _zip(**{"config.json": json.dumps(keras)}),
        "keras json": json.dumps(keras).encode(),
        "python zip": _zip(**{"__main__.py": source}),
        "h5": b"\x89HDF\r\n\x1a\n" + bytes(512),
        "marshal": marshal.dumps(_code(source)),
        "python": source.encode(),
        "shell": b"#!/bin/sh\n" + command.encode(),
        "elf": b"\x7fELF\x02\x01\x01" + bytes(64),
        "yaml": f"!!python/object/apply:os.system ['{command}']".encode(),
        "jsonpickle": json.dumps(
            {"py/reduce": [{"py/function": "os.system"}]}
        ).encode(),
        "saved model": b"\x08\x01\x12\x10\x0a\x0e\x0a\x0c",
        "gzip": b"\x1f\x8b\x08" + bytes(64),
        "xml bomb": b"<!DOCTYPE a [<!ENTITY b 'cc'><!ENTITY d '&b;&b;'>]><a>&d;</a>",
        "nothing": b"",
        "zeros": bytes(4096),
        "utf-16": "{}".encode("utf-16"),
        "byte order mark": b"\xef\xbb\xbf{}",
        "not utf-8": b'{"a": "\xff\xfe"}',
    }
    return found


def _code(source):
    return compile(source, "payload", "exec")


def of_other_formats(elsewhere) -> Iterator[Case]:
    for (kind, content), name in itertools.product(bodies(elsewhere).items(), FILES):
        if name != "MANIFEST.json":
            yield Case(f"{kind} as {name}", lambda s, n=name, c=content: forge(s, n, c))
        yield Case(
            f"{kind} over {name}", lambda s, n=name, c=content: (s / n).write_bytes(c)
        )
        if name == "MANIFEST.json":
            yield Case(f"{kind} hashed", lambda s, c=content: write_manifest(s, c))


# Tensor files.

_TWO = {"a": tensor(), "b": tensor(offsets=(8, 16))}
DATA = bytes(range(16))
HEADERS = {
    "length 2^63": tensors(_TWO, DATA, 2**63),
    "length 2^64-1": tensors(_TWO, DATA, 2**64 - 1),
    "length 2^63-8": tensors(_TWO, DATA, 2**63 - 8),
    "length 10^8": tensors(_TWO, DATA, 10**8),
    "length 0": tensors(_TWO, DATA, 0),
    "length 1": tensors(_TWO, DATA, 1),
    "length beyond": tensors(_TWO, DATA, 1000),
    "length short": tensors(_TWO, DATA, 20),
    "only a length": struct.pack("<Q", 0),
    "four bytes": b"\x01\x00\x00\x00",
    "no JSON": tensors("hello", DATA),
    "a list": tensors("[]", DATA),
    "a number": tensors("1", DATA),
    "null": tensors("null", DATA),
    "deep": tensors("[" * DEEP + "]" * DEEP, DATA),
    "deep dicts": tensors('{"a":' * DEEP + "1" + "}" * DEEP, DATA),
    "deep, open": tensors('{"a":' * DEEP, DATA),
    "spaces before": tensors("  " + json.dumps(_TWO), DATA),
    "twice": tensors(
        '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
        '"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}',
        DATA,
    ),
    "dtype twice": tensors(
        '{"a":{"dtype":"F32","dtype":"I32","shape":[4],"data_offsets":[0,16]}}', DATA
    ),
    "NaN": tensors('{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,16]}}', DATA),
    "overlap": tensors({"a": tensor(shape=(4,), offsets=(0, 16)), "b": tensor()}, DATA),
    "same place": tensors({"a": tensor(), "b": tensor()}, DATA[:8]),
    "hole": tensors({"a": tensor(), "b": tensor(offsets=(12, 20))}, bytes(20)),
    "hole before": tensors({"a": tensor(offsets=(8, 16))}, DATA),
    "hole behind": tensors({"a": tensor()}, DATA),
    "past the end": tensors({"a": tensor(shape=(8,), offsets=(0, 32))}, DATA),
    "backwards": tensors({"a": tensor(shape=(4,), offsets=(16, 0))}, DATA),
    "negative offsets": tensors({"a": tensor(offsets=(-8, 0))}, DATA),
    "huge offsets": tensors({"a": tensor(offsets=(2**64 - 8, 2**64))}, DATA),
    "more than 64 bits": tensors({"a": tensor(offsets=(2**70, 2**70 + 8))}, DATA),
    "fractions": tensors({"a": tensor(offsets=(0.0, 8.0))}, DATA[:8]),
    "text offsets": tensors({"a": tensor(offsets=("0", "8"))}, DATA[:8]),
    "bool offsets": tensors({"a": tensor("U8", (1,), (False, True))}, DATA[:1]),
    "one offset": tensors({"a": tensor(offsets=(0,))}, DATA),
    "three offsets": tensors({"a": tensor(offsets=(0, 8, 16))}, DATA),
    "no offsets": tensors({"a": {"dtype": "F32", "shape": [2]}}, DATA),
    "no shape": tensors({"a": {"dtype": "F32", "data_offsets": [0, 16]}}, DATA),
    "no dtype": tensors({"a": {"shape": [4], "data_offsets": [0, 16]}}, DATA),
    "tensor a list": tensors({"a": ["F32", [4], [0, 16]]}, DATA),
    "tensor null": tensors({"a": None}, DATA),
    "negative shape": tensors({"a": tensor(shape=(-1, -2))}, DATA[:8]),
    "negative and zero": tensors({"a": tensor(shape=(-1, 0), offsets=(0, 0))}),
    "shape too large": tensors({"a": tensor(shape=(3,))}, DATA[:8]),
    "shape overflows": tensors({"a": tensor(shape=(2**33, 2**33))}, DATA[:8]),
    "shape wraps to 2": tensors({"a": tensor(shape=(2**63 + 1, 2))}, DATA[:8]),
    "shape of 2^62 and 0": tensors({"a": tensor(shape=(2**62, 0), offsets=(0, 0))}),
    "shape of fractions": tensors({"a": tensor(shape=(2.0,))}, DATA[:8]),
    "shape of bools": tensors({"a": tensor(shape=(True, 2))}, DATA[:8]),
    "shape of text": tensors({"a": tensor(shape=("2",))}, DATA[:8]),
    "shape a number": tensors({"a": tensor(shape=2)}, DATA[:8]),
    "rank 10000": tensors({"a": tensor(shape=(1,) * 10_000, offsets=(0, 4))}, DATA[:4]),
    "rank 65": tensors({"a": tensor(shape=(1,) * 65, offsets=(0, 4))}, DATA[:4]),
    "more fields": tensors({"a": tensor(more=1)}, DATA[:8]),
    "metadata of numbers": tensors({"__metadata__": {"a": 1}, **_TWO}, DATA),
    "metadata a list": tensors({"__metadata__": [], **_TWO}, DATA),
    "only metadata": tensors({"__metadata__": {"run": "os.system"}}),
    "100000 tensors": tensors(
        {f"t{n}": tensor("U8", (0,), (0, 0)) for n in range(100_000)}
    ),
    "name of 10^6": tensors({"a" * 10**6: tensor()}, DATA[:8]),
} | {
    f"dtype {dtype!r}": tensors({"a": tensor(dtype)}, DATA[:8])
    for dtype in (
        "O",
        "object",
        "<f4",
        "V8",
        "S8",
        "U2",
        "f32",
        "F128",
        "",
        None,
        1,
        [],
    )
}


def of_tensor_files() -> Iterator[Case]:
    for (kind, content), name in itertools.product(HEADERS.items(), TENSOR_FILES):
        yield Case(f"{kind} in {name}", lambda s, n=name, c=content: forge(s, n, c))


def of_real_tensor_files(base) -> Iterator[Case]:
    """One thing wrong in files that are right otherwise, and so refused for it."""
    for name in TENSOR_FILES:
        content = (base / name).read_bytes()
        start = 8 + int.from_bytes(content[:8], "little")
        header, data = json.loads(content[8:start]), content[start:]
        for kind, (changed, behind) in _one_fault(header, data).items():
            forged = tensors(changed, behind)
            # No hash says what shapes and dtypes of other arrays than weights are.
            free = kind in ("one more axis", "another dtype") and "weights" not in name
            yield Case(
                f"{kind} in real {name}",
                lambda s, n=name, c=forged: forge(s, n, c),
                loads=None if free else False,
            )


def _one_fault(header, data) -> dict[str, tuple]:
    """Returns {kind: (header, data)}."""
    key, first = next(iter(header.items()))
    text = json.dumps(header)
    size, shape = first["data_offsets"][1], first["shape"]

    def moved(by):
        return {
            k: own | {"data_offsets": [offset + by for offset in own["data_offsets"]]}
            for k, own in header.items()
        }

    def with_first(**parts):
        return header | {key: first | parts}

    return {
        "hole before": (moved(8), bytes(8) + data),
        "hole behind": (header, data + bytes(8)),
        "hole within": (moved(8) | {key: first}, data[:size] + bytes(8) + data[size:]),
        "negative shape": (with_first(shape=[-n for n in shape] + [-1]), data),
        "shape of fractions": (with_first(shape=[float(n) for n in shape]), data),
        "one more axis": (with_first(shape=[*shape, 1]), data),
        "another dtype": (with_first(dtype="I32" if "F32" in text else "I64"), data),
        "unknown dtype": (with_first(dtype="<f4"), data),
        "more fields": (with_first(more=1), data),
        "metadata": ({"__metadata__": {"a": "b"}} | header, data),
        "a tensor more": (header | {"x": tensor("U8", (0,), (0, 0))}, data),
        "a key twice": (
            text[:-1] + f", {json.dumps(key)}: {json.dumps(first)}}}",
            data,
        ),
        "a tensor renamed": (
            {f"{k}x" if k == key else k: own for k, own in header.items()},
            data,
        ),
    }


# JSON.


def _many_keys():
    """The last of 300,000 keys is there twice."""
    keys = [f'"{n}":0' for n in range(300_000)]
    return "{" + ",".join([*keys, keys[-1]]) + "}"


TEXTS = {
    "deep lists": "[" * DEEP + "]" * DEEP,
    "deep, open": "[" * DEEP,
    "deep dicts": '{"a":' * DEEP + "1" + "}" * DEEP,
    "depth 100": '{"a":' * 100 + "1" + "}" * 100,
    "NaN": '{"a": NaN}',
    "Infinity": '{"a": Infinity}',
    "-Infinity": '{"a": -Infinity}',
    "1e999": '{"a": 1e999}',
    "10^5 digits": '{"a": %s}' % ("9" * 10**5),
    "twice": '{"a": 1, "a": 2}',
    "17 MB": '{"a": "%s"}' % ("x" * 17 * 2**20),
    "a list": "[]",
    "a number": "1",
    "null": "null",
    "text": '"pickle"',
    "empty": "{}",
    "half": '{"a": ',
    "two": "{} {}",
    "comment": "{} // os.system",
    "single quotes": "{'a': __import__('os').system('true')}",
    "lone surrogate": '{"a": "\\ud800"}',
    "NUL": '{"a": "\x00"}',
    "open string of quotes": '{"a": "' + '\\"' * 10**6,
    "quotes": '\\"' * 10**6,
    "backslashes": '{"a": "' + "\\" * (10**6 + 1),
    "many keys, one twice": _many_keys(),
    "many digits": '{"a": 0.%s}' % ("1" * 10**6),
    "many lists": "[" + "[]," * 10**6 + "[]]",
    "400000 names": json.dumps(dict.fromkeys(map(str, range(400_000)), 0)),
    "400000 names in 12 MB": json.dumps(
        {"about": {}, "state": {f"name_of_a_thing_{n:08d}": 0 for n in range(400_000)}}
    ),
}
FREE = ("written_by", "parent", "min_reader", "seq")  # Readers need none of these.
BAD_VALUES = (None, "x", "../x", -1, 2**70, 1.5, True, [], {}, [[]], {"a": {"b": None}})
BAD_NAMES = (
    *("../x", "../../etc/passwd", "/etc/passwd", "a/b", "a\\b", "", ".", "..", "a\0b"),
    *(
        "C:\\x",
        "MANIFEST.json",
        ".lock",
        "x" * 300,
        "~",
        "$HOME",
        "\ud800",
        "state.json/",
    ),
    *("m0.weights.safetensors\n", "file:///etc/passwd", "CON", "-rf", "\u202ex"),
)


def of_json() -> Iterator[Case]:
    for kind, text in TEXTS.items():
        yield Case(
            f"state: {kind}", lambda s, t=text: forge(s, "state.json", t.encode())
        )
        yield Case(f"manifest: {kind}", lambda s, t=text: write_manifest(s, t))


def of_real_json(base) -> Iterator[Case]:
    """A key twice in files that are right otherwise."""
    state = (base / "state.json").read_text()
    twice = state.replace('"state":', '"about":{},"state":', 1)
    yield Case("state: a key twice", lambda s: forge(s, "state.json", twice.encode()))
    manifest = json.dumps(manifest_of(base))
    again = f'{manifest[:-1]}, "step": {manifest_of(base)["step"]}}}'
    yield Case("manifest: a key twice", lambda s: write_manifest(s, again))


def of_manifests(base: pathlib.Path) -> Iterator[Case]:
    """Every value of a manifest wrong in turn, under a hash that is right."""
    whole = manifest_of(base)
    for key, value in itertools.product(whole, BAD_VALUES):
        changed = whole | {key: value}
        loads = None if key in FREE else False
        if changed != whole and not (key == "finite" and value is True):
            yield Case(f"manifest {key}={value!r}", _manifest(changed), loads)
    for key in whole:
        rest = {k: v for k, v in whole.items() if k != key}
        yield Case(f"manifest without {key}", _manifest(rest), None)
    file = whole["files"]["state.json"]
    for part, value in itertools.product(file, BAD_VALUES):
        files = whole["files"] | {"state.json": file | {part: value}}
        yield Case(f"file {part}={value!r}", _manifest(whole | {"files": files}))
    for name in BAD_NAMES:
        files = whole["files"] | {name: file}
        yield Case(f"one more file {name!r}", _manifest(whole | {"files": files}))
        files = {k: v for k, v in whole["files"].items() if k != "state.json"}
        files |= {name: file}
        yield Case(f"another name {name!r}", _manifest(whole | {"files": files}))
    for size in (2**62, 2**31, 10**12):
        files = whole["files"] | {"m0.weights.safetensors": file | {"bytes": size}}
        yield Case(f"declares {size} bytes", _manifest(whole | {"files": files}))


def _manifest(manifest):
    text = json.dumps(manifest)
    return lambda step: write_manifest(step, text)


_WEIGHTS = "m0.weights.safetensors"
STRANGE = (
    *BAD_VALUES,
    {"tflearner:builder": "os.system", "arguments": {"command": "true"}},
    {"tflearner:given": "a function"},
    {"__class__": "os.system"},
    {"py/object": "os.system"},
    {"$array": ["../x", "a"]},
    {"$array": ["/etc/passwd", "a"]},
    {"$array": ["state.json", "a"]},
    {"$array": [_WEIGHTS, "000/kernel"]},  # A second time.
    {"$array": [_WEIGHTS, "000/kernel", "O"]},
    {"$array": [_WEIGHTS, "000/kernel", "complex128"]},
    {"$array": [_WEIGHTS, "000/kernel", "object", 1]},
    {"$array": [_WEIGHTS]},
    {"$array": []},
    {"$array": {"dtype": "O"}},
    {"$array": [[], []]},
    {"$numpy": ["O", "00" * 8]},
    {"$numpy": ["object", "00" * 8]},
    {"$numpy": ["float32", "zz"]},
    {"$numpy": ["float32", ""]},
    {"$numpy": ["bool", "07"]},
    {"$numpy": ["V8", "00" * 8]},
    {"$numpy": []},
    {"$float": "00"},
    {"$float": 1},
    {"$float": None},
    {"$int": "os.system"},
    {"$int": 5},
    {"$int": "0x" + "f" * 10**6},
    {"$str": "ff"},
    {"$str": 1},
    {"$tuple": 5},
    {"$tuple": {"a": 1}},
    {"$set": [[1]]},
    {"$set": [1, 1]},
    {"$frozenset": [{}]},
    {"$dict": [[1, 2, 3]]},
    {"$dict": [[[1], 2]]},
    {"$dict": [[n * (2**61 - 1), 0] for n in range(20_000)]},
    {"$dict": 1},
    {"$dict": [["a", 1], ["a", 2]]},
    {"$tuple": [], "$set": []},
    {"$eval": "1"},
    {"$": 1},
)


def of_states(base: pathlib.Path) -> Iterator[Case]:
    """Every value of the structure replaced in turn, under hashes that are right."""
    whole = json.loads((base / "state.json").read_bytes())
    paths = [*_paths(whole)]
    rng = random.Random(len(paths))
    for value in STRANGE:
        for path in rng.sample(paths, 4):
            changed = json.dumps(_replaced(whole, path, value)).encode()
            yield Case(
                f"state {'/'.join(map(str, path))}={value!r:.80}",
                lambda s, c=changed: forge(s, "state.json", c),
                loads=None,
            )


def _paths(value, path=()):
    yield path
    pairs = value.items() if isinstance(value, dict) else ()
    pairs = enumerate(value) if isinstance(value, list) else pairs
    for key, each in pairs:
        yield from _paths(each, (*path, key))


def _replaced(value, path, new):
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = _replaced(value[path[0]], path[1:], new)
    return copy


# Things that are no files.


def of_file_systems(base, elsewhere) -> Iterator[Case]:
    for name in FILES:
        twin = elsewhere / name  # The same bytes: followed, it would load.
        twin.write_bytes((base / name).read_bytes())
        kinds = {
            "link to its twin": lambda p, twin=twin: p.symlink_to(twin),
            "link to nothing": lambda p: p.symlink_to(elsewhere / "nothing"),
            "link to itself": lambda p: p.symlink_to(p),
            "link to /dev/zero": lambda p: p.symlink_to("/dev/zero"),
            "link to /etc/passwd": lambda p: p.symlink_to("/etc/passwd"),
            "link within": lambda p: (
                p.with_name("x").write_bytes((base / p.name).read_bytes()),
                p.symlink_to("x"),
            ),
            "pipe": os.mkfifo,
            "directory": pathlib.Path.mkdir,
            "socket": _bind,
            "device zero": lambda p: os.mknod(p, 0o20666, os.makedev(1, 5)),
            "device full": lambda p: os.mknod(p, 0o20666, os.makedev(1, 7)),
            "block device": lambda p: os.mknod(p, 0o60666, os.makedev(7, 99)),
            "sparse 1 TB": lambda p: (p.touch(), os.truncate(p, 2**40)),
        }
        for kind, make in kinds.items():
            yield Case(f"{kind} for {name}", _instead(name, make))
    for name, size in itertools.product(TENSOR_FILES, (2**27, 2**31, 2**42)):
        yield Case(
            f"{name} grows to {size} bytes, as the manifest says", _grown(name, size)
        )
    twin = elsewhere / "step"
    twin.mkdir()
    for name in FILES:
        (twin / name).write_bytes((base / name).read_bytes())
    yield Case("the step is a link", lambda s: _link_step(s, twin))
    for name in ("x", ".x", "x\ny", "\udcff", "MANIFEST.json~", "state.json.pickle"):
        yield Case(f"one more file {name!r} there", lambda s, n=name: (s / n).touch())
    yield Case(
        "1000 more files", lambda s: [(s / f"x{n}").touch() for n in range(1000)]
    )


def _instead(name, make):
    def spoil(step):
        (step / name).unlink()
        make(step / name)

    return spoil


def _grown(name, size):
    def spoil(step):
        os.truncate(step / name, size)
        manifest = manifest_of(step)
        manifest["files"][name]["bytes"] = size
        write_manifest(step, json.dumps(manifest))

    return spoil


def _bind(path):
    there = os.getcwd()
    os.chdir(path.parent)  # Names of sockets are short.
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(there)


def _link_step(step, twin):
    step.rename(step.parent.parent / f"{step.parent.name}-moved")
    step.symlink_to(twin)


# Noise.


def of_noise(base, seed, count) -> Iterator[Case]:
    """Bytes changed at random, under hashes that are right."""
    rng = random.Random(seed)
    for number in range(count):
        name = FILES[number % len(FILES)]
        content = (base / name).read_bytes()
        if name == "MANIFEST.json":
            content = content.split(b"\n")[0]
        # Headers and structure lie in front; what is behind is numbers.
        content = bytearray(content)
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(min(len(content), 600))
            content[place] = rng.choice(b'{}[]",:0129-eE. \x00\xff$')
        content = bytes(content)
        if name == "MANIFEST.json":
            make = lambda s, c=content: write_manifest(s, c)
        else:
            make = lambda s, n=name, c=content: forge(s, n, c)
        yield Case(f"noise {number} in {name}", make, loads=None)


def corpus(base, elsewhere, seed=0, noise=100) -> list[Case]:
    """Returns all cases; `base` is a good step's directory, `elsewhere` an empty one."""
    return [
        *of_other_formats(elsewhere),
        *of_tensor_files(),
        *of_real_tensor_files(base),
        *of_json(),
        *of_real_json(base),
        *of_manifests(base),
        *of_states(base),
        *of_file_systems(base, elsewhere),
        *of_noise(base, seed, noise),
    ]
