"""Steps that the scripts for preparing data share.

`command` is the frame of a command, `output` the folder that is written and the plan in it, `work`
does the jobs side by side; `sounds` and `mixing` write audio. `split`, `voiceless` and `dnr` are
what the scripts of these names do.
"""

import sys
from pathlib import Path

# `data` is not installed, and a script is started from any folder.
_REPOSITORY = str(Path(__file__).resolve().parent.parent.parent)
if _REPOSITORY not in sys.path:
    sys.path.insert(1, _REPOSITORY)
