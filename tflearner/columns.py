"""The names of the columns of a batch."""


class Columns:
    """Names under which data travel in episodes, batches and module outputs.

    The string values are RLlib's, so recorded data can be exchanged. The key of an output
    that one kind of module alone has is beside its API in `modules/apis.py`, or in the
    module's own file.
    """

    # What the environment gave and got.
    OBS = "obs"
    NEXT_OBS = "new_obs"
    INFOS = "infos"
    ACTIONS = "actions"  # What the module's distribution produced.
    ACTIONS_FOR_ENV = "actions_for_env"  # The same, clipped or unsquashed.
    REWARDS = "rewards"
    TERMINATEDS = "terminateds"
    TRUNCATEDS = "truncateds"

    # Where a row comes from.
    EPS_ID = "eps_id"
    AGENT_ID = "agent_id"
    MODULE_ID = "module_id"
    SEQ_LENS = "seq_lens"
    T = "t"

    # What a module computes.
    ACTION_DIST_INPUTS = "action_dist_inputs"
    ACTION_PROB = "action_prob"
    ACTION_LOGP = "action_logp"
    VF_PREDS = "vf_preds"
    VALUES_BOOTSTRAPPED = "values_bootstrapped"
    EMBEDDINGS = "embeddings"
    STATE_IN = "state_in"
    NEXT_STATE_IN = "next_state_in"
    STATE_OUT = "state_out"

    # What a learner connector adds.
    ADVANTAGES = "advantages"
    VALUE_TARGETS = "value_targets"
    INTRINSIC_REWARDS = "intrinsic_rewards"
    RETURNS_TO_GO = "returns_to_go"
    LOSS_MASK = "loss_mask"
    WEIGHTS_SEQ_NO = "weights_seq_no"

    # What a replay buffer adds.
    N_STEP = "n_step"  # How many rewards are in a row's "rewards".
    WEIGHTS = "weights"  # How much a row counts in the loss.

    # Standard normal numbers with which actions are drawn in a loss.
    NOISE = "noise"
    NEXT_NOISE = "next_noise"
