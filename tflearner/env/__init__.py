"""Where experience is made."""
