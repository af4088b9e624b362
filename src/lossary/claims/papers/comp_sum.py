"""Comp-sum losses: cross-entropy against the ends of the family on clean images, and where many labels are wrong."""

from lossary.claims import Claim, LabelNoise, Real, Training, higher, pixels

DIGITS = Real("digits", (pixels,))

CLAIM = Claim(
    paper="comp_sum",
    statement="Of the family of comp-sum losses, cross-entropy (tau = 1) classifies clean images more accurately than the"
    " sum-exponential loss (tau = 0), which is driven by single mistakes, and than the mean absolute error (tau = 2), which hardly"
    " learns from them. Where many labels are wrong the order turns round: tau = 1.7, near the mean absolute error, is best, and"
    " tau = 0 worst.",
    experiments=(
        Training(
            title="clean images",
            data=DIGITS,
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
        Training(
            title="40% of the labels wrong",
            data=DIGITS,
            arms={
                "near_absolute_error": "comp_sum(tau=1.7)",
                "cross_entropy": "comp_sum(tau=1.0)",
                "sum_exponential": "comp_sum(tau=0.0)",
            },
            rules=(
                higher("accuracy", "near_absolute_error", than="cross_entropy"),
                higher("accuracy", "cross_entropy", than="sum_exponential"),
            ),
            train=(LabelNoise(0.4),),
            epochs=40,
            batch_size=50,
        ),
    ),
    seconds=40,
    note="The paper trains large networks on CIFAR and SVHN with momentum; AdamW, used here, makes up for much of the difference in"
    " the size of gradients. That wrong labels turn the order round is not from this paper, but known of generalised cross-entropy,"
    " which is the family above tau = 1.",
)
