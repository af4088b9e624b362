"""LDR-KL and ALDR-KL against cross-entropy and its generalised form, where many of the labels are wrong."""

from lossary.claims import Claim, LabelNoise, Real, Training, higher, pixels

CLAIM = Claim(
    paper="ldr_kl",
    statement="Where labels are wrong, a loss that is robust over label distributions classifies more accurately than"
    " cross-entropy, and with a temperature for each sample also more accurately than generalised cross-entropy, which was made"
    " for wrong labels.",
    experiments=(
        Training(
            title="40% of the labels wrong",
            data=Real("digits", (pixels,)),
            arms={
                "aldr_kl": [f"aldr_kl(temperature={each}, normalize='l1')" for each in (0.1, 1.0, 10.0)],
                "ldr_kl": [f"ldr_kl(temperature={each}, normalize='l1')" for each in (0.1, 1.0, 10.0)],
                "generalised": ["comp_sum(tau=1.05)", "comp_sum(tau=1.7)", "comp_sum(tau=1.95)"],
                "cross_entropy": "cross_entropy",
            },
            rules=(
                higher("accuracy", "ldr_kl", than="cross_entropy"),
                higher("accuracy", "aldr_kl", than="cross_entropy"),
                higher("accuracy", "aldr_kl", than="generalised"),
            ),
            train=(LabelNoise(0.4),),
            epochs=40,
            batch_size=64,
            seeds=12,
        ),
    ),
    seconds=120,
    note="The paper ranks fourteen losses on seven data sets and six kinds of noise; here are two of its strongest rivals on one."
    " Validation, whose labels are right, chooses temperatures and exponents among the paper's.",
)
