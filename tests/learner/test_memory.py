"""What is removed is gone: objects, names, traces and most of the memory."""

import gc
import uuid
import weakref

import keras
import psutil
import pytest
import tensorflow as tf

from tflearner.columns import Columns
from tflearner.constants import DEFAULT_MODULE_ID
from tflearner.learner.tf_learner import TfLearner
from tflearner.modules.rl_module_spec import RLModuleSpec
from tflearner.modules.tf_rl_module import TfRLModule
from tflearner.testing import random_batch

# TensorFlow itself keeps part of every graph and an entry per variable name: 1.1 to 1.8
# MB per cycle were measured for this module.
MAX_MB_PER_CYCLE = 5.0


class Small(TfRLModule):
    def setup(self):
        self.policy = keras.layers.Dense(int(self.action_space.n))

    def _forward(self, batch, **kwargs):
        return {Columns.ACTION_DIST_INPUTS: self.policy(batch[Columns.OBS])}


class Mean(TfLearner):
    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
        loss = tf.reduce_mean(fwd_out[Columns.ACTION_DIST_INPUTS] ** 2)
        self.metrics.log_value((module_id, "own"), loss, window=1)
        return loss


class Quick(Mean):
    """With an optimizer that is traced in less time than Adam."""

    def configure_optimizers_for_module(self, module_id, config=None):
        self.register_optimizer(
            module_id=module_id,
            optimizer=keras.optimizers.SGD(0.1),
            params=self.get_parameters(self.module[module_id]),
        )


SPEC = {"rl_module_spec": RLModuleSpec(module_class=Small)}


def new_spec(learner):
    return RLModuleSpec.from_module(learner.module[DEFAULT_MODULE_ID])


def update(learner, *module_ids):
    """A traced update of these modules, several minibatches long."""
    module = learner.module[DEFAULT_MODULE_ID]
    columns = random_batch(module, 12)
    learner.update(dict.fromkeys(module_ids, columns), minibatch_size=4)


def visit(learner, module_id):
    """Adds a module, trains it alone and with the other, and lets it go."""
    learner.add_module(
        module_id=module_id,
        module_spec=new_spec(learner),
        config_overrides={"lr": 0.5},
        new_should_module_be_updated=[DEFAULT_MODULE_ID, module_id],
    )
    update(learner, module_id)
    learner.remove_module(module_id)


def test_what_is_removed_is_freed(make_learner):
    learner = make_learner(Mean, **SPEC)
    learner.add_module(module_id="gone", module_spec=new_spec(learner))
    update(learner, DEFAULT_MODULE_ID)
    (stays,) = learner._compiled._programs.values()
    update(learner, "gone", DEFAULT_MODULE_ID)
    (trace,) = set(learner._compiled._programs.values()) - {stays}
    module, optimizer = learner.module["gone"], learner.get_optimizer("gone")
    objects = {
        "module": module,
        "layer": module.policy,
        "optimizer": optimizer,
        "trace": trace,
        "traced step": trace._step,
        "traced loop": trace._loop,
    }
    variables = [*module.weights, *optimizer.variables]
    objects |= {f"Keras {v.path}": v for v in variables}
    objects |= {f"TensorFlow {v.path}": v.value for v in variables}
    references = {name: weakref.ref(own) for name, own in objects.items()}
    del trace, module, optimizer, objects, variables
    learner.remove_module("gone")
    gc.collect()
    assert [name for name, own in references.items() if own() is not None] == []
    assert [*learner._compiled._programs.values()] == [stays]


def containers_naming(text):
    """All dicts, lists, sets and tuples of the process with such a string in them.

    Without the signatures of graphs, parts of which TensorFlow itself keeps for good.
    """

    def items(own):
        # Not by iteration: tuples that C code is still filling have holes in them.
        # The collector skips these, and also keys of dicts that are strings.
        keys = [*dict.keys(own)] if issubclass(type(own), dict) else []
        return keys + gc.get_referents(own)

    def is_signature(own):
        leaves = tf.nest.flatten([*own.values()]) if type(own) is dict else []
        return bool(leaves) and all(isinstance(x, tf.TensorSpec) for x in leaves)

    return [
        own
        for own in gc.get_objects()
        if issubclass(type(own), dict | list | tuple | set | frozenset)
        and any(isinstance(item, str) and text in item for item in items(own))
        and not is_signature(own)
    ]


