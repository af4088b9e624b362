"""Learning to rank: lists of scored items with graded relevance."""
