import hashlib
import importlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vae_teach import _tfds, data, sprites

ROOT = Path(__file__).parents[1]
# Of the bytes 0 to 255 as stored; LICENSE-mnist.md states the same.
SHA256 = {
    "train_images": "f1acb4520c1add62299325e3210de8961b8cb21c24baedb3fc0897fc318960c1",
    "train_labels": "e8c46053e50a352b4111327bf3f19fffe309f16deb083ca53391a08137883c8c",
    "test_images": "c750ffc19520a4e9b8849fc1acb2bcb332d99c7889f281f287d57a1b46649f61",
    "test_labels": "5ccf53cc802f3f8386dd39c360b4655b0d4093fb8b2853973605cec27c99d551",
}
SIZE = (4, 5, 1)


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """No test reads or writes the reader's own folders."""
    monkeypatch.delenv("VAE_TEACH_DATA", raising=False)
    monkeypatch.setenv("VAE_TEACH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))


def as_bytes(images):
    return np.rint(images * 255).astype(np.uint8)


# The embedded digits


def test_embedded_splits_hold_every_digit_equally_often():
    digits = data.load()
    assert digits.name == "mnist12k"
    for split, per_class in ((digits.train, 1000), (digits.test, 200)):
        assert split.images.shape == (10 * per_class, 28, 28, 1)
        assert split.images.dtype == np.float32
        assert (split.images.min(), split.images.max()) == (0, 1)
        assert split.labels.dtype == np.int32
        assert np.bincount(split.labels).tolist() == [per_class] * 10


def test_embedded_arrays_have_the_stated_checksums():
    digits = data.load("mnist12k")
    licence = (ROOT / "vae_teach/datasets/LICENSE-mnist.md").read_text()
    for part in ("train", "test"):
        split = getattr(digits, part)
        labels = split.labels.astype(np.uint8)
        for kind, array in (("images", as_bytes(split.images)), ("labels", labels)):
            expected = SHA256[f"{part}_{kind}"]
            assert hashlib.sha256(array.tobytes()).hexdigest() == expected
            assert expected in licence


def test_embedded_order_mixes_the_digits():
    labels = data.load().train.labels.reshape(-1, 100)
    assert min(len(np.unique(batch)) for batch in labels) == 10


def test_each_load_gives_fresh_arrays():
    data.load().train.images[:] = -1
    assert data.load().train.images.min() == 0


def test_embedded_source_names_authors_licence_and_script():
    source = data.load().source
    for part in ("LeCun", "Cortes", "Burges", "CC BY-SA 3.0", "tools/make_mnist12k.py"):
        assert part in source
    assert "\n" not in source


# The embedded sprites


@pytest.fixture(scope="module")
def drawn():
    return data.load("sprites")


def test_sprites_are_every_combination_once(drawn):
    assert drawn.name == "sprites"
    assert drawn.factor_names == tuple(sprites.SIZES)
    sizes = (len(drawn.train.images), len(drawn.test.images))
    assert sizes == (6912, 768)
    rows = np.concatenate([drawn.train.factors, drawn.test.factors])
    assert len(np.unique(rows, axis=0)) == len(rows)
    counts = [len(np.unique(column)) for column in rows.T]
    assert counts == [3, 4, 10, 8, 8]
    assert np.prod(counts) == len(rows)


def test_sprites_show_their_factors_and_their_labels_are_shapes(drawn):
    for split in (drawn.train, drawn.test):
        assert split.images.dtype == np.float32
        assert split.factors.dtype == split.labels.dtype == np.int32
        np.testing.assert_array_equal(split.labels, split.factors[:, 0])
        some = slice(None, None, 97)
        again = np.asarray(sprites.render(split.factors[some]))
        np.testing.assert_array_equal(split.images[some], again)


def test_no_sprite_of_the_test_split_is_one_of_train(drawn):
    both = np.concatenate([drawn.train.images, drawn.test.images])
    assert len({image.tobytes() for image in both}) == len(both)


def test_the_tenth_held_out_is_random(drawn):
    # A share of 768 drawn without replacement from 7680: mean 76.8, sd 7.9 for one of
    # 10 rotations, and likewise for the others.
    for column in drawn.test.factors.T:
        found = np.unique(column, return_counts=True)[1]
        p = 1 / len(found)
        sd = np.sqrt(768 * p * (1 - p) * (1 - 0.1))
        assert abs(found - 768 * p).max() < 4 * sd
        assert found.std() > 0


def test_sprites_are_the_same_at_every_load_and_fresh(drawn):
    again = data.load("sprites")
    np.testing.assert_array_equal(again.test.images, drawn.test.images)
    np.testing.assert_array_equal(again.train.factors, drawn.train.factors)
    again.train.images[:] = again.train.factors[:] = -1
    assert drawn.train.factors.min() == 0
    # The order that results are reported for: another one is another data set.
    order = hashlib.sha256(drawn.test.factors.tobytes()).hexdigest()
    assert order.startswith("1d2b7bfc821138f0")


def test_sprites_source_is_one_line_about_where_they_come_from(drawn):
    for part in ("vae_teach.sprites", "Matthey et al. 2017", "held out as test"):
        assert part in drawn.source
    assert "\n" not in drawn.source


def test_vae_teach_data_leaves_the_sprites_alone(monkeypatch, drawn):
    monkeypatch.setenv("VAE_TEACH_DATA", "tfds")
    again = data.load("sprites")
    np.testing.assert_array_equal(again.test.factors, drawn.test.factors)


# Full MNIST


@pytest.fixture(scope="module")
def mnist(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = os.environ.get("TFDS_DATA_DIR", "")
        if not Path(folder, "mnist").is_dir() or not folder:
            pytest.skip("TFDS_DATA_DIR names no folder with a prepared mnist")
        patch.setenv("VAE_TEACH_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("VAE_TEACH_DATA", "tfds")
        yield data.load("mnist12k")


def test_full_mnist_has_its_known_sizes_and_mean(mnist):
    assert mnist.name == "mnist"
    assert mnist.train.images.shape == (60_000, 28, 28, 1)
    assert mnist.test.images.shape == (10_000, 28, 28, 1)
    assert abs(mnist.train.images.mean(dtype=float) - 0.1307) < 1e-4
    # As published with the set: how often 0, 1, ... 9 occur.
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(mnist.train.labels).tolist() == counts
    assert "mnist/3.0.1" in mnist.source
    assert "LeCun, Yann" in mnist.source


def rows(images):
    return {image.tobytes() for image in as_bytes(images)}


def test_embedded_digits_come_from_the_right_split(mnist):
    digits = data.load()
    assert rows(digits.train.images) <= rows(mnist.train.images)
    assert rows(digits.test.images) <= rows(mnist.test.images)
    assert not rows(digits.test.images) & rows(mnist.train.images)


def test_script_remakes_the_embedded_digits(mnist):
    path = ROOT / "tools" / "make_mnist12k.py"
    spec = importlib.util.spec_from_file_location("make_mnist12k", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for part, per_class in script.PER_CLASS.items():
        full, kept = getattr(mnist, part), getattr(data.load(), part)
        chosen = script.choose(full.labels, per_class)
        np.testing.assert_array_equal(full.images[chosen], kept.images)
        np.testing.assert_array_equal(full.labels[chosen], kept.labels)


@pytest.mark.parametrize("folder", [None, "nothing-here"])
def test_script_says_where_it_looked(tmp_path, folder):
    env = {k: v for k, v in os.environ.items() if k != "TFDS_DATA_DIR"}
    script = [sys.executable, "tools/make_mnist12k.py", str(tmp_path / "out.npz")]
    env |= {"TFDS_DATA_DIR": str(tmp_path / folder)} if folder else {}
    done = subprocess.run(script, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert "TFDS_DATA_DIR" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("*.npz"))


# Small sets, prepared by TFDS itself without TensorFlow


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    file.seek(0)
    return file


def pictures(count, top=255):
    """Random images in which `top` occurs."""
    images = np.random.RandomState(count).randint(0, top + 1, (count, *SIZE))
    images[:, 0, 0] = top
    return images.astype(np.uint8)


def examples(images):
    for i, image in enumerate(images):
        yield i, {"image": png(image[..., 0]), "label": i % 3}


def make_class(name, splits, features=None, registered=False):
    """A TFDS builder; `splits` maps names to arrays or to functions of examples."""
    tfds = importlib.import_module("tensorflow_datasets")
    kinds = {"image": tfds.features.Image(shape=SIZE), "label": np.int64}
    if features is not None:
        kinds = features(tfds.features)

    def _info(self):
        features = tfds.features.FeaturesDict(kinds)
        cite = "@article{someone,\n  title={Small}\n}"
        return tfds.core.DatasetInfo(builder=self, features=features, citation=cite)

    def _split_generators(self, manager):
        return {name: self._generate_examples(name) for name in splits}

    def _generate_examples(self, split):
        rows = splits[split]
        for i, example in rows() if callable(rows) else examples(rows):
            yield i, {key: example[key] for key in kinds}

    parts = (_info, _split_generators, _generate_examples)
    body = {part.__name__: part for part in parts}
    body |= {"VERSION": tfds.core.Version("1.2.3"), "__module__": __name__}
    base = tfds.core.GeneratorBasedBuilder
    return type(name, (base,), body, skip_registration=not registered)


def prepare(splits, features=None):
    """Prepares the set ``small`` where `load` looks for it."""
    builder = make_class("Small", splits, features)
    folder = os.environ["TFDS_DATA_DIR"]
    builder(data_dir=folder, file_format="array_record").download_and_prepare()
    return Path(folder, "small", "1.2.3")


def by_content(images):
    """TFDS shuffles what it prepares, so compare as sorted bytes."""
    return sorted(image.tobytes() for image in images)


def test_set_with_a_test_split():
    train, test = pictures(12), pictures(7)
    prepare({"train": train, "test": test, "validation": pictures(3)})
    small = data.load("small")
    assert small.name == "small"
    assert small.train.images.shape == (12, *SIZE)
    assert small.train.images.dtype == np.float32
    assert by_content(as_bytes(small.train.images)) == by_content(train)
    assert by_content(as_bytes(small.test.images)) == by_content(test)
    assert small.source == (
        "TensorFlow Datasets small/1.2.3, splits train and test. "
        "@article{someone, title={Small} }"
    )


def test_labels_stay_with_their_images():
    train = pictures(12)
    prepare({"train": train, "test": pictures(7)})
    split = data.load("small").train
    label_of = {image.tobytes(): i % 3 for i, image in enumerate(train)}
    expected = [label_of[image.tobytes()] for image in as_bytes(split.images)]
    assert split.labels.tolist() == expected
    assert split.labels.dtype == np.int32


def test_validation_stands_in_for_a_missing_test_split():
    held_out = pictures(7)
    prepare({"train": pictures(12), "validation": held_out})
    small = data.load("small")
    assert by_content(as_bytes(small.test.images)) == by_content(held_out)
    assert "splits train and validation" in small.source


@pytest.mark.parametrize(("count", "kept"), [(40, 36), (41, 36), (9, 8)])
def test_last_tenth_of_train_stands_in_for_all_other_splits(count, kept):
    prepare({"train": pictures(count)})
    small = data.load("small")
    assert len(small.train.images) == kept
    assert len(small.train.labels) == kept
    both = np.concatenate([small.train.images, small.test.images])
    assert by_content(as_bytes(both)) == by_content(pictures(count))
    assert "its last tenth held out as test" in small.source


def no_label(kinds):
    return {}


def word_label(kinds):
    return {"label": kinds.Text()}


def many_labels(kinds):
    return {"label": kinds.Sequence(np.int64)}


@pytest.mark.parametrize(
    ("feature", "label"), [(no_label, 0), (word_label, "one"), (many_labels, [1, 2])]
)
def test_labels_are_none_without_a_class_index(feature, label):
    def rows():
        for i, example in examples(pictures(4)):
            yield i, example | {"label": label}

    prepare(
        {"train": rows, "test": rows},
        lambda kinds: {"image": kinds.Image(shape=SIZE)} | feature(kinds),
    )
    small = data.load("small")
    assert small.train.labels is None
    assert small.test.labels is None


def factored(kinds):
    """As in dsprites, which has each factor as a class and as a number, too."""
    return {
        "image": kinds.Image(shape=SIZE),
        "label_x": kinds.ClassLabel(num_classes=7),
        "label_shape": kinds.ClassLabel(names=["square", "heart"]),
        "label_text": kinds.Text(),
        "value_x": np.float32,
    }


def prepare_factored(extra=None):
    def rows(images):
        for i, example in examples(images):
            yield (
                i,
                example
                | {"label_x": i % 7, "label_shape": i % 2, "label_text": "one"}
                | {"value_x": i / 7},
            )

    splits = {"train": lambda: rows(pictures(12)), "test": lambda: rows(pictures(5))}
    prepare(splits, lambda kinds: factored(kinds) | (extra or {}))


def check_factors(small):
    assert small.factor_names == ("shape", "x")
    for split, count in ((small.train, 12), (small.test, 5)):
        known = {im.tobytes(): [i % 2, i % 7] for i, im in enumerate(pictures(count))}
        expected = [known[image.tobytes()] for image in as_bytes(split.images)]
        assert split.factors.tolist() == expected
        assert split.factors.dtype == np.int32


def test_class_features_of_tfds_are_factors_in_the_order_of_names(decodes):
    prepare_factored()
    small = data.load("small")
    check_factors(small)
    assert small.train.labels is None
    check_factors(data.load("small"))  # from the cache
    assert decodes == ["small"]


def test_a_set_has_both_labels_and_factors():
    prepare_factored({"label": np.int64})
    small = data.load("small")
    check_factors(small)
    label_of = {im.tobytes(): i % 3 for i, im in enumerate(pictures(12))}
    expected = [label_of[image.tobytes()] for image in as_bytes(small.train.images)]
    assert small.train.labels.tolist() == expected


def test_factors_are_none_where_there_are_none():
    prepare({"train": pictures(12), "test": pictures(7)})
    for name in ("small", "mnist12k"):
        loaded = data.load(name)
        assert loaded.factor_names == ()
        assert loaded.train.factors is loaded.test.factors is None


@pytest.mark.parametrize("top", [1, 2, 255])
def test_only_images_of_zeros_and_ones_keep_their_values(top):
    prepare({"train": pictures(12, top), "test": pictures(7, top)})
    small = data.load("small")
    expected = 1.0 if top == 1 else np.float32(top) / np.float32(255)
    assert small.train.images.max() == expected
    assert small.test.images.max() == expected


def test_colour_images():
    colour = pictures(6).repeat(3, axis=-1)
    colour[..., 1] //= 2

    def rows():
        for i, image in enumerate(colour):
            yield i, {"image": png(image)}

    prepare(
        {"train": rows, "test": rows},
        lambda kinds: {"image": kinds.Image(shape=(4, 5, 3))},
    )
    images = data.load("small").train.images
    assert by_content(as_bytes(images)) == by_content(colour)


def run_python(code, **env):
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | env,
        capture_output=True,
        text=True,
    )


def test_reading_needs_no_tensorflow_and_prints_nothing():
    prepare({"train": pictures(12), "test": pictures(7)})
    done = run_python(
        "import sys; sys.modules['cv2'] = None\n"  # whose absence TFDS warns about
        "from vae_teach import data; data.load('small')\n"
        "assert 'tensorflow' not in sys.modules"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_embedded_sets_need_no_tfds():
    done = run_python(
        "import sys; sys.modules['tensorflow_datasets'] = None\n"
        "sys.modules['array_record'] = sys.modules['absl'] = None\n"
        "from vae_teach import data\n"
        "data.load('mnist12k'); data.load('sprites')"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# A set that is not there yet


def test_a_missing_set_is_prepared(tmp_path):
    splits = {"train": pictures(12), "test": pictures(7)}
    make_class("PreparedOnDemand", splits, registered=True)
    assert len(data.load("prepared_on_demand").train.images) == 12
    assert (tmp_path / "tfds" / "prepared_on_demand").is_dir()


def test_error_when_preparing_fails(tmp_path):
    def no_network():
        raise ConnectionError("no route to host")

    make_class("OutOfReach", {"train": no_network}, registered=True)
    with pytest.raises(RuntimeError, match="preparing it failed") as caught:
        data.load("out_of_reach")
    message = str(caught.value)
    expected = [
        f"out_of_reach/1.2.3 is not in {tmp_path}",
        "ConnectionError",
        "no route to host",
        'pip install "vae_teach[tfds]" tensorflow',
        "data.load('out_of_reach')",
        "TFDS_DATA_DIR=FOLDER",
        "copy FOLDER to this machine",
    ]
    assert [part for part in expected if part not in message] == []
    assert caught.value.__cause__ is not None


# Errors


def test_error_names_close_matches():
    with pytest.raises(ValueError, match="unknown data set 'fashion_mnits'") as caught:
        data.load("fashion_mnits")
    assert "Close matches: fashion_mnist" in str(caught.value)
    assert "expected an embedded one (mnist12k, sprites)" in str(caught.value)
    assert "list_builders(with_community_datasets=False)" in str(caught.value)


def test_error_names_a_close_embedded_set():
    with pytest.raises(ValueError, match=r"Close matches: .*mnist12k"):
        data.load("mnist12")


@pytest.mark.parametrize("name", ["", "a b", "mnist/no_such", "mnist:9.9.9"])
def test_error_for_a_name_tfds_cannot_open(name):
    with pytest.raises(ValueError, match=f"TFDS cannot open '{name}'.* Expected NAME"):
        data.load(name)


def test_error_for_another_file_format():
    folder = prepare({"train": pictures(12), "test": pictures(7)})
    info = folder / "dataset_info.json"
    found = json.loads(info.read_text())
    info.write_text(json.dumps(found | {"fileFormat": "tfrecord"}))
    with pytest.raises(ValueError, match="TFDS_DATA_DIR") as caught:
        data.load("small")
    assert "tfrecord" in str(caught.value).lower()
    assert "empty folder" in str(caught.value)


@pytest.mark.parametrize(
    "missing", ["tensorflow_datasets", "array_record.python.array_record_data_source"]
)
def test_error_when_a_package_is_missing(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=r'pip install "vae_teach\[tfds\]"') as caught:
        data.load("mnist")
    assert missing in str(caught.value)
    assert "'mnist' is not embedded (mnist12k, sprites)" in str(caught.value)


def test_error_when_tfds_is_broken(tmp_path):
    """It swallows what fails at its import, and is then an empty module."""
    (tmp_path / "tensorflow_metadata.py").write_text("raise RuntimeError('too old')")
    code = "from vae_teach import data; data.load('mnist')"
    done = run_python(code, PYTHONPATH=str(tmp_path))
    assert "ImportError: 'mnist' is not embedded (mnist12k, sprites)" in done.stderr
    assert "(RuntimeError: too old): pip install" in done.stderr


def text(kinds):
    return {"words": kinds.Text()}


def any_size(kinds):
    return {"image": kinds.Image(shape=(None, None, 3))}


def sixteen_bits(kinds):
    return {"image": kinds.Image(shape=SIZE, dtype=np.uint16)}


def tensor(kinds):
    return {"image": kinds.Tensor(shape=SIZE, dtype=np.float32)}


@pytest.mark.parametrize(
    ("features", "came"),
    [
        (text, "words"),
        (any_size, r"shape \(None, None, 3\) and type uint8"),
        (sixteen_bits, r"shape \(4, 5, 1\) and type uint16"),
        (tensor, "Tensor"),
    ],
)
def test_error_for_a_set_without_images_of_one_size(features, came):
    rows = {"words": "one", "image": png(pictures(1).repeat(3, -1)[0])}
    if features is sixteen_bits:
        rows["image"] = png(np.zeros(SIZE[:2], np.uint16))
    if features is tensor:
        rows["image"] = np.zeros(SIZE, np.float32)
    prepare({"train": lambda: [(0, rows)]}, features)
    with pytest.raises(ValueError, match=f"one fixed shape and type uint8, .*{came}"):
        data.load("small")


def test_error_without_a_train_split():
    prepare({"test": pictures(7), "extra": pictures(3)})
    with pytest.raises(ValueError, match="expected a split 'train', came") as caught:
        data.load("small")
    assert "'extra'" in str(caught.value)


def test_error_for_an_image_of_another_shape():
    content = [
        *examples(pictures(4)),
        (9, {"image": png(np.zeros((1, 5), np.uint8)), "label": 0}),
    ]
    prepare({"train": lambda: content, "test": pictures(7)})
    with pytest.raises(RuntimeError, match=r"expected \(4, 5, 1\), came \(1, 5, 1\)"):
        data.load("small")


def test_error_for_a_damaged_set():
    folder = prepare({"train": pictures(12), "test": pictures(7)})
    (file,) = folder.glob("*train*")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(RuntimeError, match=r"cannot be read.* Prepare it anew"):
        data.load("small")


def test_error_for_a_set_larger_than_memory(monkeypatch):
    prepare({"train": pictures(12), "test": pictures(7)})
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 1, "SC_PAGE_SIZE": 1899}.get)
    with pytest.raises(MemoryError, match=r"as_data_source\('train\[:10%\]'\)"):
        data.load("small")
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 1, "SC_PAGE_SIZE": 1900}.get)
    data.load("small")  # 19 images of 20 pixels of 5 bytes


def test_error_for_another_value_of_vae_teach_data(monkeypatch):
    monkeypatch.setenv("VAE_TEACH_DATA", "full")
    with pytest.raises(ValueError, match="'full': expected 'tfds'"):
        data.load()


def test_vae_teach_data_turns_the_digits_into_full_mnist(monkeypatch):
    def read(name, embedded):
        found = {"train_images": pictures(12), "test_images": pictures(7)}
        return found | {"source": np.array(name)}

    monkeypatch.setattr(_tfds, "arrays", read)
    monkeypatch.setenv("VAE_TEACH_DATA", "tfds")
    digits = data.load()
    assert (digits.name, digits.source) == ("mnist", "mnist")
    assert len(digits.train.images) == 12


def test_vae_teach_data_replaces_only_the_digits(monkeypatch):
    prepare({"train": pictures(12), "test": pictures(7)})
    monkeypatch.setenv("VAE_TEACH_DATA", "tfds")
    assert data.load("small").name == "small"
    monkeypatch.setenv("VAE_TEACH_DATA", "")
    assert data.load().name == "mnist12k"


# The cache


@pytest.fixture
def cache(tmp_path):
    prepare({"train": pictures(12), "test": pictures(7)})
    data.load("small")
    (file,) = (tmp_path / "cache").iterdir()
    assert file.name == "small-1.2.3.npz"
    return file


@pytest.fixture
def decodes(monkeypatch):
    """Lists the sets that are decoded from now on."""
    seen = []
    decode = _tfds._decode

    def noted(builder, name):
        seen.append(name)
        return decode(builder, name)

    monkeypatch.setattr(_tfds, "_decode", noted)
    return seen


def check_content():
    small = data.load("small")
    assert by_content(as_bytes(small.train.images)) == by_content(pictures(12))
    assert by_content(as_bytes(small.test.images)) == by_content(pictures(7))
    assert len(small.train.labels) == 12


def test_second_load_reads_the_cache(cache, decodes):
    check_content()
    assert decodes == []


def test_cache_outlives_the_prepared_set(cache, decodes, tmp_path):
    make_class("Kept", {"train": pictures(12), "test": pictures(7)}, registered=True)
    data.load("kept")
    (tmp_path / "tfds" / "kept").rename(tmp_path / "elsewhere")
    assert len(data.load("kept").train.images) == 12
    assert decodes == ["kept"]


def truncate(file):
    file.write_bytes(file.read_bytes()[:-100])


def flip_in_the_middle(file):
    content = bytearray(file.read_bytes())
    at = content.index(pictures(12)[3].tobytes())
    content[at + 7] ^= 1
    file.write_bytes(content)


def foreign_npz(file):
    np.savez(file, x=np.zeros(3))


def foreign_npy(file):
    with file.open("wb") as stream:
        np.save(stream, np.zeros(3))


def older_format(file):
    with np.load(file) as stored:
        arrays = dict(stored)
    arrays["format"][0] = "vae_teach.data 1"
    np.savez(file, **arrays)


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        flip_in_the_middle,
        foreign_npz,
        foreign_npy,
        older_format,
        lambda file: file.write_bytes(b""),
        lambda file: file.write_text("a web page"),
    ],
)
def test_damaged_or_foreign_cache_is_rebuilt(cache, decodes, damage):
    sound = cache.read_bytes()
    damage(cache)
    assert cache.read_bytes() != sound
    check_content()
    assert decodes == ["small"]
    check_content()
    assert decodes == ["small"]


