"""Captured takes in, a paired dataset out: render clips and their photoreal targets, to train an in-context adapter.

A clip's way: `clips` chooses it, `plan` names it and says what it costs, `run` sends it through the three `stages`
(edit, propagate, finish) on a `crew` of threads, processes or Ray actors, `editors` and `propagators` hold the models,
`filters` score what came out, `verdicts` judge it, and `dataset` keeps it; `review` shows it to a person and `export`
to other trainers. `settings` are what all of them go by.
"""
