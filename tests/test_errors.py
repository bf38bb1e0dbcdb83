"""What errors say, and what else they are."""

import pickle

import pytest

from tflearner import errors


def test_text_says_where_got_want_unchanged_and_hint():
    error = errors.BatchError("column 'obs'", "(3,)", "(4,)", "pad it")
    assert str(error) == (
        "column 'obs': got (3,), want (4,). Nothing was changed. Hint: pad it"
    )
    assert (error.where, error.got, error.want, error.hint) == (
        "column 'obs'",
        "(3,)",
        "(4,)",
        "pad it",
    )


def test_what_a_terminal_would_obey_is_escaped():
    text = "a\x1b[2J\x07\x9b\r\u202e\udcff\nb\xe9"
    error = errors.EnvError(text, text, text, text)
    assert str(error).count("a\\x1b[2J\\x07\\x9b\\r\\u202e\\udcff\nb\xe9") == 4
    assert error.where == error.got == error.want == error.hint != text
    # What is about a file may well be from it, to the line.
    assert "\\udcff\\nb" in str(errors.BuilderError(text, text))


def test_parts_can_be_left_out():
    assert str(errors.UsageError("sample()", "a call after stop()")) == (
        "sample(): a call after stop(). Nothing was changed."
    )
    error = errors.NumericError("module 'p'", "NaN", unchanged=False)
    assert str(error) == "module 'p': NaN."


@pytest.mark.parametrize(
    ("own", "builtin"),
    [
        (errors.UsageError, ValueError),
        (errors.ForkedProcessError, RuntimeError),
        (errors.UnknownArgumentError, TypeError),
        (errors.ConfigError, ValueError),
        (errors.FrozenConfigError, AttributeError),
        (errors.SpaceError, ValueError),
        (errors.BatchError, ValueError),
        (errors.ModuleError, ValueError),
        (errors.UnknownModuleError, KeyError),
        (errors.OptimizerError, ValueError),
        (errors.ScheduleError, ValueError),
        (errors.LossError, ValueError),
        (errors.NumericError, ArithmeticError),
        (errors.NonFiniteUpdateError, ArithmeticError),
        (errors.CheckpointError, OSError),
        (errors.CheckpointNotFoundError, FileNotFoundError),
        (errors.CheckpointCorruptError, OSError),
        (errors.CheckpointVersionError, OSError),
        (errors.CheckpointLockedError, OSError),
        (errors.StepExistsError, FileExistsError),
        (errors.DiskFullError, OSError),
        (errors.NonFiniteStateError, ArithmeticError),
        (errors.CheckpointMismatchError, ValueError),
        (errors.BuilderError, ValueError),
        (errors.EnvStepError, RuntimeError),
        (errors.EnvContractError, ValueError),
    ],
)
def test_errors_are_what_people_expect_and_survive_pickling(own, builtin):
    error = own("where", "this", "that", "do", unchanged=False)
    assert isinstance(error, builtin) and isinstance(error, errors.TFLearnerError)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is own
    assert str(copy) == str(error) == "where: got this, want that. Hint: do"
    assert vars(copy) == vars(error)


@pytest.mark.parametrize(
    ("own", "facts"),
    [
        (errors.CheckpointVersionError, {"found": 99, "supported": (1, 1)}),
        (errors.CheckpointLockedError, {"pid": 1, "host": "a", "since": "2026"}),
        (errors.DiskFullError, {"need": 2, "free": 1}),
        (
            errors.NonFiniteUpdateError,
            {"module_id": "p", "num_steps": 3, "minibatch": 0, "first_bad": "loss"},
        ),
    ],
)
def test_facts_that_programs_need_survive_pickling(own, facts):
    copy = pickle.loads(pickle.dumps(own("where", "this", **facts)))
    assert vars(copy).items() >= facts.items()
    assert str(copy) == "where: this. Nothing was changed."


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("clip_parm", ["clip_param", "gamma"], "did you mean 'clip_param'?"),
        ("zzz", ["clip_param"], None),
        (3, ["p3", 33], "did you mean 'p3'?"),
        ("x", [], None),
    ],
)
def test_closest_name(name, known, hint):
    assert errors.did_you_mean(name, known) == hint
