"""Outputs without an order of their own: sets, and orders to choose from."""