def test_no_flipped_byte_gives_wrong_arrays(cache):
    content = cache.read_bytes()
    sound = _tfds._read_cache(cache, "")
    noticed = []
    for i in range(0, len(content), 5):  # every byte would take five times as long
        cache.write_bytes(content[:i] + bytes([content[i] ^ 0xFF]) + content[i + 1 :])
        found = _tfds._read_cache(cache, "")
        noticed.append(found is None)
        if found is not None:
            assert found.keys() == sound.keys()
            for key, array in sound.items():
                np.testing.assert_array_equal(found[key], array)
    assert np.mean(noticed) > 0.5


def test_cache_of_another_preparation_is_rebuilt(cache, decodes, tmp_path):
    (tmp_path / "tfds" / "small").rename(tmp_path / "older")
    prepare({"train": pictures(13), "test": pictures(7)})
    assert len(data.load("small").train.images) == 13
    assert decodes == ["small"]


def test_unwritable_cache_is_no_error(tmp_path, monkeypatch, decodes):
    prepare({"train": pictures(12), "test": pictures(7)})
    (tmp_path / "file").touch()
    monkeypatch.setenv("VAE_TEACH_CACHE", str(tmp_path / "file" / "cache"))
    check_content()
    check_content()
    assert decodes == ["small", "small"]


def test_interrupted_write_leaves_no_file(tmp_path, monkeypatch, decodes):
    prepare({"train": pictures(12), "test": pictures(7)})

    def full_disk(*_):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full_disk)
        check_content()
    assert list((tmp_path / "cache").iterdir()) == []


def test_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("VAE_TEACH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert _tfds._cache_folder() == tmp_path / "xdg" / "vae_teach"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert _tfds._cache_folder() == tmp_path / ".cache" / "vae_teach"
    monkeypatch.setenv("VAE_TEACH_CACHE", "~/mine")
    assert _tfds._cache_folder() == tmp_path / "mine"
