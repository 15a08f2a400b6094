import pytest

from aimless.errors import ConfigError
from aimless.sources import MDX_SOURCES, SDX_SOURCES, resolve_targets


@pytest.mark.parametrize(
    ("targets", "track", "expected"),
    [
        (["vocals", "drums"], None, ("drums", "vocals")),
        ({"vocals": None, "other": None, "bass": None, "drums": None}, "mdx", MDX_SOURCES),
        (["speech", "music"], None, ("music", "speech")),
        (["speech"], "se", ("speech",)),
        (["snare"], ["kick", "snare"], ("snare",)),
    ],
)
def test_targets_come_in_source_order(targets, track, expected):
    assert resolve_targets(targets, track)[1] == expected


@pytest.mark.parametrize("name", [*MDX_SOURCES, *SDX_SOURCES])
def test_a_misspelt_source_is_named_with_the_known_ones(name):
    wrong = name + "x"
    track = "mdx" if name in MDX_SOURCES else "sdx"
    for given in (track, None):
        with pytest.raises(ConfigError, match=f"unknown target '{wrong}'; known: .*{name}"):
            resolve_targets([wrong], given)


@pytest.mark.parametrize(
    ("targets", "track", "message"),
    [
        ([], "mdx", "none given"),
        (None, None, "none given"),
        (["vocals", "vocals"], None, "named twice"),
        (["speech"], None, "stands in several source lists"),
        (["vocals"], "mxd", "unknown list 'mxd'; known: mdx, sdx, se"),
        (["vocals"], [], "needs different source names"),
        (["vocals", "speech"], None, "unknown target 'speech'"),
    ],
)
def test_what_cannot_be_resolved(targets, track, message):
    with pytest.raises(ConfigError, match=message):
        resolve_targets(targets, track)
