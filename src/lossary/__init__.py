"""Lossary: the working glossary of training objectives.

The public names stand in ``__init__.pyi`` alone. They are resolved when first used, so that ``import lossary`` costs nothing and
the catalogue answers without torch.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
