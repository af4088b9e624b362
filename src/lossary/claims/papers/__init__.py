"""The claims of the papers, one file for each claim."""
