"""SFace against softmax losses on the sphere, where many labels are wrong."""

from lossary.claims import Claim, LabelNoise, Real, Training, higher, pixels

CLAIM = Claim(
    paper="sface",
    statement="Where labels are wrong, forces that fade out at an angle learn the right classes better than a softmax on the sphere"
    " does, with an angular margin or without.",
    experiments=(
        Training(
            title="40% of the labels wrong",
            data=Real("digits", (pixels,)),
            arms={"sface": "sface", "normalized_softmax": "normalized_softmax(scale=64.0)", "arcface": "arcface"},
            rules=(
                higher("accuracy", "sface", than="normalized_softmax"),
                higher("accuracy", "sface", than="arcface"),
            ),
            train=(LabelNoise(0.4),),
            epochs=40,
            batch_size=50,
        ),
    ),
    seconds=25,
    note="The paper trains networks for faces on millions of images; verification of faces is not measured.",
)
