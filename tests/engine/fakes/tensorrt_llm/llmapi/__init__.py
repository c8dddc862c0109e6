from dataclasses import dataclass


@dataclass
class KvCacheConfig:
    free_gpu_memory_fraction: float = 0.9
    enable_block_reuse: bool = True
    dtype: str = "auto"


@dataclass
class GuidedDecodingParams:
    json: str | None = None
    regex: str | None = None
