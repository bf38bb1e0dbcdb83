"""Settings: how configs work, and the names and bounds of their fields."""
