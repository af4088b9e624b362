"""Numbers: one file for each objective, one line here."""

from lossary.losses.regression.huber import HuberLoss as HuberLoss
from lossary.losses.regression.log_cosh import LogCoshLoss as LogCoshLoss
from lossary.losses.regression.mean_absolute_error import MeanAbsoluteErrorLoss as MeanAbsoluteErrorLoss
from lossary.losses.regression.mean_squared_error import MeanSquaredErrorLoss as MeanSquaredErrorLoss
