"""What each stored number means: every column of a run, of its training curve and of a study, with its type and unit.

A loss is the mean cross-entropy per token, in nats. A compute is in FLOP, counted by the `standard` convention: every
matrix product of the model, forward and backward, with output layer, attention scores and recurrence included.
"""

from typing import NamedTuple

SCHEMA_VERSION = 2


class Column(NamedTuple):
    """One column of a table, of dtype int64, float64, str or bool; a missing number is NaN and makes int64 float64."""

    name: str
    dtype: str
    unit: str
    meaning: str


# Where a run stands in a study. A run that belongs to two studies has a row in each.
STUDY_COLUMNS = [
    Column("study", "str", "", "Study that the row belongs to; missing for a run that no study names"),
    Column("arm", "str", "", "Arm of that study: one way of training, such as the baseline"),
    Column("compute_budget", "float64", "FLOP", "Compute asked for on an isoFLOP ladder; missing where none was asked"),
    Column("stage", "str", "", "sweep: trained to find the learning rate of the main runs; main: all others"),
]

# The record of one run, written once by the process that trained it.
RECORD_COLUMNS = [
    Column("run_id", "str", "", "20 hex digits: hash of the run's spec, seed included"),
    Column(
        "configuration_id",
        "str",
        "",
        "20 hex digits: the same hash without the seed; seeds of one configuration share it",
    ),
    Column("status", "str", "", "done, or diverged: training broke down, which is a result and not an error"),
    Column(
        "loss",
        "float64",
        "nats/token",
        "Final loss on the fixed validation tokens; if diverged, the last finite training loss",
    ),
    Column("loss_se", "float64", "nats/token", "Standard error of loss over validation documents"),
    Column("train_loss", "float64", "nats/token", "Training loss, mean over the last logged stretch"),
    Column(
        "initial_loss",
        "float64",
        "nats/token",
        "Training loss at step 0; close to the logarithm of the vocabulary size",
    ),
    Column(
        "bits_per_byte", "float64", "bits/byte", "Final validation loss per byte of text, comparable across tokenizers"
    ),
    Column("n_params", "int64", "parameters", "Parameters without embeddings and output layer"),
    Column("n_params_total", "int64", "parameters", "All parameters"),
    Column("tokens", "int64", "tokens", "Tokens trained on, repeated ones counted each time"),
    Column("steps", "int64", "steps", "Optimizer steps taken"),
    Column("compute", "float64", "FLOP", "Training compute, convention `standard`"),
    Column("compute_6n", "float64", "FLOP", "Training compute as 6 × n_params × tokens"),
    Column("compute_6n_total", "float64", "FLOP", "Training compute as 6 × n_params_total × tokens"),
    Column("epochs_seen", "float64", "epochs", "Passes over the training tokens; above about 4, repetition costs loss"),
    Column("corpus", "str", "", "Name of the corpus"),
    Column("corpus_sha256", "str", "", "SHA-256 of the corpus: the text that was really read"),
    Column("tokenizer", "str", "", "Name of the tokenizer"),
    Column("tokenizer_sha256", "str", "", "SHA-256 of the tokenizer's definition"),
    Column("val_tokens", "int64", "tokens", "Validation tokens that loss is a mean over"),
    Column("wall_seconds", "float64", "seconds", "Time spent on training and evaluation"),
    Column("tokens_per_second", "float64", "tokens/second", "Training throughput"),
    Column("flop_per_second", "float64", "FLOP/second", "Compute achieved per second, convention `standard`"),
    Column(
        "gemm_flop_per_second",
        "float64",
        "FLOP/second",
        "What a square matrix product reaches on this device in this dtype with these threads; missing if not measured",
    ),
    Column("gemm_fraction", "float64", "", "flop_per_second / gemm_flop_per_second"),
    Column("matmul", "str", "", "Library of torch's matrix products: mkl, onednn, cublas; missing: torch's own choice"),
    Column(
        "attention", "str", "", "How attention was done: compiled (own kernel), fused (torch's), products, or inductor"
    ),
    Column("kernels", "str", "", "Name of the compiled kernels, a hash; missing where plain torch did their work"),
    Column("torch_compile", "bool", "", "The model went through torch.compile"),
    Column(
        "peak_memory_bytes", "int64", "bytes", "Largest memory of the training process, or of the device if it is a GPU"
    ),
    Column("device", "str", "", "Device that trained the run, such as cpu or the GPU's name"),
    Column("n_threads", "int64", "threads", "CPU threads used; another number changes the last bits of the weights"),
    Column(
        "micro_batches",
        "int64",
        "",
        "Parts that each batch was split into, to fit in memory; the mathematics is the same, the last bits are not",
    ),
    Column("host", "str", "", "Host name"),
    Column("python_version", "str", "", "Version of Python"),
    Column("torch_version", "str", "", "Version of torch"),
    Column("package_version", "str", "", "Version of algoprogress"),
    Column("git_sha", "str", "", "Commit of the code that ran; missing outside a repository"),
    Column("git_dirty", "str", "", "Hash of the uncommitted changes, or whether there were any"),
    Column("started_at", "str", "UTC", "When training began, ISO 8601"),
    Column("ended_at", "str", "UTC", "When training ended, ISO 8601"),
    Column("attempt", "int64", "", "Which attempt succeeded, from 1"),
    Column("schema_version", "int64", "", "Version of these columns"),
]

