"""Optimizers, rates and clipping that cannot be used, and that nothing was changed.

The numbers in front of the cases are those of the catalogue of bad inputs.
"""

import copy

import keras
import numpy as np
import pytest

from tflearner.errors import ConfigError, OptimizerError, ScheduleError, TFLearnerError
from tflearner.testing import learner_digest


@pytest.fixture(scope="module")
def learner(make_learner, make_batch):
    """Two modules that have learned, and that no test of this module changes."""
    learner = make_learner(run_eagerly=True, policies=["m", "p1"])
    learner.update(make_batch(learner))
    return learner


@pytest.fixture(scope="module")
def other(make_learner):
    """Another learner with modules of the same form."""
    return make_learner(run_eagerly=True, policies=["m", "p1"])


def assert_refused(learner, call, error, text):
    """Checks class and text of the error, and that it keeps its promise."""
    before, records = learner_digest(learner), [*learner._optimizers.values()]
    rates = [float(record.optimizer.learning_rate.numpy()) for record in records]
    with pytest.raises(error, match=text) as raised:
        call()
    assert isinstance(raised.value, TFLearnerError)
    assert "Nothing was changed." in str(raised.value)
    assert (
        learner_digest(learner) == before and [*learner._optimizers.values()] == records
    )
    assert rates == [float(r.optimizer.learning_rate.numpy()) for r in records]


def params_of(learner, module_id="m"):
    return learner.get_parameters(learner.module[module_id])


def own():
    return keras.Variable(np.zeros(2, np.float32), name="own")


# Case -> functions of (learner, other learner) to arguments; error; text.
BAD_REGISTRATIONS = {
    "O33 text": ({"optimizer": lambda a, b: "adam"}, "'adam', want a Keras optimizer"),
    "O33 None": ({"optimizer": lambda a, b: None}, "None, want a Keras optimizer"),
    "O33 class": ({"optimizer": lambda a, b: keras.optimizers.Adam}, "want a Keras"),
    "O33 rate": ({"optimizer": lambda a, b: 0.1}, "0.1, want a Keras optimizer"),
    "O33 of another module": (
        {
            "optimizer": lambda a, b: a.get_optimizer("p1"),
            "params": lambda a, b: params_of(a),
        },
        "built for other variables, want a new one",
    ),
    "O33 of another module, same variables": (
        {
            "optimizer": lambda a, b: a.get_optimizer("p1"),
            "params": lambda a, b: params_of(a, "p1"),
            "module_id": lambda a, b: "__all_modules__",
        },
        "is optimizer 'default_optimizer' of module 'p1' already, want one of its own",
    ),
    "O33 of another learner": (
        {"optimizer": lambda a, b: b.get_optimizer("m")},
        "built for other variables",
    ),
    "O33 name taken": (
        {"optimizer_name": lambda a, b: "default_optimizer"},
        "optimizer 'default_optimizer' of module 'm': got a name that is registered",
    ),
    "O34 twice": (
        {"params": lambda a, b: [own(), own(), *[params_of(a)[0]] * 2]},
        r"params\[3\]: a variable listed twice",
    ),
    "O34 of another module": (
        {"params": lambda a, b: [own(), own(), params_of(a, "p1")[0]]},
        r"params\[2\]: got a variable that is not in module 'm' but in 'p1'",
    ),
    "O34 wrapped and unwrapped": (
        {"params": lambda a, b: [params_of(a)[0], params_of(a)[0].value]},
        r"params\[1\]: a variable listed twice",
    ),
    "O34 numbers": (
        {"params": lambda a, b: [own(), 1.0]},
        r"params\[1\]: got .*float.*, want a variable",
    ),
    "O34 NumPy": ({"params": lambda a, b: [np.zeros(2)]}, r"params\[0\].*ndarray"),
    "O34 tuple": ({"params": lambda a, b: (own(),)}, "tuple.*, want a list"),
    "O34 None": ({"params": lambda a, b: None}, "NoneType.*, want a list"),
    "O34 one variable": ({"params": lambda a, b: own()}, "want a list of variables"),
    **{
        f"O35 {rate!r}": ({"lr_or_lr_schedule": lambda a, b, r=rate: r}, text)
        for rate, text in [
            (-1, "learning rate -1, want a finite number >= 0"),
            (float("nan"), "nan, want a number"),
            (float("inf"), "learning rate inf, want a finite number >= 0"),
            (1e39, r"learning rate 1e\+39, want a finite number >= 0, up to 3.4e"),
            ([[0, 1], [9, 1e39]], "point 1: .*want two finite numbers up to 3.4e"),
            ("0.1", "'0.1', want a number"),
            (True, "True, want a number"),
            ({"lr": 0.1}, "'lr'.*want a number"),
        ]
    },
    **{
        f"O36 {schedule!r}": ({"lr_or_lr_schedule": lambda a, b, s=schedule: s}, text)
        for schedule, text in [
            ([[0, 1], [50, 1], [10, 1]], "point 2: step 10 after 50, want ascending"),
            ([[0, 0.1]], "a schedule of 1 points, want at least 2"),
            ([], "a schedule of 0 points, want at least 2"),
            ([[-5, 0.1], [5, 0.1]], "point 0: step -5, want the first step to be 0"),
            ([[3, 0.1], [5, 0.1]], "point 0: step 3"),
            ([[0, 0.1], [5, float("nan")]], "point 1: .*nan.*want two finite numbers"),
            ([[0, 0.1], [5, -0.1]], "learning rate -0.1, want a finite number >= 0"),
            ([[0, 0.1], [5]], r"point 1: \[5\], want a pair"),
            ([[0, 0.1], 5], "point 1: 5, want a pair"),
            ([[0, "0.1"], [5, 0.1]], "point 0: .*want two finite numbers"),
        ]
    },
}


