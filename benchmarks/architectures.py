"""Which architectures `cwjax.adapters.from_torch` converts: networks of torchvision, timm, transformers and
robustbench with random weights, each compared with the original, logits and input gradients.

    python -m benchmarks.architectures --library timm --out table.md      # a minute a network on one core
    python -m benchmarks.architectures --library timm --names vit_tiny_patch16_224 resnet18

Weights that a constructor sets to one number (scales at 0 or 1, statistics of batch norms) are drawn too, so that no
branch is silent. Needs the extra torch, and the libraries that are asked about.
"""

# pyright: reportMissingImports=false
import argparse
import gc
import importlib
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import torch

from cwjax.adapters import NotConvertible, from_torch

SIZE = 64  # of the images of networks that take any

TORCHVISION = (
    "alexnet vgg11_bn resnet18 resnext50_32x4d wide_resnet50_2 densenet121 squeezenet1_1 googlenet inception_v3 "
    "shufflenet_v2_x0_5 mobilenet_v2 mobilenet_v3_small mnasnet0_5 efficientnet_b0 efficientnet_v2_s regnet_y_400mf "
    "convnext_tiny vit_b_32 swin_t swin_v2_t maxvit_t"
)

# timm's own miniatures first, then the smallest network of many of its files.
TIMM = (
    "test_resnet test_vit test_vit2 test_vit3 test_vit4 test_vit_relpos test_convnext test_convnext2 test_convnext3 "
    "test_efficientnet test_efficientnet_evos test_efficientnet_gn test_efficientnet_ln test_byobnet test_coatnet "
    "test_maxvit test_nfnet test_mambaout resnet10t mobilenetv3_small_050 tinynet_e ghostnet_050 mobileone_s0 "
    "fasternet_t0 starnet_s050 mobilevit_xxs lcnet_050 regnetx_002 regnety_002 semnasnet_075 dla46_c hrnet_w18_small "
    "levit_128s pit_ti_224 deit_tiny_patch16_224 convit_tiny cait_xxs24_224 xcit_nano_12_p16_224 crossvit_9_240 "
    "coat_lite_tiny efficientformerv2_s0 edgenext_xx_small poolformer_s12 pvt_v2_b0 repvit_m0_9 swiftformer_xs "
    "mixer_s32_224 resmlp_12_224 gmlp_ti16_224 tnt_s_legacy_patch16_224 volo_d1_224 nest_tiny visformer_tiny "
    "gcvit_xxtiny focalnet_tiny_srf davit_tiny swin_tiny_patch4_window7_224 swinv2_tiny_window8_256 hiera_tiny_224 "
    "eva02_tiny_patch14_224 vit_tiny_patch16_dinov3_qkvb inception_next_atto fastvit_t8 efficientvit_b0 "
    "efficientvit_m0 densenet121 vgg11_bn cspresnet50 rexnet_100 res2net50_14w_8s resnest14d skresnet18 selecsls42 "
    "legacy_seresnet18 xception41 vovnet39a mvitv2_tiny"
)

# Configurations of transformers, made small: the classes are the library's own.
SMALL = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96, "image_size": 64}
TRANSFORMERS: dict[str, dict[str, Any]] = {
    "Beit": SMALL,
    "Bit": {"embedding_size": 32, "hidden_sizes": [128, 128, 256, 256], "depths": [1, 1, 1, 1]},
    "ConvNext": {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1]},
    "ConvNextV2": {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1]},
    "Cvt": {},
    "Data2VecVision": SMALL,
    "DeiT": SMALL,
    "Dinov2": SMALL | {"patch_size": 8},
    "Dinov2WithRegisters": SMALL | {"patch_size": 8},
    "EfficientNet": {"width_coefficient": 1.0, "depth_coefficient": 0.5, "hidden_dim": 1280, "image_size": 64},
    "FocalNet": {"image_size": 64, "embed_dim": 24, "depths": [1, 1, 1, 1]},
    "HGNetV2": {},
    "Hiera": {"image_size": [224, 224], "embed_dim": 48, "depths": [1, 1, 2, 1]},
    "IJepa": SMALL,
    "Levit": {},
    "MobileNetV1": {"depth_multiplier": 0.25},
    "MobileNetV2": {"depth_multiplier": 0.35},
    "MobileViT": {"image_size": 64},
    "MobileViTV2": {"image_size": 64, "width_multiplier": 0.5},
    "PoolFormer": {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1]},
    "Pvt": {"image_size": 64},
    "PvtV2": {"image_size": 64},
    "RegNet": {"embedding_size": 16, "hidden_sizes": [32, 48, 64, 96], "depths": [1, 1, 2, 1], "groups_width": 16},
    "ResNet": {"embedding_size": 16, "hidden_sizes": [32, 48, 64, 96], "depths": [1, 1, 2, 1]},
    "Segformer": {"image_size": 64},
    "SwiftFormer": {},
    "Swin": {"image_size": 64, "embed_dim": 24, "depths": [2, 2], "num_heads": [2, 4]},
    "Swinv2": {"image_size": 64, "embed_dim": 24, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4},
    "ViT": SMALL,
    "ViTMSN": SMALL,
}


