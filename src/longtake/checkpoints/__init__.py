"""Safetensors in and out: nothing is run, nothing half-written, nothing believed unchecked."""

from longtake.checkpoints.index import content_hash, read_json
from longtake.checkpoints.lora import LoraFile, LoraHead, read_lora, save_lora
from longtake.checkpoints.state import load_state, save_state
from longtake.checkpoints.weights import load_tensors, open_tensors, save_tensors

__all__ = [
    "LoraFile",
    "LoraHead",
    "content_hash",
    "load_state",
    "load_tensors",
    "open_tensors",
    "read_json",
    "read_lora",
    "save_lora",
    "save_state",
    "save_tensors",
]