@pytest.mark.parametrize("case", BAD_REGISTRATIONS)
def test_bad_registration_is_refused_and_changes_nothing(learner, other, case):
    functions, text = BAD_REGISTRATIONS[case]
    arguments = {
        "module_id": "m",
        "optimizer_name": "second",
        "optimizer": keras.optimizers.SGD(0.25),
        "params": [own()],
    }
    given = {name: function(learner, other) for name, function in functions.items()}
    optimizer = (arguments | given)["optimizer"]
    assert_refused(
        learner,
        lambda: learner.register_optimizer(**arguments | given),
        (OptimizerError, ScheduleError),
        text,
    )
    if "optimizer" not in given:  # The optimizer itself can still be used.
        assert float(optimizer.learning_rate.numpy()) == 0.25


def test_names_that_read_the_same_are_both_kept(make_learner, make_batch):  # O32
    learner = make_learner(run_eagerly=True, policies=["a", "a_b"])
    names, params = [("a", "b_c"), ("a_b", "c")], [own(), own()]
    for (module_id, name), param in zip(names, params):
        learner.register_optimizer(
            module_id=module_id,
            optimizer_name=name,
            optimizer=keras.optimizers.SGD(1.0),
            params=[param],
        )
    full = {record.full_name for record in learner._optimizers.values()}
    assert "a_b_c" in full and len(full) == 3
    optimizers = [learner.get_optimizer(*name) for name in names]
    assert optimizers[0] is not optimizers[1]
    ref = learner.get_param_ref(params[1])
    learner.apply_gradients({ref: keras.ops.ones(2)})
    assert params[0].numpy().tolist() == [0, 0] and params[1].numpy().tolist() == [
        -1,
        -1,
    ]
    state = learner.get_state("optimizer")["optimizer"]
    assert state["a"]["b_c"]["iterations"] == 0
    assert state["a_b"]["c"]["iterations"] == 1


