"""What people see: progress, history, callbacks and files."""
