"""Objects in files: named and described, and never anything but registered code."""

import dataclasses
import enum
import json
import os
import subprocess
import sys
import types

import numpy as np
import pytest

from tflearner.checkpoint import builders, kinds, state_tree, strict_json
from tflearner.checkpoint.builders import (
    ARGUMENTS,
    BUILDER,
    GIVEN,
    Rebuilder,
    Undescribable,
    describe,
    describe_arguments,
    name_of,
    register_builder,
)
from tflearner.checkpoint.kinds import of_kind
from tflearner.errors import BuilderError, UsageError


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """A registry that forgets what a test registers."""
    monkeypatch.setattr(builders, "_BUILDERS", dict(builders._BUILDERS))
    monkeypatch.setattr(builders, "_DESCRIBERS", dict(builders._DESCRIBERS))
    monkeypatch.setattr(kinds, "_DECLARED", dict(kinds._DECLARED))


@dataclasses.dataclass
class Layer:
    size: int = 1
    inner: object = None
    function: object = None


@pytest.fixture
def layers(registry):
    register_builder("test/Layer", Layer, arguments=lambda layer: vars(layer))
    return Layer


def through_file(description):
    written = state_tree.to_json(description, ("about",), None)
    return state_tree.from_json(strict_json.loads(strict_json.dumps(written)), None)


def again(value, **settings):
    """Returns what a file makes of a value."""
    rebuilder = Rebuilder(**settings)
    rebuilt = rebuilder.arguments(through_file(describe_arguments({"x": value})))["x"]
    rebuilder.check("test")
    return rebuilt


# What comes back.