def test_nothing_in_the_process_names_what_is_removed(make_learner):
    learner = make_learner(Mean, **SPEC)
    name = uuid.uuid4().hex  # A name that no other part of the tests can have.
    learner.add_module(module_id=f"here_{name}", module_spec=new_spec(learner))
    assert containers_naming(f"here_{name}")  # The search can find something.
    visit(learner, f"gone_{name}")
    results = learner.update({})
    state, config = learner.get_state(), repr(learner.config)
    assert f"here_{name}" in config
    assert "gone" not in repr((results, state, config, learner.describe_updates()))
    del results, state, config
    gc.collect()
    assert containers_naming(f"gone_{name}") == []


def megabytes():
    gc.collect()
    return psutil.Process().memory_info().rss / 2**20


def grown_by_cycles(learner, num_cycles):
    """Memory per cycle in MB; the first cycles, which fill caches, do not count."""
    update(learner, DEFAULT_MODULE_ID)
    for i in range(3):
        visit(learner, f"first_{i}")
    traces, before = learner.num_traces, megabytes()
    for i in range(num_cycles):
        visit(learner, f"visitor_{i}")
    assert learner.num_traces == traces + num_cycles
    update(learner, DEFAULT_MODULE_ID)  # The set that stays is not traced again.
    assert learner.num_traces == traces + num_cycles
    assert len(learner._compiled._programs) == 1
    return (megabytes() - before) / num_cycles


@pytest.mark.deep
def test_thirty_visitors_leave_little_behind(make_learner, record_property):
    grown = grown_by_cycles(make_learner(Quick, **SPEC), 30)
    told = f"P16: 30 cycles of add, update, remove: {grown:.2f} MB per cycle"
    record_property("promise", told)
    assert grown < MAX_MB_PER_CYCLE


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("jit_compile", [False, True])
def test_five_hundred_visitors_leave_little_behind(
    make_learner, record_property, jit_compile
):
    learner = make_learner(Mean, jit_compile=jit_compile, **SPEC)
    grown = grown_by_cycles(learner, 500)
    how = "XLA" if jit_compile else "plain"
    told = f"P16: 500 cycles of add, update, remove, {how}: {grown:.2f} MB per cycle"
    record_property("promise", told)
    assert grown < (2 * MAX_MB_PER_CYCLE if jit_compile else MAX_MB_PER_CYCLE)


def test_comings_and_goings_retrace_no_set_that_stays(make_learner):
    learner = make_learner(Quick, policies=["a", DEFAULT_MODULE_ID], **SPEC)
    sets = [(DEFAULT_MODULE_ID,), ("a", DEFAULT_MODULE_ID)]
    for module_ids in sets:
        update(learner, *module_ids)
    assert learner.num_traces == 2
    learner.add_module(module_id="b", module_spec=new_spec(learner))
    for module_ids in sets:
        update(learner, *module_ids)
    assert learner.num_traces == 2
    update(learner, "a", "b")
    learner.remove_module("b")
    for module_ids in sets:
        update(learner, *module_ids)
    assert learner.num_traces == 3
    learner.remove_module("a")
    update(learner, DEFAULT_MODULE_ID)
    assert learner.num_traces == 3
    assert len(learner.describe_updates()) == 1


def test_a_learner_that_is_dropped_takes_its_traced_steps_along(make_learner):
    learner = make_learner(Mean, **SPEC)
    update(learner, DEFAULT_MODULE_ID)
    (program,) = learner._compiled._programs.values()
    graphs = [weakref.ref(program._step.graph), weakref.ref(program._loop.graph)]
    del learner, program
    gc.collect()
    assert [graph() for graph in graphs] == [None, None]
