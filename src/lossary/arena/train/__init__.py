"""Training of the candidates, one unit of work after another, and the store of what is finished."""
