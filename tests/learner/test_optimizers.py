"""Which optimizer owns which parameter, and at what learning rate."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tflearner.algorithms.ppo import PPOTfLearner
from tflearner.constants import ALL_MODULES
from tflearner.engine.optimizers import param_ref
from tflearner.errors import OptimizerError, ScheduleError, UnknownModuleError
from tflearner.learner.tf_learner import TfLearner
from tflearner.testing import learner_digest


@pytest.fixture(scope="module")
def learner(make_learner):
    """A learner that no test of this module changes."""
    return make_learner()


def registered(learner):
    return [(record.module_id, record.name) for record in learner._optimizers.values()]


def new_param(size=2):
    return keras.Variable(np.zeros(size, np.float32), name="w")


def test_optimizer_is_found_by_short_and_by_full_name(learner):
    optimizer = learner.get_optimizer("default_policy", "default_optimizer")
    full = learner.get_optimizer(optimizer_name="default_policy_default_optimizer")
    assert learner.get_optimizer() is optimizer is full
    assert learner.get_optimizers_for_module("default_policy") == [
        ("default_optimizer", optimizer)
    ]


def test_unknown_optimizer_is_a_key_error(learner):
    with pytest.raises(KeyError, match="module_id='p'.*optimizer_name='x'"):
        learner.get_optimizer("p", "x")
    assert learner.get_optimizers_for_module("p") == []
    with pytest.raises(KeyError):
        learner.filter_param_dict_for_optimizer({}, keras.optimizers.SGD())


def test_names_that_read_the_same_stay_apart(make_learner):
    learner = make_learner(policies=["a", "a_b", "default", "default_policy"])
    optimizers = [keras.optimizers.SGD() for _ in range(3)]
    names = [("a", "b_c"), ("a_b", "c"), ("default", "optimizer")]
    for (module_id, name), optimizer in zip(names, optimizers):
        learner.register_optimizer(
            module_id=module_id,
            optimizer_name=name,
            optimizer=optimizer,
            params=[new_param()],
        )
    for (module_id, name), optimizer in zip(names, optimizers):
        assert learner.get_optimizer(module_id, name) is optimizer
    # "default" + "optimizer" reads like the short name of everybody's optimizer.
    assert learner.get_optimizer("default_policy") not in optimizers


def test_filter_keeps_own_params_in_order_without_none(learner):
    optimizer = learner.get_optimizer()
    params = learner.get_parameters(learner.module["default_policy"])
    refs = [learner.get_param_ref(param) for param in params]
    given = {new_param().value.ref(): 0, **dict(zip(reversed(refs), range(99)))}
    given[refs[1]] = None
    assert [*learner.filter_param_dict_for_optimizer(given, optimizer)] == [
        refs[0],
        *refs[2:],
    ]


def built_for_others():
    optimizer = keras.optimizers.Adam()
    optimizer.build([new_param()])
    return optimizer


def scheduled():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    return keras.optimizers.SGD(schedule)


# Name -> (what is wrong, as functions because it needs TensorFlow; what the error says)
BAD = {
    "name taken": (
        {"optimizer_name": lambda: "default_optimizer"},
        "registered already",
    ),
    "tuple": ({"params": lambda: (new_param(),)}, "tuple.*list"),
    "text": ({"optimizer": lambda: "adam"}, "'adam'.*Keras optimizer"),
    "class": ({"optimizer": lambda: keras.optimizers.Adam}, "Keras optimizer"),
    "no variable": ({"params": lambda: [new_param(), 3.0]}, r"params\[1\].*float"),
    "twice": ({"params": lambda: [new_param()] * 2}, r"params\[1\].*listed twice"),
    "built": ({"optimizer": built_for_others}, "built for other variables"),
    "negative": ({"lr_or_lr_schedule": lambda: -1.0}, "-1.0.*>= 0"),
    "infinite": ({"lr_or_lr_schedule": lambda: np.inf}, "inf.*finite"),
    "nan": ({"lr_or_lr_schedule": lambda: np.nan}, "nan"),
    "lr as text": ({"lr_or_lr_schedule": lambda: "0.1"}, "'0.1'"),
    "bool": ({"lr_or_lr_schedule": lambda: True}, "True"),
    "one point": ({"lr_or_lr_schedule": lambda: [[0, 0.1]]}, "at least 2"),
    "descending": (
        {"lr_or_lr_schedule": lambda: [[0, 1], [50, 1], [10, 1]]},
        "point 2",
    ),
    "negative later": ({"lr_or_lr_schedule": lambda: [[0, 0.1], [9, -0.1]]}, "-0.1"),
    "two schedules": (
        {"optimizer": scheduled, "lr_or_lr_schedule": lambda: 0.1},
        "LearningRateSchedule.*without lr_or_lr_schedule",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_registration_changes_nothing(learner, case):
    changes, text = BAD[case]
    before, digest = registered(learner), learner_digest(learner)
    arguments = {
        "module_id": "default_policy",
        "optimizer_name": "other",
        "optimizer": keras.optimizers.Adam(),
        "params": [new_param()],
    }
    with pytest.raises((OptimizerError, ScheduleError), match=text):
        learner.register_optimizer(**arguments | {n: f() for n, f in changes.items()})
    assert registered(learner) == before and learner_digest(learner) == digest


def test_optimizer_and_variables_have_one_owner(learner):
    before = registered(learner)
    owner = "'default_optimizer' of module 'default_policy'"
    params = learner.get_parameters(learner.module["default_policy"])
    for optimizer, own in (
        (learner.get_optimizer(), params),
        (keras.optimizers.SGD(), [new_param(), params[2]]),
        (keras.optimizers.SGD(), [params[2].value]),  # The same variable, unwrapped.
    ):
        with pytest.raises(OptimizerError, match=owner):
            learner.register_optimizer(
                optimizer=optimizer, params=own, lr_or_lr_schedule=0.1
            )
    assert registered(learner) == before


def test_keras_and_tensorflow_variables_are_keyed_alike():
    param = new_param()
    variable = tf.Variable([1.0])
    assert param_ref(param) == param.value.ref() == param_ref(param.value)
    assert param_ref(variable) == variable.ref()


def test_registered_optimizer_has_all_its_variables(make_learner):
    learner, params = make_learner(), [new_param(), tf.Variable([1.0], name="v")]
    optimizer = keras.optimizers.Adam()
    learner.register_optimizer(optimizer=optimizer, params=params)
    assert optimizer.built and len(optimizer.variables) == 2 + 2 * len(params)
    assert set(learner.get_state()["optimizer"][ALL_MODULES]["default_optimizer"]) == {
        "iterations",
        "learning_rate",
        *(
            f"{key}/{slot}"
            for key in ("000", "001")
            for slot in ("momentum", "velocity")
        ),
    }


def test_optimizer_may_have_no_variables(make_learner):
    learner = make_learner()
    learner.register_optimizer(optimizer=keras.optimizers.Adam(), params=[])
    learner.apply_gradients({})
    assert len(learner.get_optimizers_for_module(ALL_MODULES)) == 1


def test_optimizer_of_no_known_module_is_refused(learner):
    before = registered(learner)
    with pytest.raises(UnknownModuleError, match="'default_polcy'.*did you mean"):
        learner.register_optimizer(
            module_id="default_polcy",
            optimizer=keras.optimizers.SGD(),
            params=[new_param()],
        )
    assert registered(learner) == before


@pytest.mark.parametrize("run_eagerly", [True, False])
def test_optimizer_registered_between_updates_takes_part(
    make_learner, make_batch, run_eagerly
):
    learner = make_learner(Half, run_eagerly=run_eagerly)
    batch, module = make_batch(learner), learner.module["default_policy"]
    learner.update(batch)
    before = module.vf.weights[0].numpy()
    learner.register_optimizer(
        module_id="default_policy",
        optimizer_name="vf",
        optimizer=keras.optimizers.SGD(),
        params=module.vf.trainable_variables,
        lr_or_lr_schedule=0.1,
    )
    learner.update(batch)
    assert (module.vf.weights[0].numpy() != before).any()


class Half(PPOTfLearner):
    """Trains all but the value head."""

    def configure_optimizers_for_module(self, module_id, config=None):
        module = self.module[module_id]
        heads = {id(p) for p in module.vf.trainable_variables}
        params = [p for p in self.get_parameters(module) if id(p) not in heads]
        self.register_optimizer(
            module_id=module_id, optimizer=keras.optimizers.SGD(0.1), params=params
        )


class Mean(TfLearner):
    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
        return tf.add_n([tf.reduce_mean(own) for own in fwd_out.values()])


def update_at(learner, batch, timestep=None):
    timesteps = {} if timestep is None else {"num_env_steps_sampled_lifetime": timestep}
    results = learner.update(batch, timesteps=timesteps)
    return results["default_policy"]["default_optimizer_learning_rate"]


def test_schedule_is_honoured_by_the_traced_update(make_learner, make_batch):
    schedule = [[0, 0.1], [100, 0.0]]
    learner = make_learner(Mean, lr=schedule)
    batch, optimizer = make_batch(learner), learner.get_optimizer()
    weight = learner.module["default_policy"].weights[0]

    def moved(timestep):
        before = weight.numpy()
        reported = update_at(learner, batch, timestep)
        assert reported == pytest.approx(float(optimizer.learning_rate.numpy()))
        return np.abs(weight.numpy() - before).max(), reported

    assert moved(50) == pytest.approx((0.1, 0.05), rel=1e-2)  # Reports the next one.
    assert moved(100) == pytest.approx((0.05, 0.0), rel=1e-1)
    assert moved(100) == (0.0, 0.0)
    assert learner.num_traces == 1


def test_missing_timestep_keeps_the_learning_rate(make_learner, make_batch):
    learner = make_learner(Mean, lr=[[0, 0.1], [100, 0.0]], run_eagerly=True)
    batch = make_batch(learner)
    update_at(learner, batch, 75)
    assert update_at(learner, batch) == pytest.approx(0.025)


def test_fixed_rate_is_left_to_callbacks_afterwards(make_learner, make_batch):
    learner = make_learner(Mean, lr=0.1, run_eagerly=True)
    learner.get_optimizer().learning_rate = 0.02
    assert update_at(learner, make_batch(learner), 10) == pytest.approx(0.02)


def test_keras_schedule_is_the_users_own_business(make_learner, make_batch):
    class Scheduled(Mean):
        def configure_optimizers_for_module(self, module_id, config=None):
            self.register_optimizer(
                module_id=module_id,
                optimizer=scheduled(),
                params=self.get_parameters(self.module[module_id]),
            )

    learner = make_learner(Scheduled)
    rates = [update_at(learner, make_batch(learner), t) for t in (10, 20)]
    assert rates == pytest.approx([0.1 * 0.5**0.1, 0.1 * 0.5**0.2])


def test_module_without_weights_gets_no_optimizer(make_learner):
    learner = make_learner()
    learner.module["default_policy"].trainable = False
    learner._optimizers.remove_module("default_policy")
    learner.configure_optimizers()
    assert learner.get_optimizers_for_module("default_policy") == []
