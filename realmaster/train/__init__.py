"""From pairs of videos to an in-context LoRA (IC-LoRA) that lifts.

`settings` says what is asked, `dataset` reads pairs, `latents` encodes them once, `families/` knows the models, `flow`
the mathematics, `loop` trains, `validation` lifts held-out clips with the lifter itself, `output` writes what others
load, `advice` says beforehand what it will take.
"""
