"""Which devices multiply bfloat16 themselves: elsewhere it is emulated, and several times slower than float32."""

import os

import torch

# What a user may hold oneDNN to, which multiplies PyTorch's matrices on a CPU: levels that have bfloat16 products.
_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
_WITH_BFLOAT16 = ("DEFAULT", "ALL", "BF16", "FP16", "AMX", "AVX10")


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for it that PyTorch will use."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    limit = next((os.environ[name].upper() for name in _LIMITS if os.environ.get(name)), "DEFAULT")
    return torch.cpu._is_avx512_bf16_supported() and any(level in limit for level in _WITH_BFLOAT16)
