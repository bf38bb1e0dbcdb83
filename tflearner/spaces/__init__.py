"""What the library asks of gymnasium's spaces: their leaves, and masks of actions."""
