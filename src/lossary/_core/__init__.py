"""The core: the registry of everything Lossary can make, the base of an objective, parameters and checks."""
