"""Speed beside other packages, each measurement in a process of its own.

Its modules, in the order in which to read them: machine, benchmark_runner, nano_gpt,
reference_models, training_candidates, training_bench, step_profile, decoding_candidates,
decoding_bench, quantization_table, gpu_bench, bench_command.
"""
