"""Learning from aggregate responses: samples come in bags, and only the mean response of each bag is known."""

from lossary.losses.bags.bag_level import BagLevelLoss as BagLevelLoss
from lossary.losses.bags.instance_level import InstanceLevelLoss as InstanceLevelLoss
from lossary.losses.bags.interpolated_bag import InterpolatedBagLoss as InterpolatedBagLoss
