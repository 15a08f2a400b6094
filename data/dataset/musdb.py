"""What is special to MUSDB18-HQ (Rafii et al., 2019, doi:10.5281/zenodo.3338373)."""

__all__ = ["TEST", "TRAIN", "VALIDATION_TRACKS"]

TRAIN = "train"
TEST = "test"

# Held out of `train` for validation, as in the `musdb` package (configs/mus.yaml).
VALIDATION_TRACKS = (
    "Actions - One Minute Smile",
    "Clara Berry And Wooldog - Waltz For My Victims",
    "Johnny Lokke - Promises & Lies",
    "Patrick Talbot - A Reason To Leave",
    "Triviul - Angelsaint",
    "Alexander Ross - Goodbye Bolero",
    "Fergessen - Nos Palpitants",
    "Leaf - Summerghost",
    "Skelpolu - Human Mistakes",
    "Young Griffo - Pennies",
    "ANiMAL - Rockshow",
    "James May - On The Line",
    "Meaxic - Take A Step",
    "Traffic Experiment - Sirens",
)
