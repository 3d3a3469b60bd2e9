"""One module per command. Each has `add(commands)`, which declares its options, and `run(args, screen)`, which
does the work and returns the object that `--json` prints. Heavy imports belong inside `run`.
"""

from realmaster.commands import daemon, demo, doctor, evaluate, lift, pairs, record, takes, train

COMMANDS = (demo, daemon, record, takes, lift, pairs, train, evaluate, doctor)
