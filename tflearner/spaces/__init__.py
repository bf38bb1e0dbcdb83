"""Parts of gymnasium's spaces: their leaves, and masks of actions."""
