"""What `--help` prints: the settings that people use, without importing anything heavy.

Building the complete list needs Lightning, and so some seconds; `--help_all` does that. A test
holds every option that is named here against the real parser.
"""

from __future__ import annotations

__all__ = ["SUBCOMMANDS", "TOP", "subcommand_help"]

SUBCOMMANDS = {
    "fit": "Train a separator; with --preflight, only try it out.",
    "validate": "Score a checkpoint on the validation songs.",
    "test": "Score a checkpoint on the test songs.",
    "predict": "Separate songs: one WAV per stem.",
}

_ROOT = "--data.init_args.root /path/to/musdb18hq"
_SONG = "--data data.lightning.AudioFiles --data.init_args.paths song.mp3"
_EXAMPLES = {
    "fit": f"--config cfg/xumx.yaml {_ROOT}",
    "validate": f"--config cfg/xumx.yaml --ckpt_path FILE \\\n    {_ROOT}",
    "test": f"--config cfg/xumx.yaml --ckpt_path FILE \\\n    {_ROOT}",
    "predict": f"--config cfg/xumx.yaml --ckpt_path FILE \\\n    {_SONG}",
}

_GENERAL = """\
  --config FILE, -c FILE       an experiment in YAML; may stand several times, the later one wins
  --print_config               show the experiment with all defaults filled in, and stop
  --seed_everything N          seed of the weights and of every draw (default: 0)
  --model.help CLASS           settings of a class; also --data.help, --optimizer.help CLASS
  --help_all                   the complete list of options
"""

_CHECKPOINT = """\
  --ckpt_path FILE             {use}
"""

_TRAINER = """\
  --trainer.devices N          devices to use (default: auto, all); several work together (DDP)
  --trainer.accelerator NAME   cpu, gpu, mps or auto (default)
  --trainer.precision P        32, bf16-mixed, 16-mixed, ...
  --trainer.default_root_dir DIR   where lightning_logs is made (default: here)
"""

_TRAINING = """\
  --preflight                  try the run out, say what it will need, and write nothing
  --trainer.max_epochs N       epochs to train for
  --trainer.max_steps N        optimizer steps to train for
  --trainer.accumulate_grad_batches N   batches per optimizer step
  --trainer.check_val_every_n_epoch N   epochs between validations
  --trainer.fast_dev_run N     N batches of everything, saving nothing: a trial
  --processes.timeout S        seconds after which a process takes the others for dead (120)
  --guard.limit N              steps in a row with numbers that are not finite, to stop after
  --excerpts.count N           excerpts that each validation logs as audio and pictures
  --excerpts.seconds S         their length
  --optimizer CLASS            e.g. torch.optim.Adam, with --optimizer.init_args.lr
"""

_DATA = """\
  --data CLASS                 data module, e.g. data.lightning.MUSDB
  --data.init_args.root DIR    folder of the data set
  --data.init_args.batch_size N, --data.init_args.seq_duration S, --data.init_args.num_workers N
  --data.init_args.on_bad_track skip   go on without damaged tracks (default: error)
"""

_SONGS = """\
  --data data.lightning.AudioFiles
  --data.init_args.paths PATH  a file or folder, or a list as in '[a.wav, b.mp3]'
  --stems.output_dir DIR       where the stems go (default: separated)
  --stems.overwrite true       replace stems that are already there
"""

_MODEL = """\
  --model.init_args.NAME       settings of the separator: targets, n_fft, ...
  --model.init_args.model.init_args.NAME       settings of the network
  --model.init_args.overlap_add.segment S      how long songs are cut; also .overlap, .batch_size
"""

_EXIT = """\
exit status: 0 done; 2 a setting is wrong; 3 files are missing or damaged; 4 numbers that are not
finite; 130 interrupted
"""


def _listing() -> str:
    return "".join(f"  {name:<10} {text}\n" for name, text in SUBCOMMANDS.items())


TOP = f"""\
usage: python main.py SUBCOMMAND --config FILE [--KEY VALUE ...]

Train, validate, test and use audio source separators.

subcommands (`python main.py fit --help` shows the options of fit):
{_listing()}
examples:
  python main.py fit {_EXAMPLES["fit"]}
  python main.py predict {_EXAMPLES["predict"]}

{_EXIT}"""


def subcommand_help(name: str) -> str:
    """The help of a subcommand, on one screen."""
    fit, predict = name == "fit", name == "predict"
    use = "go on from this checkpoint" if fit else "the trained weights; required"
    return f"""\
usage: python main.py {name} --config FILE [--KEY VALUE ...]

{SUBCOMMANDS[name]}
Any setting of the experiment can be given as --KEY VALUE.

  python main.py {name} {_EXAMPLES[name]}

general:
{_GENERAL}{_CHECKPOINT.format(use=use)}
{"songs" if predict else "data"}:
{_SONGS if predict else _DATA}
model:
{_MODEL}
{"training" if fit else "trainer"}:
{_TRAINING if fit else ""}{_TRAINER}
{_EXIT}"""
