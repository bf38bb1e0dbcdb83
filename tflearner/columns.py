"""The names of the columns of a batch."""


class Columns:
    """The names of columns in episodes, batches and module outputs.

    The string values are RLlib's, so recorded data can be exchanged. Output keys of
    only one kind of module are in `modules/apis.py` or in the module's own file.
    """

    # Data of the environment.
    OBS = "obs"
    NEXT_OBS = "new_obs"
    INFOS = "infos"
    ACTIONS = "actions"  # As drawn from the module's distribution.
    ACTIONS_FOR_ENV = "actions_for_env"  # ACTIONS, clipped or unsquashed.
    REWARDS = "rewards"
    TERMINATEDS = "terminateds"
    TRUNCATEDS = "truncateds"

    # The origin of a row.
    EPS_ID = "eps_id"
    AGENT_ID = "agent_id"
    MODULE_ID = "module_id"
    SEQ_LENS = "seq_lens"
    T = "t"

    # Outputs of a module.
    ACTION_DIST_INPUTS = "action_dist_inputs"
    ACTION_PROB = "action_prob"
    ACTION_LOGP = "action_logp"
    VF_PREDS = "vf_preds"
    VALUES_BOOTSTRAPPED = "values_bootstrapped"
    EMBEDDINGS = "embeddings"
    STATE_IN = "state_in"
    NEXT_STATE_IN = "next_state_in"
    STATE_OUT = "state_out"

    # Columns that a learner connector adds.
    ADVANTAGES = "advantages"
    VALUE_TARGETS = "value_targets"
    INTRINSIC_REWARDS = "intrinsic_rewards"
    RETURNS_TO_GO = "returns_to_go"
    LOSS_MASK = "loss_mask"
    WEIGHTS_SEQ_NO = "weights_seq_no"

    # Columns that a replay buffer adds.
    N_STEP = "n_step"  # The number of rewards in a row's "rewards".
    WEIGHTS = "weights"  # The weight of a row in the loss.

    # Standard normal numbers with which actions are drawn in a loss.
    NOISE = "noise"
    NEXT_NOISE = "next_noise"