BAD_CLASSES = (ConfigError, ScheduleError)
BAD_SETTINGS = {
    "O35 rate": ({"lr": -1.0}, "lr"),
    "O35 rate as text": ({"lr": "0.1"}, "lr"),
    "O36 schedule": ({"lr": [[0, 1.0], [50, 1.0], [10, 1.0]]}, "point 2: step 10"),
    "O37 negative": (
        {"grad_clip": -1},
        "grad_clip: got -1, want a finite number above",
    ),
    "O37 zero": ({"grad_clip": 0.0}, "grad_clip: got 0.0, want a finite number above"),
    "O37 NaN": ({"grad_clip": float("nan")}, "grad_clip: got nan"),
    "O37 bool": ({"grad_clip": True}, "grad_clip: got True"),
    "O37 global": (
        {"grad_clip_by": "global"},
        "grad_clip_by: got 'global', want one of 'value', 'norm', 'global_norm'",
    ),
    "O37 None": ({"grad_clip_by": None}, "grad_clip_by: got None, want one of"),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_bad_setting_is_refused_for_all_modules_and_for_one(learner, make_config, case):
    settings, text = BAD_SETTINGS[case]
    with pytest.raises(BAD_CLASSES, match=text) as raised:
        make_config(**settings).build_learner()
    assert "Nothing was changed." in str(raised.value)
    spec = make_config().get_rl_module_spec()
    assert_refused(
        learner,
        lambda: learner.add_module(
            module_id="new", module_spec=spec, config_overrides=settings
        ),
        BAD_CLASSES,
        text,
    )
    assert [*learner.module] == ["m", "p1"]


SLOT = "002/kernel/momentum"


def without(slot):
    return lambda state: state["m"]["default_optimizer"].pop(slot)


def with_slot(value, slot=SLOT):
    return lambda state: state["m"]["default_optimizer"].update({slot: value})


def spoiled(value):
    def change(state):
        state["m"]["default_optimizer"][SLOT] = np.array(
            state["m"]["default_optimizer"][SLOT]
        )
        state["m"]["default_optimizer"][SLOT].flat[3] = value

    return change


BAD_STATES = {
    "O38 shape": (
        with_slot(np.zeros(4, np.float32)),
        rf"optimizer 'm/default_optimizer', slot '{SLOT}' got \(4,\) want \(8, 2\)",
    ),
    "O38 scalar": (with_slot(np.float32(1.0)), r"got \(\) want \(8, 2\)"),
    "O38 ragged": (with_slot([[1.0], [1.0, 2.0]]), SLOT),
    "O38 text": (with_slot("momentum"), SLOT),
    "O38 None": (with_slot(None), SLOT),
    "O38 missing": (
        without(SLOT),
        f"missing optimizer 'm/default_optimizer', slot '{SLOT}'",
    ),
    "O38 additional": (
        with_slot(np.zeros(2), "999/kernel/momentum"),
        "unexpected optimizer 'm/default_optimizer', slot '999/kernel/momentum'",
    ),
    "O38 NaN": (spoiled(np.nan), f"m/default_optimizer.*{SLOT}.*non-finite"),
    "O38 inf": (spoiled(-np.inf), f"m/default_optimizer.*{SLOT}.*non-finite"),
    "O38 NaN rate": (
        with_slot(np.float32(np.nan), "learning_rate"),
        "learning_rate.*non-finite",
    ),
    "O38 optimizer missing": (
        lambda state: state["p1"].clear(),
        "missing optimizer 'p1/default_optimizer'",
    ),
    "O38 module missing": (
        lambda state: state.pop("p1"),
        "missing optimizer 'p1/default_optimizer'",
    ),
    "O38 no slots": (
        lambda state: state["m"].update(default_optimizer=None),
        "m/default_optimizer",
    ),
    "O38 no optimizers": (lambda state: state.update(m=None), "'m"),
    "O38 another optimizer": (
        lambda state: state["m"].update(adamw=state["m"]["default_optimizer"]),
        "adamw",
    ),
    "O38 another module": (lambda state: state.update(p7=state["m"]), "p7"),
}


@pytest.mark.parametrize("case", BAD_STATES)
def test_bad_state_is_refused_and_changes_nothing(learner, case):
    spoil, text = BAD_STATES[case]
    state = learner.get_state("optimizer")
    spoil(state["optimizer"])
    assert_refused(learner, lambda: learner.set_state(state), TFLearnerError, text)


def test_one_error_lists_every_slot_that_does_not_fit(learner):  # O38
    state = learner.get_state()
    wrong = copy.deepcopy(state["optimizer"]["m"])
    without("001/bias/velocity")({"m": wrong})
    with_slot(np.zeros(4))({"m": wrong})
    state["optimizer"]["m"] = wrong
    text = rf"001/bias/velocity.*;.*{SLOT}' got \(4,\)"
    assert_refused(learner, lambda: learner.set_state(state), OptimizerError, text)
