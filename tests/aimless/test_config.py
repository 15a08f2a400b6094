import copy

import pytest

from aimless.config import accepted_arguments, import_class, parse_yaml, read_yaml, share_settings
from aimless.errors import ConfigError


def experiment(**separator):
    return {
        "model": {
            "class_path": "aimless.lightning.freq_mask.MaskPredictor",
            "init_args": {
                "targets": ["vocals", "drums"],
                "model": {"class_path": "aimless.models.xumx.X_UMX", "init_args": {}},
                "criterion": {"class_path": "aimless.loss.freq.CLoss"},
                "transforms": [{"class_path": "aimless.augment.SpeedPerturb"}],
                **separator,
            },
        },
        "data": {"class_path": "data.lightning.MUSDB", "init_args": {"root": "/x"}},
    }


def test_a_key_that_stands_twice_is_refused_with_both_lines(tmp_path):
    path = tmp_path / "twice.yaml"
    path.write_text("trainer:\n  callbacks: [a]\n  max_steps: 3\n  callbacks: null\n")
    with pytest.raises(ConfigError, match=r"twice.yaml: key 'callbacks'.*lines 2 and 4"):
        read_yaml(path)


@pytest.mark.parametrize("text", ["a: [1, 2", "a: b: c", "\tx: 1"])
def test_broken_yaml_is_one_line_with_its_place(text):
    with pytest.raises(ConfigError, match=r"not valid YAML: line \d") as caught:
        parse_yaml(text)
    assert "\n" not in str(caught.value)


def test_numbers_in_scientific_notation_are_numbers():
    assert parse_yaml("{a: 1e-4, b: 3E5, c: 1.0e-4, d: 1e, e: e1}") == {
        "a": 1e-4,
        "b": 3e5,
        "c": 1e-4,
        "d": "1e",
        "e": "e1",
    }


def test_published_class_paths_of_lightning_keep_working():
    text = "callbacks: [{class_path: pytorch_lightning.callbacks.ModelCheckpoint}]"
    path = parse_yaml(text)["callbacks"][0]["class_path"]
    assert path == "lightning.pytorch.callbacks.ModelCheckpoint"
    assert import_class(path).__name__ == "ModelCheckpoint"


def test_merge_keys_are_no_repetition():
    text = "a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: {<<: *a, x: 3}"
    assert parse_yaml(text)["c"] == {"x": 3}


def test_arguments_passed_on_to_a_base_class_are_accepted():
    names = accepted_arguments("aimless.lightning.waveform.WaveformSeparator")
    assert {"model", "criterion", "targets", "sample_rate", "use_sdx_targets"} <= names
    assert not {"self", "kwargs"} & names


@pytest.mark.parametrize("path", ["nope.Nope", "aimless.models.xumx.Nope", "aimless.models", "x"])
def test_unknown_class_paths(path):
    with pytest.raises(ConfigError, match=path):
        import_class(path)


@pytest.mark.parametrize("where", ["separator", "network", "criterion"])
def test_stft_sizes_are_stated_once_anywhere(where):
    config = experiment()
    separator = config["model"]["init_args"]
    separator["criterion"]["init_args"] = {}
    nodes = {
        "separator": separator,
        "network": separator["model"]["init_args"],
        "criterion": separator["criterion"]["init_args"],
    }
    nodes[where]["n_fft"] = 512
    share_settings(config)
    assert {name: node["n_fft"] for name, node in nodes.items()} == dict.fromkeys(nodes, 512)
    assert "n_fft" not in separator["transforms"][0].get("init_args", {})


def test_sample_rate_and_channels_reach_data_network_and_effects():
    config = experiment(sample_rate=22050)
    config["model"]["init_args"]["model"]["init_args"]["nb_channels"] = 1
    config["data"]["init_args"]["transforms"] = [{"class_path": "data.augment.LimitAug"}]
    share_settings(config)
    separator, data = config["model"]["init_args"], config["data"]["init_args"]
    assert data["sample_rate"] == 22050
    assert data["channels"] == 1
    assert separator["transforms"][0]["init_args"]["orig_freq"] == 22050
    assert data["transforms"][0]["init_args"]["sample_rate"] == 22050


def test_sources_follow_the_targets_in_source_order():
    config = experiment()
    share_settings(config)
    assert config["model"]["init_args"]["model"]["init_args"]["sources"] == ["drums", "vocals"]

    config = experiment()
    config["model"]["init_args"]["model"] = {
        "class_path": "aimless.models.demucs_split.DemucsSplit"
    }
    share_settings(config)
    assert config["model"]["init_args"]["model"]["init_args"]["nb_sources"] == 2


def test_a_list_of_sources_in_another_order_follows_the_targets():
    config = experiment()
    config["model"]["init_args"]["model"]["init_args"]["sources"] = ["vocals", "drums"]
    share_settings(config)
    assert config["model"]["init_args"]["model"]["init_args"]["sources"] == ["drums", "vocals"]


def test_two_values_for_one_setting_are_refused_with_both_keys():
    config = experiment(n_fft=2048)
    config["model"]["init_args"]["model"]["init_args"]["n_fft"] = 4096
    with pytest.raises(ConfigError, match=r"model.init_args.n_fft is 2048.*n_fft is 4096"):
        share_settings(config)
    config = experiment()
    config["model"]["init_args"]["model"]["init_args"]["sources"] = ["bass", "vocals"]
    with pytest.raises(ConfigError, match="does not fit the targets drums, vocals"):
        share_settings(config)


def test_a_config_without_shared_settings_is_left_alone():
    config = {"trainer": {"max_steps": 1}}
    before = copy.deepcopy(config)
    share_settings(config)
    assert config == before
