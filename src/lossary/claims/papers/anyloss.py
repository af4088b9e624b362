"""AnyLoss for three metrics of an imbalanced problem, each against cross-entropy."""

from lossary.claims import Claim, Positives, Real, Training, against_rest, f1, higher, pixels

CLAIM = Claim(
    paper="anyloss",
    statement="Where one of two classes is rare, training on a smooth form of the metric that counts gives a better value of it"
    " than cross-entropy does: F1, the geometric mean of both recalls, and balanced accuracy.",
    experiments=(
        Training(
            title="25 positives among 973 negatives",
            data=Real("digits", (pixels, against_rest(8))),
            arms={
                "f_beta": "anyloss(metric='f_beta')",
                "g_mean": "anyloss(metric='g_mean')",
                "balanced": "anyloss(metric='balanced_accuracy')",
                "cross_entropy": "binary_cross_entropy",
            },
            rules=(
                higher("f1", "f_beta", than="cross_entropy"),
                higher("geometric_mean", "g_mean", than="cross_entropy"),
                higher("balanced_accuracy", "balanced", than="cross_entropy"),
            ),
            train=(Positives(25),),
            measures={"f1": f1()},
            epochs=1000,
            batch_size=998,
            learning_rates=(0.01,),
            seeds=12,
            hidden=16,
        ),
    ),
    seconds=90,
    note="Batches are the whole training part, as in the paper's experiments with one layer; its networks have two hidden units.",
)
