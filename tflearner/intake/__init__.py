"""From what an update is given to checked columns by module, and a plan of minibatches."""
