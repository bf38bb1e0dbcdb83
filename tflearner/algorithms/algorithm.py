class Algorithm: pass
