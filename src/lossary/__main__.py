"""``python -m lossary`` is the command ``lossary``."""

from lossary.cli import main

main()
