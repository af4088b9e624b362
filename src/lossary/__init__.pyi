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
from ._core.objective import IdentityObjective as IdentityObjective
from ._core.objective import Objective as Objective
from ._core.objective import SigmoidObjective as SigmoidObjective
from ._core.objective import SoftmaxObjective as SoftmaxObjective
from ._core.parameters import formula as formula
from ._core.registry import Spec as Spec
from ._core.registry import UnitSpec as UnitSpec
from ._core.registry import create as create
from ._core.registry import list_objectives as list_objectives
from ._core.registry import list_units as list_units
from ._core.registry import objective as objective
from ._core.registry import specs as specs
from ._core.registry import unit as unit
from ._core.registry import units as units
from ._core.values import check_values as check_values
from .arena import compare as compare
from .errors import LossaryError as LossaryError

__version__: str
