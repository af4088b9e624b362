"""The command ``lossary``, also as ``python -m lossary``."""

import sys

from lossary._core.extras import require
from lossary.errors import MissingPackageError


def main() -> None:
    """Run the command line, or say what is missing for it."""
    try:
        require("the command line", "typer", "rich")
    except MissingPackageError as error:
        sys.stderr.write(f"lossary: {error}\n")
        sys.exit(2)
    from lossary import cli

    cli.main()


if __name__ == "__main__":
    main()
