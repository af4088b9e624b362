from . import (
    adversarial as adversarial,
)
from . import (
    arena as arena,
)
from . import (
    authoring as authoring,
)
from . import (
    calibration as calibration,
)
from . import (
    catalogue as catalogue,
)
from . import (
    claims as claims,
)
from . import (
    data as data,
)
from . import (
    distributed as distributed,
)
from . import (
    errors as errors,
)
from . import (
    experiments as experiments,
)
from . import (
    functional as functional,
)
from . import (
    losses as losses,
)
from . import (
    metrics as metrics,
)
from . import (
    nn as nn,
)
from . import (
    optim as optim,
)
from . import (
    testing as testing,
)
from . import (
    weighting as weighting,
)
from ._domains import formula as formula
from ._objective import IdentityObjective as IdentityObjective
from ._objective import Objective as Objective
from ._objective import SigmoidObjective as SigmoidObjective
from ._objective import SoftmaxObjective as SoftmaxObjective
from ._registry import Spec as Spec
from ._registry import UnitSpec as UnitSpec
from ._registry import create as create
from ._registry import list_objectives as list_objectives
from ._registry import list_units as list_units
from ._registry import objective as objective
from ._registry import specs as specs
from ._registry import unit as unit
from ._registry import units as units
from ._values import check_values as check_values
from .arena import compare as compare
from .errors import LossaryError as LossaryError

__version__: str