# File and class in robustbench.model_zoo.architectures, and arguments: its networks, of few layers and narrow.
ROBUSTBENCH: dict[str, tuple[str, dict[str, Any]]] = {
    "WideResNet": ("wide_resnet", {"depth": 16, "widen_factor": 2, "sub_block1": True}),
    "DMWideResNet": ("dm_wide_resnet", {"depth": 16, "width": 2}),
    "DMPreActResNet": ("dm_wide_resnet", {}),
    "RobustWideResNet": ("robust_wide_resnet", {"channel_configs": [16, 32, 64, 128], "depth_configs": [2, 2, 2]}),
    "ResNet18": ("resnet", {}),
    "PreActResNet18": ("resnet", {}),
    "CifarResNeXt": (
        "resnext",
        {"block": "ResNeXtBottleneck", "depth": 29, "cardinality": 4, "base_width": 8, "num_classes": 10},
    ),
    "LRR_ResNet": ("CARD_resnet", {"width": 16}),
    "WidePreActResNet": ("CARD_resnet", {}),
    "ConvNeXtV2": ("convnext_v2", {"depths": [1, 1, 1, 1], "dims": [16, 32, 64, 64]}),
    "MeanSparse_DMWideResNet": ("Meansparse_wrn_94_16", {"depth": 16, "width": 2}),
    "debenedetti2022light_xcit_s12_cifar10_linf": ("xcit", {}),
}


def of_torchvision(name: str) -> tuple[torch.nn.Module, tuple[int, ...]]:
    import torchvision

    size = {"vit_b_32": 224, "maxvit_t": 224, "inception_v3": 96}.get(name, SIZE)
    more = {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return torchvision.models.get_model(name, num_classes=10, **more), (3, size, size)


def of_timm(name: str) -> tuple[torch.nn.Module, tuple[int, ...]]:
    import timm

    module = timm.create_model(name, num_classes=10)
    shape = tuple(module.default_cfg["input_size"])
    return module, shape if module.default_cfg.get("fixed_input_size") else (3, 2 * SIZE, 2 * SIZE)


def of_transformers(name: str) -> tuple[torch.nn.Module, tuple[int, ...]]:
    import transformers

    config = getattr(transformers, f"{name}Config")(num_labels=10, **TRANSFORMERS[name])
    size = getattr(config, "image_size", SIZE)
    size = size[0] if isinstance(size, list | tuple) else size
    return getattr(transformers, f"{name}ForImageClassification")(config), (3, size, size)


def of_robustbench(name: str) -> tuple[torch.nn.Module, tuple[int, ...]]:
    for asked, value in (("autoattack", "AutoAttack"), ("autoattack.state", "EvaluationState")):  # for, and not needed
        setattr(sys.modules.setdefault(asked, types.ModuleType(asked)), value, None)
    file, arguments = ROBUSTBENCH[name]
    defined = importlib.import_module(f"robustbench.model_zoo.architectures.{file}")
    named = {key: getattr(defined, value) if isinstance(value, str) else value for key, value in arguments.items()}
    return getattr(defined, name)(**named), (3, 32, 32)


LIBRARIES: dict[str, tuple[Callable[[str], tuple[torch.nn.Module, tuple[int, ...]]], tuple[str, ...]]] = {
    "torchvision": (of_torchvision, tuple(TORCHVISION.split())),
    "timm": (of_timm, tuple(TIMM.split())),
    "transformers": (of_transformers, tuple(TRANSFORMERS)),
    "robustbench": (of_robustbench, tuple(ROBUSTBENCH)),
}


def drawn(module: torch.nn.Module) -> torch.nn.Module:
    """The module with all its weights at random, in evaluation mode."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.is_floating_point() and (parameter.numel() < 2 or float(parameter.std()) < 1e-3):
                constant = float(parameter.mean())
                parameter.add_(torch.randn_like(parameter) * (0.1 if abs(constant) > 0.01 else 0.02))
                if name.rsplit(".")[-1] in ("gamma", "lambda1", "layer_scale") or 0 < abs(constant) <= 1e-3:
                    parameter.add_(0.3)  # a scale near 0 hides its branch
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            if name.endswith("running_var"):
                buffer.uniform_(0.7, 1.3)
    return module.eval()


def rows(library: str, names: tuple[str, ...]) -> Iterator[str]:
    """A row of a table for each network: what happened, how large it is, and how long that took."""
    make, _ = LIBRARIES[library]
    for name in names:
        started = time.monotonic()
        torch.manual_seed(0)
        try:
            module, shape = make(name)
        except Exception as error:  # of the library's own
            yield f"| {name} | not made | {_line(error)} | |"
            continue
        module = drawn(module)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                from_torch(module, shape, how="convert")
            told = "converted", ""
        except NotConvertible as error:
            told = "refused", _line(error)
        except Exception as error:
            told = "failed", f"{type(error).__name__}: {_line(error)}"
        millions = sum(parameter.numel() for parameter in module.parameters()) / 1e6
        size = f"{millions:.1f} M, {shape[1]}×{shape[2]}"
        yield f"| {name} | {told[0]} | {told[1]} | {size}, {time.monotonic() - started:.0f} s |"
        del module
        gc.collect()
        jax.clear_caches()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200].replace("|", "/")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", choices=LIBRARIES, required=True)
    parser.add_argument("--names", nargs="+", help="networks of the library; by default those of this file")
    parser.add_argument("--out", type=Path, help="the table is written here too, row by row")
    args = parser.parse_args()
    jax.config.update("jax_disable_most_optimizations", True)  # numbers are compared, and no speed
    torch.set_num_threads(1)
    for row in rows(args.library, tuple(args.names or LIBRARIES[args.library][1])):
        print(row, flush=True)
        if args.out:
            with args.out.open("a") as file:
                file.write(row + "\n")


if __name__ == "__main__":
    main()