PLAIN = {
    "none": None,
    "bools": [True, False],
    "ints": [0, -1, 2**100],
    "floats": [0.1, -0.0, 1e-310, float("inf"), float("-inf")],
    "texts": ["", "tflearner", "\u00e4 \n\x00", "$tuple"],
    "tuples": (1, (2, [3, ()])),
    "sets": {1, 2, 3},
    "mixed set": {1, "a", None, (1, 2), ("a", (None,))},
    "frozen set": frozenset({1, "a"}),
    "dict": {"a": 1, "b": {"c": ()}},
    "dict in order": {"z": 1, "a": 2},
    "dict of odd keys": {1: "int", ("a", 2): "tuple", "$dict": 3, "": 4, "a/b": 5},
    "dict of keys that look alike": {"1": 1, 1: 2},
    "dict with a tag": {"$tuple": [1, 2]},
    "schedule": [[0, 1e-3], [100_000, 1e-5]],
    "schedule of tuples": ((0, 1e-3), (100_000, 1e-5)),
    "nothing": [[], {}, (), set()],
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_python_comes_back(name):
    value = PLAIN[name]
    rebuilt = again(value)
    is_set = isinstance(
        value, set | frozenset
    )  # Their order changes between processes.
    assert rebuilt == value and (is_set or repr(rebuilt) == repr(value))
    assert type(rebuilt) is type(value)


def test_nan_comes_back():
    assert np.isnan(again(float("nan")))


@pytest.mark.parametrize(
    "value",
    [np.float32(0.1), np.float64(0.1), np.int64(5), np.uint8(255), np.bool_(True)],
    ids=lambda value: value.dtype.name,
)
def test_numpy_scalars_keep_their_value(value):
    rebuilt = again({"x": [value]})["x"][0]
    assert rebuilt == value and float(rebuilt) == float(value)


def test_objects_come_back_with_all_that_is_in_them(layers):
    value = {"a": [Layer(2, Layer(3, (Layer(4),)))], "b": Layer}
    assert again(value) == value


def test_functions_that_are_registered_come_back():
    def activation():
        pass

    register_builder("test/activation", activation)
    assert again([activation]) == [activation]


def test_subclasses_inherit_how_they_are_described(layers):
    class Wide(Layer):
        pass

    rebuilt = again(Wide(7), builders={name_of(Wide): Wide})
    assert type(rebuilt) is Wide and rebuilt.size == 7
    with pytest.raises(BuilderError, match="Wide"):  # It is not taken for a Layer.
        again(Wide(7))


# What has to be given again.


class Level(enum.IntEnum):
    LOW = 1


class Text(str):
    pass


UNKNOWN = {
    "function": (len, "len"),
    "lambda": (lambda: 1, "<lambda>"),
    "object": (object(), "builtins.object"),
    "bytes": (b"x", "builtins.bytes"),
    "complex": (1j, "builtins.complex"),
    "array": (np.zeros(3), "numpy.ndarray"),
    "module": (os, "builtins.module"),
    "generator": (np.random.default_rng(0), "Generator"),
    "in a list": ([1, [len]], "len"),
    "in a dict": ({"a": {"b": len}}, "len"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_files_cannot_hold_is_named(name):
    value, what = UNKNOWN[name]
    with pytest.raises(Undescribable, match=what):
        describe(value)
    with pytest.raises(BuilderError, match=rf"x: .*{what}.*from_checkpoint\(path, x="):
        again(value)
    assert again(value, given={"x": 5}) == 5


@pytest.mark.parametrize(
    "value",
    [
        Level.LOW,
        Text("a"),
        np.str_("a"),
        np.longdouble(1),
        np.datetime64("2026-01-01"),
        np.void(b"ab"),
        types.MappingProxyType({"a": 1}),
        {BUILDER: "os.system", ARGUMENTS: {"command": "true"}},
        {GIVEN: "mine"},
        {frozenset({1}): 2},
    ],
    ids=lambda value: f"{type(value).__name__} {value!s:.12}",
)
def test_what_is_nearly_plain_comes_back_or_has_to_be_given(value):
    try:
        rebuilt = again(value)
    except BuilderError as error:
        assert "x: " in str(error)
    else:
        assert rebuilt == value


def test_all_that_is_missing_is_in_one_error(layers):
    value = Layer(len, Layer(2, UsageError, function=[min]))
    described = through_file(describe_arguments({"layer": value, "other": max}))
    rebuilder = Rebuilder()
    rebuilder.arguments(described)
    with pytest.raises(BuilderError) as caught:
        rebuilder.check("Thing.from_checkpoint()")
    text = str(caught.value)
    for name in ("size=", "function=", "other=", "inner=", "len", "min", "UsageError"):
        assert name in text
    assert text.startswith("Thing.from_checkpoint(): got ")
    assert "register_builder" in text and "Nothing was changed" in text


def test_an_incomplete_object_is_not_made(registry):
    made = []
    register_builder("test/make", lambda **kwargs: made.append(kwargs))
    description = {BUILDER: "test/make", ARGUMENTS: describe_arguments({"f": len})}
    rebuilder = Rebuilder()
    rebuilder.arguments({"x": description})
    assert made == [] and [*rebuilder.missing] == ["f"]


def test_settings_that_are_given_win_at_any_depth(layers):
    value = Layer(1, Layer(2, Layer(3, function=len)))
    rebuilder = Rebuilder(given={"function": abs, "sise": 3})
    rebuilt = rebuilder.arguments(through_file(describe_arguments({"x": value})))["x"]
    rebuilder.check("test")
    assert rebuilt.function is rebuilt.inner.inner.function is abs
    assert (rebuilt.size, rebuilt.inner.inner.size) == (1, 3)
    assert rebuilder.used == {"function"}
    assert rebuilder.known == {"x", "size", "inner", "function"}


def test_names_in_settings_of_users_are_no_arguments(layers):
    value = Layer(1, {"size": 3})
    assert again(value, given={"size": 9}) == Layer(9, {"size": 3})


# Only registered code runs.


@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "subprocess.run", ""])
def test_builders_that_are_not_registered_are_never_called(name, tmp_path):
    marker = tmp_path / "marker"
    description = {BUILDER: name, ARGUMENTS: {"command": f"touch {marker}"}}
    rebuilder = Rebuilder()
    rebuilder.arguments({"x": {"a": [description]}})
    with pytest.raises(BuilderError, match="builders") as caught:
        rebuilder.check("test")
    assert repr(name) in str(caught.value) and "not registered" in str(caught.value)
    assert not marker.exists()


def test_builders_are_looked_up_where_the_caller_says_so():
    calls = []
    description = {BUILDER: "os.system", ARGUMENTS: {"command": "true"}}
    rebuilder = Rebuilder(builders={"os.system": lambda **given: calls.append(given)})
    rebuilder.arguments({"x": description})
    assert calls == [{"command": "true"}]


BROKEN = {
    "name of no string": {BUILDER: ["x"]},
    "name of a number": {BUILDER: 5},
    "arguments of no dict": {BUILDER: "test/Layer", ARGUMENTS: 5},
    "arguments that are a list": {BUILDER: "test/Layer", ARGUMENTS: [1]},
    "argument unknown": {BUILDER: "test/Layer", ARGUMENTS: {"sise": 3}},
    "argument no string": {BUILDER: "test/Layer", ARGUMENTS: {1: 3}},
    "a set of dicts": {BUILDER: "test/Layer", ARGUMENTS: {"size": [{BUILDER: {}}]}},
    "builder that raises": {BUILDER: "test/raises", ARGUMENTS: {}},
    "builder out of memory": {BUILDER: "test/memory", ARGUMENTS: {}},
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_descriptions_are_errors_of_checkpoints(name, layers):
    def raises():
        raise RuntimeError("inside")

    def memory():
        raise MemoryError

    register_builder("test/raises", raises)
    register_builder("test/memory", memory)
    rebuilder = Rebuilder()
    with pytest.raises(BuilderError):
        with rebuilder.telling("test"):
            rebuilder.arguments({"x": BROKEN[name]})
        rebuilder.check("test")


# Kinds, and what belongs to a machine.


def of_this_library(cls):
    cls.__module__ = "tflearner.tests"
    return cls


@pytest.fixture
def house(registry):
    """Classes of a library: a house takes a roof, names a tool, and has a place."""

    @of_kind(kinds.SPACE)
    @of_this_library
    class Roof(Layer):
        pass

    @of_kind(kinds.LEARNER)
    @of_this_library
    class Party(Layer):
        pass

    @of_kind(
        kinds.SPEC,
        takes={"inner": (kinds.SPACE,), "function": (kinds.named(kinds.CATALOG),)},
        machine={"place": None, "garden/tree": "oak"},
    )
    @of_this_library
    class House(Layer):
        def __init__(self, place=None, garden=None, **parts):
            super().__init__(**parts)
            self.place, self.garden = place, garden

    tool = of_kind(kinds.CATALOG)(of_this_library(type("Tool", (), {})))
    classes = {"Roof": Roof, "Party": Party, "House": House, "Tool": tool}
    for name, cls in classes.items():
        register_builder(f"test/{name}", cls, arguments=vars)
    return types.SimpleNamespace(**classes)


def own_below(base):
    """A class of users that has a base class of the library."""
    own = type(f"Own{base.__name__}", (base,), {"__module__": __name__})
    return register_builder(f"test/Own{base.__name__}", own, arguments=vars)


def test_arguments_take_the_kinds_they_say(house, layers):
    good = [
        {"inner": house.Roof(2)},
        {"inner": [(house.Roof(), {"a": house.Roof(3)})], "function": house.Tool},
        {"inner": layers(2, house.Roof(3)), "function": layers},  # Users' own.
        {"inner": own_below(house.Roof)(4), "function": own_below(house.Tool)},
    ]
    for parts in good:
        assert again(house.House(**parts)) == house.House(**parts)


@pytest.mark.parametrize(
    ("part", "make", "kind"),
    [
        ("inner", lambda house: house.House(), "specification"),
        ("inner", lambda house: [{"a": (house.House(),)}], "specification"),
        ("inner", lambda house: house.Roof, "space class"),
        ("function", lambda house: house.Tool(), "catalog"),
        ("function", lambda house: house.Roof, "space class"),
        ("size", lambda house: house.Roof(), "space"),
        ("size", lambda house: [Layer()], "own object"),
        ("inner", lambda house: house.Party(), "learner"),
        ("inner", lambda house: own_below(house.Party)(), "learner"),
        ("inner", lambda house: Layer(1, own_below(house.Party)()), "learner"),
    ],
)
def test_what_is_of_another_kind_has_to_be_given_again(part, make, kind, house, layers):
    value = house.House(**{part: make(house)})
    with pytest.raises(BuilderError, match=f"{part}: builder .*the kind '{kind}'"):
        again(value)
    assert getattr(again(value, given={part: 5}), part) == 5


def test_settings_of_a_machine_are_neither_written_nor_read(house):
    own, garden = own_below(house.House), {"tree": "elm", "size": 3}
    for cls in (house.House, own):
        value = cls(place="here", garden=garden, size=2)
        written = describe(value)
        assert "here" not in str(written) and "elm" not in str(written)
        forged = {**written, ARGUMENTS: vars(value)}
        for description in (written, forged):
            rebuilder = Rebuilder()
            (rebuilt,) = rebuilder.arguments({"x": through_file(description)}).values()
            rebuilder.check("test")
            assert (rebuilt.place, rebuilt.size) == (None, 2)
            assert rebuilt.garden == {"tree": "oak", "size": 3}
            assert [*rebuilder.dropped] == ["place", "garden/tree"]
        rebuilder = Rebuilder(given={"place": "there", "garden": garden})
        (rebuilt,) = rebuilder.arguments({"x": forged}).values()
        assert (rebuilt.place, rebuilt.garden) == ("there", garden)
        assert not rebuilder.dropped and rebuilder.used == {"place", "garden"}


# The registry.


def test_a_class_registers_itself():
    @register_builder("test/Decorated")
    class Decorated:
        pass

    assert Rebuilder().builder("test/Decorated") is Decorated
    assert name_of(Decorated) == "test/Decorated"
    assert again(Decorated) is Decorated


def test_what_is_not_registered_is_named_by_where_it_is_from():
    assert name_of(Layer).endswith("test_builders.Layer")


@pytest.mark.parametrize("other", [Level, len, lambda: 1])
def test_names_are_taken_once(layers, other):
    with pytest.raises(UsageError, match="'test/Layer', the name of .*Layer"):
        register_builder("test/Layer", other)
    assert Rebuilder().builder("test/Layer") is Layer


def test_other_functions_of_one_line_are_others():
    make = [lambda: 1, lambda: 2]
    register_builder("test/lambda", make[0])
    with pytest.raises(UsageError, match="the name of .*lambda"):
        register_builder("test/lambda", make[1])


def test_a_module_that_is_loaded_anew_registers_anew(layers):
    reloaded = type("Layer", (Layer,), {"__module__": Layer.__module__})
    register_builder("test/Layer", reloaded, arguments=lambda layer: vars(layer))
    assert type(again(reloaded(3))) is reloaded


@pytest.mark.parametrize(
    ("name", "builder"), [("", Layer), (3, Layer), ("test/x", 3), (None, Layer)]
)
def test_names_are_strings_and_builders_callable(name, builder):
    with pytest.raises(
        UsageError, match=r"register_builder\(\).*a name and a callable"
    ):
        register_builder(name, builder)


def test_a_builder_is_found_by_where_it_was_from_when_it_was_saved():
    name = describe(Made)[BUILDER]
    register_builder("tests/Made", Made)
    assert Rebuilder().builder(name) is Made
    assert Rebuilder().builder("tests/Made") is Made


class Made:
    """Saved under its full name, registered afterwards."""


NAMES_IN_FILES = """
import json, sys
import tflearner
from tflearner.checkpoint.builders import Rebuilder
for name in json.loads(sys.argv[1]):
    assert Rebuilder().builder(name) is not None, name
assert "tflearner.algorithms.ppo" in sys.modules
"""


@pytest.mark.deep
def test_builders_of_this_library_are_found_in_a_fresh_process():
    names = [
        *("PPO", "PPOConfig", "PPOTfLearner", "PPOTfRLModule"),
        *("AlgorithmConfig", "DefaultModelConfig", "MeanStdFilter", "MetricsLogger"),
        *("MultiRLModule", "MultiRLModuleSpec", "PPOCatalog", "RLModule"),
        "RLModuleSpec",
    ]
    saved = [f"tflearner/{name}" for name in names]
    command = [sys.executable, "-c", NAMES_IN_FILES, json.dumps(saved)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_names_that_are_not_public_import_nothing():
    with pytest.raises(BuilderError, match="not registered"):
        Rebuilder().builder("tflearner/checkpoint.builders")
