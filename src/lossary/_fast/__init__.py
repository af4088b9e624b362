"""The mechanism of speed: how a loss reaches the speed of memory. It knows no loss."""