# The spec's fields that every run has. What else a nested configuration holds follows the rule in docs/schema.md.
SPEC_COLUMNS = [
    Column(
        "architecture",
        "str",
        "",
        "Name of the architecture; its fields are architecture_width, architecture_n_layers, ...",
    ),
    Column("optimizer", "str", "", "Name of the optimizer; its fields are optimizer_beta1, ..."),
    Column("schedule", "str", "", "Name of the learning-rate schedule; its fields are schedule_warmup, ..."),
    Column("reparameterization", "str", "", "Name of the reparameterization of the weights; missing if there is none"),
    Column("learning_rate", "float64", "", "Largest learning rate of the schedule"),
    Column("batch_tokens", "int64", "tokens", "Tokens in one optimizer step"),
    Column("clip", "float64", "", "Largest gradient norm let through; missing if gradients are not clipped"),
    Column("seed", "int64", "", "Seed of the initial weights and of the order of the data"),
    Column("dtype", "str", "", "Floating-point type of the training arithmetic"),
    Column("data_context", "int64", "tokens", "Length of the training sequences"),
    Column("data_tokenizer", "str", "", "Tokenizer that the spec asked for"),
    Column("evaluation_tokens", "int64", "tokens", "Validation tokens that the spec asked for"),
]

# One row for each logged step of a run.
CURVE_COLUMNS = [
    Column("step", "int64", "steps", "Optimizer steps taken; increases from row to row"),
    Column("tokens", "int64", "tokens", "Tokens trained on so far"),
    Column("compute", "float64", "FLOP", "Training compute so far, convention `standard`"),
    Column("loss", "float64", "nats/token", "Training loss, mean since the previous row"),
    Column(
        "val_loss", "float64", "nats/token", "Loss on the fixed validation tokens; missing where it was not evaluated"
    ),
    Column("val_loss_se", "float64", "nats/token", "Standard error of val_loss over documents"),
    Column("learning_rate", "float64", "", "Learning rate of the step"),
    Column("grad_norm", "float64", "", "Norm of the gradient before clipping"),
    Column("wall_seconds", "float64", "seconds", "Time since training began"),
]

# A probe: something measured of a run's weights at one step. Each row of a table of probes has these columns first.
PROBE_COLUMNS = [
    Column("probe_id", "str", "", "20 hex digits: hash of run, step and how it was measured"),
    Column("run_id", "str", "", "Run whose weights were measured; a preset that no store has has one too"),
    Column("step", "int64", "steps", "Optimizer steps that the weights had taken; 0: initial weights"),
    Column("architecture", "str", "", "Name of the run's architecture"),
    Column("optimizer", "str", "", "Name of the optimizer that the run was trained with"),
    Column("seed", "int64", "", "Seed of the run"),
    Column("probe_loss", "float64", "nats/token", "Loss whose curvature it is, on the tokens that were measured"),
    Column("probe_seconds", "float64", "seconds", "CPU time of the measurement, without that of training again"),
]

# One row for each node of a quadrature: its nodes and weights give densities, moments and extreme eigenvalues.
SPECTRA_COLUMNS = [
    Column("block", "str", "", "Diagonal block of the matrix: a weight, a group of weights, or all"),
    Column("group", "str", "", "What the block is for, such as embedding, q, down or conv"),
    Column("n", "int64", "", "Coordinates of the block"),
    Column("direction", "int64", "", "Which random direction, from 0"),
    Column("node", "float64", "", "Ritz value: where the spectral measure of that direction has weight"),
    Column("weight", "float64", "", "Weight of the node; those of one direction add to 1"),
    Column("trace", "float64", "", "Trace of the block by Hutch++; missing where none was measured"),
    Column("trace_se", "float64", "", "Standard error of trace"),
]

# One row for each optimizer whose update was looked along.
SHARPNESS_COLUMNS = [
    Column("update_of", "str", "", "Optimizer whose next update it is, fed the gradients of the run"),
    Column("sharpness", "float64", "", "v'Hv / |v|^2 of that update v"),
    Column("clipped", "float64", "", "The same after the largest coordinates of v are clipped"),
    Column("top_0.1%", "float64", "", "Share of the sharpness in the 0.1 % of coordinates with the largest |v|"),
    Column("top_1%", "float64", "", "The same of 1 %"),
    Column("top_10%", "float64", "", "The same of 10 %"),
    Column("top_50%", "float64", "", "The same of 50 %"),
    Column("loss_along", "list", "nats/token", "Loss at 0, 1/10, ..., 1 of the update"),
]
