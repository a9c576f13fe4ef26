"""Reading TensorFlow Datasets (TFDS) as byte arrays, kept in a cache once decoded."""

import contextlib
import difflib
import importlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_FORMAT = "vae_teach.data 2"  # change the number when the arrays below change
_INSTALL = 'pip install "vae_teach[tfds]"'


def arrays(name: str, embedded: Sequence[str]) -> dict[str, np.ndarray]:
    """Read the TFDS set `name`, from the cache when it is there and sound.

    Returns uint8 ``train_images`` and ``test_images``, int32 ``train_labels`` and
    ``test_labels`` where the set has labels, int32 ``train_factors``, ``test_factors``
    and the texts ``factor_names`` where it has factors, and the text ``source``. The
    names `embedded` only serve the messages. Errors are those of `vae_teach.data.load`.
    """
    tfds = _import_tfds(name, embedded)
    with _quiet():
        builder = _builder(tfds, name, embedded)
        _check_features(tfds, builder)
        cache = _cache_folder() / f"{builder.info.full_name.replace('/', '-')}.npz"
        decoded = _read_cache(cache, _sizes(builder))
        if decoded is None:
            _prepare(builder, name)
            decoded = _decode(builder, name)
            _write_cache(cache, decoded)
    return decoded


def _import_tfds(name: str, embedded: Sequence[str]) -> Any:
    try:
        # TFDS finds out late that array_record is missing, and hides that it is broken
        # itself: its submodule says so.
        importlib.import_module("array_record.python.array_record_data_source")
        importlib.import_module("tensorflow_datasets.core")
        return importlib.import_module("tensorflow_datasets")
    except Exception as error:
        raise ImportError(
            f"{name!r} is not embedded ({', '.join(embedded)}), and TensorFlow Datasets"
            f", to look there, fails ({type(error).__name__}: {error}): {_INSTALL}"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # TFDS warns on stderr that OpenCV is missing; a chapter's cell fails on stderr.
    from absl import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _builder(tfds: Any, name: str, embedded: Sequence[str]) -> Any:
    folder = os.path.expanduser(os.environ.get("TFDS_DATA_DIR", "")) or None
    try:
        return tfds.builder(name, file_format="array_record", data_dir=folder)
    except tfds.core.DatasetNotFoundError as error:
        # Without community sets: listing these needs a network and TensorFlow.
        names = [*embedded, *tfds.list_builders(with_community_datasets=False)]
        close = ", ".join(difflib.get_close_matches(name, names))
        raise ValueError(
            f"unknown data set {name!r}: expected an embedded one "
            f"({', '.join(embedded)}) or an image set of TFDS. Close matches: "
            f"{close or 'none'}. All names: tensorflow_datasets.list_builders("
            "with_community_datasets=False)"
        ) from error
    except Exception as error:
        why = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise ValueError(
            f"TFDS cannot open {name!r} ({why}). Expected NAME, NAME/CONFIG or NAME:"
            "VERSION of a set in array_record format; where the folder holds another "
            "format, set TFDS_DATA_DIR to an empty folder and load again."
        ) from error


def _check_features(tfds: Any, builder: Any) -> None:
    features = dict(builder.info.features or {})
    image: Any = features.get("image")
    if not isinstance(image, tfds.features.Image):
        came = f"the features {features}"
    elif image.np_dtype != np.uint8 or None in image.shape:
        came = f"shape {image.shape} and type {np.dtype(image.np_dtype)}"
    else:
        return
    raise ValueError(
        f"{builder.info.full_name} does not fit into an array: expected a feature "
        f"'image' of one fixed shape and type uint8, came {came}. Choose another set."
    )


def _sizes(builder: Any) -> str:
    """Sizes of the prepared splits; empty when the set is not prepared here."""
    splits = sorted(builder.info.splits.items())
    return ", ".join(f"{k}: {s.num_examples} in {s.num_bytes} B" for k, s in splits)


def _prepare(builder: Any, name: str) -> None:
    try:
        builder.download_and_prepare()  # does nothing when the set is there
    except Exception as error:
        raise RuntimeError(
            f"{builder.info.full_name} is not in {builder.data_dir}, and preparing it "
            f"failed ({type(error).__name__}: {error}). {_how_to_prepare(name)}"
        ) from error


def _how_to_prepare(name: str) -> str:
    return (
        f"On a machine with a network: {_INSTALL} tensorflow; TFDS_DATA_DIR=FOLDER "
        f"""python -c "from vae_teach import data; data.load('{name}')"; then copy """
        "FOLDER to this machine and set TFDS_DATA_DIR to it."
    )


def _decode(builder: Any, name: str) -> dict[str, np.ndarray]:
    info = builder.info
    parts, note = _choose_parts(info)
    _check_memory(info, parts)
    source = f"TensorFlow Datasets {info.full_name}, {note}. {info.citation}"
    decoded = {
        "sizes": np.array(_sizes(builder)),
        "source": np.array(" ".join(source.split())),
    }
    if factors := _factors(info.features):
        names = [feature.removeprefix("label_") for feature in factors]
        decoded["factor_names"] = np.array(names)
    try:
        for part, read in parts.items():
            decoded |= _read_part(builder, part, read)
    except Exception as error:
        raise RuntimeError(
            f"{info.full_name} in {builder.data_dir} cannot be read "
            f"({type(error).__name__}: {error}). Prepare it anew, in an empty folder. "
            + _how_to_prepare(name)
        ) from error
    return decoded


def _choose_parts(info: Any) -> tuple[dict[str, str], str]:
    """What to read as train and test, in TFDS's words, and a phrase about it."""
    if "train" not in info.splits:
        raise ValueError(
            f"{info.full_name}: expected a split 'train', came {list(info.splits)}. "
            "Choose another set."
        )
    for test in ("test", "validation"):
        if test in info.splits:
            return {"train": "train", "test": test}, f"splits train and {test}"
    count = info.splits["train"].num_examples
    cut = count - -(-count // 10)
    note = "split train with its last tenth held out as test"
    return {"train": f"train[:{cut}]", "test": f"train[{cut}:]"}, note


def _check_memory(info: Any, parts: Mapping[str, str]) -> None:
    count = sum(info.splits[read].num_examples for read in parts.values())
    need = 5 * count * np.prod(info.features["image"].shape)  # uint8 and float32
    have = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if need > have:
        raise MemoryError(
            f"{info.full_name}: expected arrays that fit into the {have / 1e9:.1f} GB "
            f"of this machine, came {need / 1e9:.1f} GB. Read a part of it by tfds."
            "builder(...).as_data_source('train[:10%]'), or choose another set."
        )


def _read_part(builder: Any, part: str, read: str) -> dict[str, np.ndarray]:
    features = builder.info.features
    shape = features["image"].shape
    examples = builder.as_data_source(read)
    images = np.empty((len(examples), *shape), np.uint8)
    columns = [*_labels(features), *_factors(features)]
    numbers = np.empty((len(examples), len(columns)), np.int32)
    for i, example in enumerate(examples):
        if example["image"].shape != shape:  # assignment would broadcast silently
            came = example["image"].shape
            raise ValueError(f"image {i} of {read}: expected {shape}, came {came}")
        images[i] = example["image"]
        numbers[i] = [example[column] for column in columns]
    found: dict[str, np.ndarray] = {f"{part}_images": images}
    if _labels(features):
        found[f"{part}_labels"], numbers = numbers[:, 0], numbers[:, 1:]
    return found | {f"{part}_factors": numbers} if _factors(features) else found


def _labels(features: Any) -> list[str]:
    return [name for name in features if name == "label" and _is_class(features[name])]


def _factors(features: Any) -> list[str]:
    """The features that say how an image was made, as in dsprites and shapes3d."""
    named = sorted(name for name in features if name.startswith("label_"))
    return [name for name in named if _is_class(features[name])]


def _is_class(feature: Any) -> bool:
    return feature.shape == () and np.issubdtype(feature.np_dtype, np.integer)


def _cache_folder() -> Path:
    if folder := os.environ.get("VAE_TEACH_CACHE"):
        return Path(folder).expanduser()
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home) / "vae_teach"


def _read_cache(path: Path, sizes: str) -> dict[str, np.ndarray] | None:
    try:
        with path.open("rb") as stream, np.load(stream) as file:
            cached = dict(file)  # reading all of a zip member checks its CRC
        ours = cached["format"].tolist() == [_FORMAT, *_names(cached)]
        fresh = sizes in ("", cached["sizes"].item())
    except Exception:  # whatever is wrong with it, decoding again is the cure
        return None
    return cached if ours and fresh else None


def _names(arrays: Mapping[str, Any]) -> list[str]:
    return sorted(arrays.keys() - {"format"})


def _write_cache(path: Path, decoded: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError):  # no room, or no right to write: no cache
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            partial = Path(folder) / path.name
            # The names too, since damage to a zip's directory hides whole members.
            np.savez(partial, format=[_FORMAT, *_names(decoded)], **decoded)
            os.replace(partial, path)  # a reader sees a whole file, old or new
