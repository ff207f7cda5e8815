"""Damaged and hostile model files: a short error that names the file and the problem, fast, in little memory.

Nothing in a model file ever runs: cases with code would create the file `TRIPWIRE`.
"""

from __future__ import annotations

import copy
import io
import json
import os
import random
import resource
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinygen.errors import ModelError, UnsupportedLayerError
from tinygen.frontend import load
from tinygen.heavy import import_keras

SAVING = "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
pytestmark = [pytest.mark.tensorflow, pytest.mark.filterwarnings(SAVING)]

SECONDS, GIGABYTES = 10, 2

Json = dict[str, Any]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A small functional model, as suffix -> file contents."""
    keras = import_keras()
    layers = keras.layers
    folder = tmp_path_factory.mktemp("healthy")
    x = keras.Input((8, 8, 2), name="image")
    y = layers.Conv2D(4, 3, padding="same", activation="relu", name="conv")(x)
    y = layers.Add(name="add")([y, layers.BatchNormalization(name="norm")(y)])
    y = layers.Dense(3, activation="softmax", name="dense")(layers.Flatten(name="flat")(y))
    model = keras.Model(x, y, name="healthy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for suffix in (".keras", ".h5"):
            model.save(folder / f"m{suffix}")
    return {suffix: (folder / f"m{suffix}").read_bytes() for suffix in (".keras", ".h5")}


def refused(path: Path, *words: str) -> ModelError:
    """Load the file, which must fail quickly with a short message that names it and holds the words."""
    started = time.monotonic()
    with pytest.raises(ModelError) as caught:
        load(path)
    return judged(caught.value, path, time.monotonic() - started, *words)


def judged(error: ModelError, path: Path, seconds: float, *words: str) -> ModelError:
    """The error, which must be as promised."""
    assert seconds < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < GIGABYTES << 20
    text = str(error)
    assert 1 <= len(text.splitlines()) <= 5, text
    assert len(text) < 600, text
    assert text.isprintable() or set(text) - {"\n"}, text
    if not isinstance(error, UnsupportedLayerError):
        assert str(path) in text
    for word in words:
        assert word in text, text
    return error


def members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_zip(path: Path, contents: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return path


def with_config(healthy: dict[str, bytes], folder: Path, change: Callable[[Json], Any]) -> Path:
    """The healthy .keras file with a changed config (change returns a new one, or edits in place)."""
    contents = members(healthy[".keras"])
    config = json.loads(contents["config.json"])
    changed = change(config)
    contents["config.json"] = json.dumps(config if changed is None else changed).encode()
    return write_zip(folder / "hostile.keras", contents)


def layer(config: Json, name: str) -> Json:
    return next(entry for entry in config["config"]["layers"] if entry["name"] == name)


def test_the_healthy_files_load(healthy: dict[str, bytes], tmp_path: Path) -> None:
    for suffix, data in healthy.items():
        (tmp_path / f"m{suffix}").write_bytes(data)
        assert len(load(tmp_path / f"m{suffix}").graph.nodes) > 4


# ---- not a model


def test_what_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    refused(path, "does not exist")
    path.write_bytes(b"")
    refused(path, "is empty")
    for junk in (b"hello", b"\x00" * 1000, bytes(range(256)) * 10):
        path.write_bytes(junk)
        refused(path, "is not a model")
    refused(tmp_path, "is a folder")
    (tmp_path / "models.keras").write_bytes(b"x")
    refused(tmp_path / "modell.keras", "did you mean 'model.keras'?")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    path.write_bytes(b"x")
    path.chmod(0)
    refused(path, "cannot be read")


# ---- code in the file


def lambda_entry(folder: Path) -> Json:
    """A Lambda layer as Keras saves it, with marshalled code that would create TRIPWIRE."""
    import base64
    import marshal

    code = compile(f"open({str(folder / 'TRIPWIRE')!r}, 'w')", "x", "eval")
    value = {"code": base64.b64encode(marshal.dumps(code)).decode(), "defaults": None, "closure": None}
    return {
        "module": "keras.layers",
        "class_name": "Lambda",
        "config": {"name": "evil", "function": {"class_name": "__lambda__", "config": {"value": value}}},
        "registered_name": None,
        "name": "evil",
    }


def as_layer(entry: Json) -> Callable[[Json], None]:
    """Put the entry in the place of layer 'flat'."""

    def change(config: Json) -> None:
        target = layer(config, "flat")
        calls = target["inbound_nodes"]
        target.clear()
        target.update(entry, inbound_nodes=calls)

    return change


def as_activation(entry: Any) -> Callable[[Json], None]:
    return lambda config: layer(config, "dense")["config"].update(activation=entry)


def test_lambda_is_refused_wherever_it_stands(healthy: dict[str, bytes], tmp_path: Path) -> None:
    evil = lambda_entry(tmp_path)
    wrapped = {
        "module": "keras.layers",
        "class_name": "TimeDistributed",
        "config": {"name": "t", "layer": evil},
    }
    nested = {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"name": "s", "layers": [evil]},
        "name": "s",
    }
    for change in (as_layer(evil), as_layer(wrapped), as_layer(nested), as_activation(evil)):
        error = refused(with_config(healthy, tmp_path, change), "'evil'", "(Lambda)", "never runs")
        assert isinstance(error, UnsupportedLayerError)
    refused(
        with_config(healthy, tmp_path, as_activation(evil["config"]["function"])), "'dense'", "__lambda__"
    )
    assert not (tmp_path / "TRIPWIRE").exists()


@pytest.mark.parametrize(
    "entry",
    [
        {"module": "os", "class_name": "system", "config": {"name": "evil"}, "registered_name": None},
        {
            "module": "keras.layers",
            "class_name": "Dense",
            "config": {"name": "evil"},
            "registered_name": "my>Dense",
        },
        {
            "module": "mine",
            "class_name": "Dense",
            "config": {"name": "evil"},
            "registered_name": "mine>Dense",
        },
        {"module": "keras.src.utils.file_utils", "class_name": "get_file", "config": {"name": "evil"}},
        {"module": "keras.utils", "class_name": "get_file", "config": {"name": "evil"}},
        {
            "module": "keras.layers",
            "class_name": "TFSMLayer",
            "config": {"name": "evil", "filepath": "/tmp/x"},
        },
        {"module": "keras.layers", "class_name": "TorchModuleWrapper", "config": {"name": "evil"}},
        {"module": "keras.src.ops.numpy", "class_name": "Einsum", "config": {"name": "evil"}},
        {"module": "kerasevil", "class_name": "Dense", "config": {"name": "evil"}},
        {"module": ["keras"], "class_name": "Dense", "config": {"name": "evil"}},
    ],
)
def test_foreign_classes_are_refused(healthy: dict[str, bytes], tmp_path: Path, entry: Json) -> None:
    refused(with_config(healthy, tmp_path, as_layer({**entry, "name": "evil"})), "'evil'")


@pytest.mark.parametrize(
    "activation",
    [
        {"module": "builtins", "class_name": "function", "config": "eval", "registered_name": "mine>eval"},
        {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"},
        {
            "module": "keras.activations",
            "class_name": "function",
            "config": {"a": 1},
            "registered_name": None,
        },
        "mine>swish",
        "eval",
        {"class_name": "__typespec__", "spec_name": "x", "module": "tensorflow", "config": []},
        {"class_name": "__bytes__", "config": {"value": "x"}},
        ["relu"],
        17,
    ],
)
def test_foreign_functions_are_refused(healthy: dict[str, bytes], tmp_path: Path, activation: Any) -> None:
    refused(with_config(healthy, tmp_path, as_activation(activation)), "'dense'")


def test_custom_model_class_is_refused(healthy: dict[str, bytes], tmp_path: Path) -> None:
    def change(config: Json) -> None:
        config.update(module="mine.models", class_name="Net", registered_name="mine>Net")

    refused(with_config(healthy, tmp_path, change), "custom class 'Net' (mine.models)")


def test_training_options_of_a_file_are_never_looked_at(healthy: dict[str, bytes], tmp_path: Path) -> None:
    evil = lambda_entry(tmp_path)

    def change(config: Json) -> None:
        options = layer(config, "conv")["config"]
        options.update(kernel_initializer=evil, kernel_regularizer=evil, bias_constraint=evil, dtype=evil)
        config["compile_config"] = {"loss": evil, "optimizer": evil}
        layer(config, "conv")["build_config"] = {"input_shape": [None, 10**9, 10**9, 10**9]}

    assert load(with_config(healthy, tmp_path, change)).graph.nodes
    assert not (tmp_path / "TRIPWIRE").exists()


# ---- absurd contents


def option(name: str, **options: Any) -> Callable[[Json], None]:
    return lambda config: layer(config, name)["config"].update(options)


ABSURD: dict[str, tuple[Callable[[Json], Any], str]] = {
    "many units": (option("dense", units=10**9), "'units' of layer 'dense' (Dense) is 1000000000"),
    "units beyond int64": (option("dense", units=10**40), "'dense'"),
    "weights beyond any microcontroller": (option("conv", filters=1 << 20), "weights, allowed are"),
    "huge kernel": (option("conv", kernel_size=[1 << 20, 1 << 20]), "weights, allowed are"),
    "no units": (option("dense", units=0), "dense"),
    "negative units": (option("dense", units=-3), "dense"),
    "units of text": (option("dense", units="many"), "dense"),
    "units of None": (option("dense", units=None), "dense"),
    "stride 0": (option("conv", strides=[0, 0]), "conv"),
    "NaN": (option("norm", epsilon=float("nan")), "'epsilon' of layer 'norm' (BatchNormalization) is nan"),
    "unknown padding": (option("conv", padding="sideways"), "sideways"),
    "huge input": (option("image", batch_shape=[None, 1 << 20, 1 << 20, 2]), ""),
    "scalar input": (option("image", batch_shape=[None]), ""),
    "batch_shape of text": (option("image", batch_shape="8,8,2"), "image"),
    "other input depth": (option("image", batch_shape=[None, 8, 8, 3]), ""),
    "unknown class": (as_layer({"class_name": "Quux", "config": {"name": "q"}}), "(Quux)"),
    "no class": (as_layer({"module": "keras.layers", "config": {}, "name": "flat"}), "class name"),
    "no config": (as_layer({"class_name": "Flatten", "name": "flat"}), "Flatten has no config"),
    "config of a number": (lambda c: layer(c, "flat").update(config=3), "Flatten has no config"),
    "control characters": (lambda c: layer(c, "flat").update(name="\x1b[2J\n"), "printable"),
    "endless name": (lambda c: layer(c, "flat").update(name="x" * 10_000), "printable"),
    "no layers": (lambda c: c["config"].update(layers=[]), "lists no layers"),
    "layers of numbers": (lambda c: c["config"].update(layers=[1, 2]), "class name"),
    "layers of text": (lambda c: c["config"].update(layers="abc"), "lists no layers"),
    "no outputs": (lambda c: c["config"].pop("output_layers") and None, ""),
    "output that is nowhere": (lambda c: c["config"].update(output_layers=[["ghost", 0, 0]]), "ghost"),
    "loop": (lambda c: layer(c, "conv")["inbound_nodes"][0].update(layer(c, "flat")["inbound_nodes"][0]), ""),
    "no calls": (lambda c: layer(c, "conv").update(inbound_nodes=[]), ""),
    "calls of text": (lambda c: layer(c, "conv").update(inbound_nodes=["x"]), ""),
    "same name twice": (lambda c: c["config"]["layers"].append(copy.deepcopy(layer(c, "conv"))), ""),
    "a list": (lambda c: [c], "not that of a Keras model"),
    "a number": (lambda c: 5, "not that of a Keras model"),
    "an empty object": (lambda c: {}, "not that of a Keras model"),
    "3,000 layers": (lambda c: c["config"]["layers"].extend([layer(c, "flat")] * 3000), "more than 800"),
    "renamed weights": (lambda c: layer(c, "conv").update(class_name="DepthwiseConv2D"), ""),
    "quantized by Keras": (option("dense", dtype={"class_name": "X", "config": "int8"}), "'dense'"),
}  # fmt: skip


@pytest.mark.parametrize("case", ABSURD)
def test_absurd_config(healthy: dict[str, bytes], tmp_path: Path, case: str) -> None:
    change, word = ABSURD[case]
    refused(with_config(healthy, tmp_path, change), word)


def test_deep_json(healthy: dict[str, bytes], tmp_path: Path) -> None:
    contents = members(healthy[".keras"])
    contents["config.json"] = b'{"config": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    refused(write_zip(tmp_path / "deep.keras", contents), "JSON")
    contents["config.json"] = b'{"config": {"a": ' + b"9" * 10_000 + b"}}"
    refused(write_zip(tmp_path / "digits.keras", contents), "JSON")
    contents["config.json"] = b"\xff\xfe{"
    refused(write_zip(tmp_path / "text.keras", contents), "JSON")


def test_deeply_nested_layers(healthy: dict[str, bytes], tmp_path: Path) -> None:
    entry = {"module": "keras.layers", "class_name": "Dense", "config": {"name": "core", "units": 1}}
    for depth in range(150):
        config = {"name": f"t{depth}", "layer": entry}
        entry = {
            "module": "keras.layers",
            "class_name": "TimeDistributed",
            "config": config,
            "name": f"t{depth}",
        }
    refused(with_config(healthy, tmp_path, as_layer(entry)), "more than 16 deep")


# ---- archives


def test_archive_without_its_parts(healthy: dict[str, bytes], tmp_path: Path) -> None:
    contents = members(healthy[".keras"])
    for missing in ("config.json", "model.weights.h5"):
        rest = {name: data for name, data in contents.items() if name != missing}
        refused(write_zip(tmp_path / "part.keras", rest), f"no {missing}")


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5"])
def test_zip_bomb(healthy: dict[str, bytes], tmp_path: Path, name: str) -> None:
    contents = members(healthy[".keras"])
    contents[name] = b" " * (64 << 20)
    refused(
        write_zip(tmp_path / "bomb.keras", contents, zipfile.ZIP_DEFLATED),
        f"{name} unpacks",
        "67,108,864 bytes",
    )


def test_member_that_lies_about_its_size(healthy: dict[str, bytes], tmp_path: Path) -> None:
    path = write_zip(tmp_path / "liar.keras", members(healthy[".keras"]), zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    position = data.rindex(b"model.weights.h5") - 46 + 24  # uncompressed size in the central directory
    data[position : position + 4] = (1000).to_bytes(4, "little")
    path.write_bytes(data)
    refused(path)


def test_encrypted_archive(healthy: dict[str, bytes], tmp_path: Path) -> None:
    data = bytearray(healthy[".keras"])
    for marker, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        position = data.find(marker)
        while position >= 0:
            data[position + offset] |= 1
            position = data.find(marker, position + 4)
    path = tmp_path / "locked.keras"
    path.write_bytes(data)
    refused(path)


# ---- HDF5


def edit_h5(healthy: dict[str, bytes], path: Path, change: Callable[[Any], None]) -> Path:
    import h5py

    path.write_bytes(healthy[".h5"])
    with h5py.File(path, "a") as file:
        change(file)
    return path


def replace_kernel(make: Callable[[Any], None]) -> Callable[[Any], None]:
    """Remove the kernel of the dense layer, then let `make` put something in its group."""

    def change(file: Any) -> None:
        found: list[str] = []
        file["model_weights/dense"].visit(
            lambda name: found.append(name) if name.endswith("kernel") else None
        )
        group = file[f"model_weights/dense/{found[0]}"].parent
        del group["kernel"]
        make(group)

    return change


def external_storage(group: Any) -> None:
    group.create_dataset("kernel", (256, 3), "f4", external=[("/etc/passwd", 0, 256 * 3 * 4)])


def virtual(group: Any) -> None:
    import h5py

    layout = h5py.VirtualLayout((256, 3), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (256, 3))
    group.create_virtual_dataset("kernel", layout)


def objects(group: Any) -> None:
    import h5py

    group.create_dataset("kernel", (1,), h5py.string_dtype())


def linked(group: Any, name: str, kind: str, *arguments: str) -> None:
    import h5py

    group[name] = getattr(h5py, kind)(*arguments)


def cycle(file: Any) -> None:
    file["model_weights/dense/loop"] = file["model_weights"]
    del file.attrs["model_config"]


HDF5: dict[str, tuple[Callable[[Any], None], str]] = {
    "external link": (replace_kernel(lambda g: linked(g, "kernel", "ExternalLink", "/etc", "x")), "link"),
    "soft link": (replace_kernel(lambda g: linked(g, "kernel", "SoftLink", "/model_weights")), "link"),
    "external storage": (replace_kernel(external_storage), "another file"),
    "virtual": (replace_kernel(virtual), "another file"),
    "objects": (replace_kernel(objects), "object"),
    "huge": (replace_kernel(lambda g: g.create_dataset("kernel", (1 << 40,), "f4", chunks=(9,))), "4,398,0"),
    "other shape": (replace_kernel(lambda g: g.create_dataset("kernel", (3, 256), "f4")), "weights"),
    "missing": (replace_kernel(lambda g: None), ""),
    "group instead of data": (replace_kernel(lambda g: g.create_group("kernel")), ""),
    "no config": (lambda f: f.attrs.__delitem__("model_config"), "no model_config"),
    "no weights": (lambda f: f.__delitem__("model_weights"), "weights"),
    "config of numbers": (lambda f: f.attrs.__setitem__("model_config", np.arange(4)), ""),
    "config of bytes": (lambda f: f.attrs.__setitem__("model_config", np.void(b"\xff\xfe")), ""),
    "config no JSON": (lambda f: f.attrs.__setitem__("model_config", "{"), "JSON"),
    "cycle": (cycle, "no model_config"),
    "no layer names": (lambda f: f["model_weights"].attrs.__delitem__("layer_names"), "weights"),
}  # fmt: skip


@pytest.mark.parametrize("case", HDF5)
def test_hostile_h5(healthy: dict[str, bytes], tmp_path: Path, case: str) -> None:
    change, word = HDF5[case]
    refused(edit_h5(healthy, tmp_path / "hostile.h5", change), word)


def test_hostile_h5_inside_an_archive(healthy: dict[str, bytes], tmp_path: Path) -> None:
    import h5py

    contents = members(healthy[".keras"])
    weights = tmp_path / "w.h5"
    weights.write_bytes(contents["model.weights.h5"])
    with h5py.File(weights, "a") as file:
        file["layers/conv2d/vars"]["0_"] = h5py.ExternalLink("/etc/passwd", "x")
    contents["model.weights.h5"] = weights.read_bytes()
    refused(write_zip(tmp_path / "link.keras", contents), "link")
    contents["model.weights.h5"] = b"not HDF5"
    refused(write_zip(tmp_path / "link.keras", contents), "reading the HDF5 file")


# ---- random damage


def truncated(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(4, len(data))]


def flipped(data: bytes, rng: random.Random) -> bytes:
    result = bytearray(data)
    for _ in range(rng.choice((1, 8, 64))):
        result[rng.randrange(len(result))] ^= 1 << rng.randrange(8)
    return bytes(result)


def header_flipped(data: bytes, rng: random.Random) -> bytes:
    result = bytearray(data)
    for _ in range(4):
        result[rng.randrange(min(len(result), 4096))] = rng.randrange(256)
    return bytes(result)


def config_value(data: bytes, rng: random.Random) -> bytes:
    """One value anywhere in the config replaced."""
    contents = members(data)
    config = json.loads(contents["config.json"])
    places: list[tuple[Any, Any]] = []

    def visit(value: Any) -> None:
        for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
            places.append((value, key))
            visit(value[key])

    visit(config)
    holder, key = rng.choice(places)
    values: list[Any] = [
        None,
        -1,
        0,
        1e9,
        2**70,
        "",
        "relu",
        [],
        {},
        True,
        [1, 2, 3],
        {"class_name": "x"},
        ["conv", 0, 0],
    ]
    holder[key] = rng.choice(values)
    contents["config.json"] = json.dumps(config).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, member in contents.items():
            archive.writestr(name, member)
    return buffer.getvalue()


KINDS: dict[str, tuple[str, Callable[[bytes, random.Random], bytes]]] = {
    "truncated .keras": (".keras", truncated),
    "flipped .keras": (".keras", flipped),
    "config value": (".keras", config_value),
    "truncated .h5": (".h5", truncated),
    "flipped .h5": (".h5", flipped),
    "header of .h5": (".h5", header_flipped),
}


def damage_and_load(healthy: dict[str, bytes], path: Path, kind: str, seed: int) -> None:
    """A damaged file is refused as promised, or (damage in the weights, or harmless) still loads."""
    suffix, damage = KINDS[kind]
    path = path.with_suffix(suffix)
    path.write_bytes(damage(healthy[suffix], random.Random(seed)))
    started = time.monotonic()
    try:
        load(path)
    except ModelError as error:
        judged(error, path, time.monotonic() - started)


@pytest.mark.parametrize("kind", KINDS)
def test_random_damage(healthy: dict[str, bytes], tmp_path: Path, kind: str) -> None:
    for seed in range(6):
        damage_and_load(healthy, tmp_path / "damaged", kind, seed)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_much_random_damage(healthy: dict[str, bytes], tmp_path: Path, kind: str) -> None:
    for seed in range(1000, 1150):
        damage_and_load(healthy, tmp_path / "damaged", kind, seed)
