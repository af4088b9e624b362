"""The asymmetric loss against binary cross-entropy and focal loss, where many of the positives were not annotated."""

from lossary.arena import Data
from lossary.claims import Claim, Generated, MissingLabels, Training, higher, label_rows


def data(seed: int) -> Data:
    return label_rows(seed, rows=2000, labels=30, each=2)


CLAIM = Claim(
    paper="asymmetric",
    statement="With many labels, few of them present and some not annotated, focusing less on negatives than on positives ranks the"
    " labels better than binary cross-entropy and focal loss do, and finds more of them.",
    experiments=(
        Training(
            title="half of the positives not annotated",
            data=Generated(data),
            arms=("asymmetric", "binary_cross_entropy", "sigmoid_focal"),
            rules=(
                higher("average_precision", "asymmetric", than="binary_cross_entropy"),
                higher("average_precision", "asymmetric", than="sigmoid_focal"),
                higher("f1_macro", "asymmetric", than="binary_cross_entropy"),
            ),
            train=(MissingLabels(0.5),),
            epochs=40,
            batch_size=50,
        ),
    ),
    seconds=90,
    note="The paper reports mean average precision on photographs with large pretrained networks; here data are made and networks"
    " small.",
)
