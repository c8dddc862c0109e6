from dataclasses import dataclass, field
from typing import Any


@dataclass
class AsyncEngineArgs:
    model: str
    max_num_seqs: int = 16
    max_model_len: int | None = None
    enable_log_requests: bool = False
    disable_log_stats: bool = False
    enable_lora: bool = False
    quantization: str | None = None
    load_format: str = "auto"
    kv_cache_dtype: str = "auto"
    scheduling_policy: str = "fcfs"
    skip_tokenizer_init: bool = False
    gpu_memory_utilization: float = 0.9
    attention_backend: str | None = None
    dtype: str = "auto"
    compilation_config: dict[str, Any] = field(default_factory=dict[str, Any])
    enable_prefix_caching: bool | None = None
