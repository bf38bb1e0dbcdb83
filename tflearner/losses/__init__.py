"""Loss functions and targets: pure functions of arrays and tensors."""
