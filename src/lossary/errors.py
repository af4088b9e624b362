"""One small tree of errors: every mistake of a caller is a LossaryError, and also the built-in error that Python users expect."""


class LossaryError(Exception):
    """Base of every error that Lossary raises for a caller's mistake; its text is one sentence for a person."""


class InvalidValueError(LossaryError, ValueError):
    """A value, a shape or a combination of arguments that is not allowed."""


class InvalidIndexError(InvalidValueError, IndexError):
    """A class, a bag or a position in the data set that does not exist."""


class InvalidTypeError(LossaryError, TypeError):
    """A dtype or a type that is not allowed, or a parameter that does not exist."""


class UnknownNameError(LossaryError, LookupError):
    """A name that is not in the registry, the catalogue or the data."""


class DataError(LossaryError, ValueError):
    """A data set that cannot be compared on as it is."""


class MissingPackageError(LossaryError, ImportError):
    """A package that an optional part needs is not installed."""


class StoreError(LossaryError, OSError):
    """The file that keeps finished work cannot be used."""
