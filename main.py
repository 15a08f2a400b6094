"""Train, validate, test and use separators: `python main.py {fit,validate,test,predict}`."""

import sys

from aimless.lightning.run import run

# Several devices train with DDP, which is what `auto` means; the samplers of `data` spread the
# items over the processes themselves.
TRAINER_DEFAULTS = {
    "accelerator": "auto",
    "strategy": "auto",
    "log_every_n_steps": 1,
    "use_distributed_sampler": False,
}

if __name__ == "__main__":
    sys.exit(run(TRAINER_DEFAULTS))
