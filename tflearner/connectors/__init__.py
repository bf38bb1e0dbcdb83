"""How episodes become batches, and outputs become actions."""
