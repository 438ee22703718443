"""Write torch_file.pth, which tests/test_torch_file.py reads; only this script needs PyTorch.

python tests/golden/make_torch_file.py
"""

from collections import OrderedDict
from pathlib import Path

import torch


def main() -> None:
    module = torch.nn.BatchNorm1d(3)
    torch.nn.init.constant_(module.weight, 0.5)
    state = module.state_dict()
    assert isinstance(state, OrderedDict) and state._metadata
    for dtype in ("float32", "float64", "float16", "bfloat16"):
        state[dtype] = (torch.arange(12).to(getattr(torch, dtype)) / 4 - 1).view(3, 4)
    for dtype in ("int64", "int32", "int16", "int8", "uint8"):
        state[dtype] = torch.arange(5, dtype=getattr(torch, dtype)) * 7
    state["int64_large"] = torch.tensor([2**40, -(2**40)])
    state["bool"] = torch.arange(6) % 3 == 0
    state["parameter"] = torch.nn.Parameter(torch.arange(4.0))
    base = torch.arange(24.0).view(4, 6)
    state["base"] = base
    state["same"] = base
    state["row"] = base[2]
    state["column"] = base[:, 1]
    state["every_other"] = base[1::2, ::3]
    state["transposed"] = base.t()
    state["permuted"] = torch.arange(24, dtype=torch.bfloat16).view(2, 3, 4).permute(2, 0, 1)
    state["expanded"] = torch.arange(3.0).view(3, 1).expand(3, 4)
    state["scalar"] = torch.tensor(2.5)
    state["scalar_bfloat16"] = torch.tensor(2.5, dtype=torch.bfloat16)
    state["scalar_bool"] = torch.tensor(True)
    state["empty"] = torch.zeros(0, 3)
    state["empty_bfloat16"] = torch.zeros(2, 0, dtype=torch.bfloat16)
    state["名 with\nnewline"] = torch.ones(1)
    checkpoint = {"state_dict": state, "epoch": 3, "note": "text", "rates": [0.5, None, (1, True)]}
    torch.save(checkpoint, Path(__file__).with_name("torch_file.pth"))


if __name__ == "__main__":
    main()
