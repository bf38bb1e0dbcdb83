"""Many learners behind one interface."""
