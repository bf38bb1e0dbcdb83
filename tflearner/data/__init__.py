"""What flows: episodes and batches."""
