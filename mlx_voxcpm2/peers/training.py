"""Flags and YAML keys of other trainers: `mlx_lm.lora`, upstream's train_voxcpm_finetune.py.

mlx-lm 0.32: lora.py. Upstream: scripts/train_voxcpm_finetune.py, conf/voxcpm_v2.
"""

from __future__ import annotations

from .names import (
    MLX_LM,
    VOXCPM,
    alias,
    built_in,
    ignored,
    of_program,
    refused,
    same,
    table,
    translated,
)

_LOG = "the losses are in OUTPUT/losses.jsonl and loss.png"

TRAIN = table(
    of_program(
        VOXCPM,
        same(
            "batch_size grad_accum_steps learning_rate weight_decay warmup_steps max_steps "
            "max_batch_tokens max_grad_norm lambdas lora log_interval valid_interval save_interval "
            "config verbose"
        ),
        alias("model", "pretrained_path"),
        alias("train", "train_manifest manifest -m"),
        alias("validation", "val_manifest"),
        alias("output", "save_path"),
        alias("max_steps", "num_iters"),
        alias("config", "config_path"),
        alias("verbose", "-v"),
        built_in(
            "sample_rate out_sample_rate", "clips are resampled to the model's rate in any case"
        ),
        built_in("num_workers", "clips are read ahead in any case"),
        ignored("tensorboard", _LOG),
        built_in("hf_model_id", "lora_config.json names the --model in any case"),
        built_in("distribute", "lora_config.json names the --model in any case", has_value=False),
        refused("max_samples", "all lines are checked; leave it out", neutral=("0",)),
    ),
    of_program(
        MLX_LM,
        same("model train batch_size learning_rate seed config"),
        alias("config", "-c"),
        alias("max_steps", "iters"),
        alias("log_interval", "steps_per_report"),
        alias("valid_interval", "steps_per_eval"),
        alias("save_interval", "save_every"),
        alias("grad_accum_steps", "grad_accumulation_steps"),
        alias("output", "adapter_path"),
        alias("gradient_checkpointing", "grad_checkpoint"),
        translated(
            "data",
            "folder with train.jsonl and, for validation, valid.jsonl: --train and --validation",
        ),
        translated("fine_tune_type", "lora is --lora, full is --full; there is no dora"),
        translated(
            "optimizer", "adamw is the only one; adam is that with `weight_decay: 0` in --config"
        ),
        translated("optimizer_config", "in YAML: weight_decay is taken from it"),
        translated(
            "max_seq_length", "max_batch_tokens of so many positions for each example of a batch"
        ),
        translated("lora_parameters", "in YAML: r, dropout, and alpha = scale x rank"),
        translated(
            "lr_schedule", "in YAML: cosine_decay gives learning_rate and warmup_steps; others not"
        ),
        built_in("mask_prompt", "only speech has a loss, never the text", has_value=False),
        ignored("num_layers", "all layers are trained", neutral=("-1",)),
        ignored("val_batches", "validation takes all of its lines", neutral=("-1",)),
        ignored("test_batches", "there is no test set"),
        refused(
            "test",
            "there is no test set; give its lines as --validation",
            has_value=False,
            neutral=("False",),
        ),
        refused(
            "resume_adapter_file",
            "a run is resumed by its own command; to train on, fuse the adapter into a model first "
            "(mlx-voxcpm2 convert --adapter)",
        ),
        ignored("clear_cache_threshold", "memory is freed as needed", neutral=("0",)),
        ignored("report_to project_name wandb", _LOG),
        ignored("trust_remote_code", "no code of a checkpoint is run", has_value=False),
        refused(
            "hf_dataset", "download the data set, and give --data FOLDER with train.jsonl in it"
        ),
    ),
)
