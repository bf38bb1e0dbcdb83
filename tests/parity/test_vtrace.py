"""V-trace against RLlib's."""

from tflearner.losses.vtrace import vtrace

COLUMNS = (
    *("logp", "behaviour_logp", "rewards", "values", "terminateds"),
    "bootstrap_values",
)


def test_formula_is_that_of_rllib(load, assert_parity):
    settings, arrays = load("impala.json"), load("impala.npz")
    columns = {name: arrays[f"formula/{name}"] for name in COLUMNS}
    assert 0 < columns["terminateds"].sum() < columns["terminateds"].size / 2
    for index, (rho, pg_rho) in enumerate(settings["thresholds"]):
        ours = vtrace(
            **columns,
            gamma=settings["gamma"],
            clip_rho_threshold=rho,
            clip_pg_rho_threshold=pg_rho,
        )
        for name, own in ours._asdict().items():
            what = f"{name} clipped at {rho} and {pg_rho}"
            recorded = arrays[f"formula/{name}"][index]
            assert_parity(own, recorded, what, tolerance=1e-6)
