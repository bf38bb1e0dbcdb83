"""State that survives on disk."""
