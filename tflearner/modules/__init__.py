"""What acts and learns: modules, networks and distributions."""
