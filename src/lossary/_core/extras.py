"""Optional packages: the extra that installs each, and one sentence where one is missing.

A loss needs torch, NumPy and Numba alone. Everything else that Lossary uses belongs to an extra, so that a library that
depends on a loss installs nothing that it does not run.
"""

import importlib.util

from lossary.errors import MissingPackageError

# The name under which a package is imported, its name for people, and the extra that installs it.
PACKAGES = {
    "PIL": ("Pillow", "images"),
    "jinja2": ("Jinja", "compare"),
    "mlflow": ("MLflow", "mlflow"),
    "optuna": ("Optuna", "tuning"),
    "plotly": ("Plotly", "compare"),
    "pyarrow": ("PyArrow", "compare"),
    "ray": ("Ray", "ray"),
    "rich": ("Rich", "compare"),
    "scipy": ("SciPy", "compare"),
    "sklearn": ("scikit-learn", "compare"),
    "tensorboard": ("TensorBoard", "tensorboard"),
    "typer": ("Typer", "compare"),
}


def require(owner: str, *packages: str) -> None:
    """Refuse, in one sentence, what ``owner`` cannot do without these packages; nothing is imported.

    Raises:
        MissingPackageError: naming the owner, the first package that is not installed, and how to install it.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            name, extra = PACKAGES[package]
            raise MissingPackageError(f"{owner} needs {name}; install it with: pip install 'lossary[{extra}]'")
