"""P29: an export is atomic, and a program that only computes.

That it runs without this library, and acts like the module, is in tests/export.
"""

# What an endpoint may be made of: arithmetic, shapes, its own weights, calls of its own
# functions, and random numbers that follow from its seed.
ALLOWED = {
    *("AddV2", "BiasAdd", "Conv2D", "Exp", "MatMul", "Maximum", "Minimum", "Mul"),
    *("RealDiv", "Relu", "Sigmoid", "Sub", "Tanh", "ArgMax"),
    *("BroadcastArgs", "BroadcastTo", "Cast", "ConcatV2", "Const", "Identity", "NoOp"),
    *("Pack", "Placeholder", "Reshape", "Shape", "Split", "Squeeze", "StopGradient"),
    *("StridedSlice", "Tile", "Transpose", "Unpack"),
    *("ReadVariableOp", "PartitionedCall", "StatefulPartitionedCall"),
    *("StatelessMultinomial", "StatelessRandomGetKeyCounter"),
    "StatelessRandomNormalV2",
}


def test_export_is_atomic(count, seed, line, run_program):
    found = run_program("kill_during_export.py", kills=count, seed=seed)
    failures, ops = found["failures"], found["ops"]
    used = set().union(*ops.values())
    line(
        f"{found['kills']:,} kills ({found['amid']:,} in mid-export), "
        f"{found['operations']} file operations to be hit: {len(failures)} damaged or "
        f"lost; "
        f"{len(used)} operations in {len(ops)} kinds of policies, "
        f"{len(used - ALLOWED)} not allowed"
    )
    assert not failures, failures[:5]
    assert found["kills"] == count and found["amid"] >= 0.2 * count
    assert len(ops) == 5 and all(ops.values())
    assert used <= ALLOWED
