"""Comp-sum losses on clean data: cross-entropy against its two neighbours at the ends of the family."""

from lossary.claims import Claim, Real, Training, higher, pixels

CLAIM = Claim(
    paper="comp_sum",
    statement="Of the family of comp-sum losses, cross-entropy (tau = 1) classifies clean images more accurately than the"
    " sum-exponential loss (tau = 0), which is driven by single mistakes, and than the mean absolute error (tau = 2), which hardly"
    " learns from them.",
    experiments=(
        Training(
            title="clean images",
            data=Real("digits", (pixels,)),
            arms={
                "cross_entropy": "comp_sum(tau=1.0)",
                "sum_exponential": "comp_sum(tau=0.0)",
                "mean_absolute_error": "comp_sum(tau=2.0)",
            },
            rules=(
                higher("accuracy", "cross_entropy", than="sum_exponential"),
                higher("accuracy", "cross_entropy", than="mean_absolute_error"),
            ),
            epochs=40,
            batch_size=50,
        ),
    ),
    seconds=60,
    note="The paper trains large networks on CIFAR and SVHN with momentum; AdamW, used here, makes up for much of the difference in"
    " the size of gradients.",
)
