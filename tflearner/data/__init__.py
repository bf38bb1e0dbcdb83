"""Episodes, batches and replay buffers."""
