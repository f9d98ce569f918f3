"""How good is a model? Every value comes with its 95 % interval.

Its modules, in the order in which to read them: likelihood, evaluation, lm_eval_adapter,
evaluate_command, scaling_law, scaling_command.
"""
