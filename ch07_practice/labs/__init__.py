"""Labs about prompting and building with a language model, each measured beside a baseline.

Its modules, in the order in which to read them: setting, few_shot, steps, self_consistency,
structured, tools, search_index, retrieval, injection, context, labs_command.
"""
