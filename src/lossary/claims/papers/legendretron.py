"""A learned proper loss against cross-entropy, for a linear model of many classes."""

from sklearn.datasets import make_classification

from lossary.arena import Data, from_arrays
from lossary.claims import Claim, Generated, Training, higher


def data(seed: int) -> Data:
    features, target = make_classification(
        600, n_features=10, n_informative=10, n_redundant=0, n_classes=20, n_clusters_per_class=2, class_sep=2.0, random_state=seed
    )
    # A product of matrices made them, whose last digits depend on the processor, and with them the protocol.
    return from_arrays("20 classes of 2 clusters", features.round(6), target)


CLAIM = Claim(
    paper="legendretron",
    statement="Learning the loss with the model, within the proper ones, classifies more accurately than multinomial logistic"
    " regression wherever there are more than ten classes.",
    experiments=(
        Training(
            title="20 classes, a linear model",
            data=Generated(data),
            arms=("legendretron", "cross_entropy"),
            rules=(higher("accuracy", "legendretron", than="cross_entropy"),),
            epochs=240,
            batch_size=120,
            learning_rates=(1e-2,),
            weight_decay=0.01,
            seeds=8,
            model="linear",
        ),
    ),
    seconds=120,
    note="The paper tries many data sets of up to 1,000 classes, with and without wrong labels; this is one of its kind, made and"
    " small.",
)
