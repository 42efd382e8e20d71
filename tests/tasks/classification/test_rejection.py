"""Rejection: scores against their formulas, threshold, storage, outliers and report, on a tiny trained classifier."""

import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from raysweep.config import DataConfig, TrainingConfig
from raysweep.data.batches import Worker, build_batch, iterate_ingredients, normalise_images
from raysweep.data.idx import DIGITS
from raysweep.data.images import ImageSet, PreparedData
from raysweep.errors import CorruptFileError
from raysweep.evaluate.stored_model import StoredModel
from raysweep.tasks.classification.config import ClassificationConfig
from raysweep.tasks.classification.networks import Classifier
from raysweep.tasks.classification.rejection import outliers
from raysweep.tasks.classification.rejection.detector import (
    Detector,
    choose_score,
    draw_by_class,
    ensure_detector,
    find_doubts,
    find_threshold,
    fit_detector,
    measure_auroc,
)
from raysweep.tasks.classification.rejection.features import (
    Features,
    concatenate,
    extract_features,
    extract_from_set,
)
from raysweep.tasks.classification.rejection.figure import save_score_histograms
from raysweep.tasks.classification.rejection.fitting import FitData
from raysweep.tasks.classification.rejection.mahalanobis import Gaussian, JointMahalanobis
from raysweep.tasks.classification.rejection.report import evaluate_rejection, find_digits, measure_separation
from raysweep.tasks.classification.rejection.scores import CANDIDATES, SCORES
from raysweep.tasks.classification.rejection.texture import measure_texture
from raysweep.tasks.classification.rejection.texture_scores import NearestTexture, Texture
from raysweep.tasks.classification.task import ClassificationTask
from raysweep.train.task import build_task
from raysweep.trial_config import TrialConfig

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE, CLASSES, NUM_TRAIN, NUM_VAL, NUM_TEST = 16, ("top", "middle", "bottom"), 240, 120, 90


@dataclass
class Study:
    model: StoredModel
    data: PreparedData
    test: ImageSet
    detector: Detector


def draw_bars(num_images: int, seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """A smooth bright bar on dark ground: its height tells the class, its width and brightness vary."""
    draw = np.random.default_rng(seed)
    labels = np.arange(num_images) % len(CLASSES)
    images = draw.integers(0, 12, (num_images, SIZE, SIZE, 1))
    for image, label in zip(images, labels, strict=True):
        left, brightness = draw.integers(0, 4), draw.integers(120, 220)
        image[1 + 5 * label : 5 + 5 * label, left : SIZE - left] += brightness
    return images, labels


def train_classifier(data: PreparedData, *, model: str, num_epochs: int) -> StoredModel:
    config = TrialConfig(
        task=ClassificationConfig(model=model, learning_rate=2e-3),
        data=DataConfig(image_size=SIZE, channels=1, normalization="unit"),
        training=TrainingConfig(epochs=max(1, num_epochs), batch_size=24, precision="fp32"),
    )
    torch.manual_seed(0)
    task = build_task(config, data.info)
    state = task.init_state(Worker(), lambda module: module)
    for epoch in range(num_epochs):
        for ingredients in iterate_ingredients(
            data.train, config.data, batch_size=24, seed=0, epoch=epoch, worker=Worker()
        ):
            task.train_step(state, build_batch(ingredients, data.train, config.data))
            state.end_step()
    modules = {name: module.eval() for name, module in state.modules.items()}
    return StoredModel(
        number=7, config=config, info=data.info, task=task, modules=modules, facts={"epoch": num_epochs, "value": 1.0}
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, save_prepared: Callable[..., PreparedData]) -> Study:
    folder = tmp_path_factory.mktemp("data")
    sizes = {"train": NUM_TRAIN, "val": NUM_VAL, "test": NUM_TEST}
    splits = {split: draw_bars(num_images, seed) for seed, (split, num_images) in enumerate(sizes.items())}
    data = save_prepared(folder, splits, CLASSES)
    model = train_classifier(data, model="fashion_cnn", num_epochs=6)
    return Study(model, data, ImageSet(folder / "test"), fit_detector(model, data))


def load_images(study: Study, images: ImageSet) -> torch.Tensor:
    pixels = images.gather(np.arange(len(images)))
    return normalise_images(pixels, study.model.config.data, torch.device("cpu"))


def predict(study: Study, images: torch.Tensor) -> npt.NDArray[np.int64]:
    assert isinstance(study.model.task, ClassificationTask)
    return np.asarray(study.model.task.infer(study.model.modules["model"], images).argmax(dim=1).numpy())


def make_features(logits: torch.Tensor, penultimate: torch.Tensor | None = None) -> Features:
    num = len(logits)
    return Features(logits, torch.zeros(num, 2) if penultimate is None else penultimate, (), torch.zeros(num, 2))


def make_fit_data(penultimate: torch.Tensor, labels: torch.Tensor) -> FitData:
    last = torch.nn.Linear(penultimate.shape[1], int(labels.max()) + 1)
    with torch.no_grad():
        features = make_features(last(penultimate), penultimate)
    return FitData(train=features, labels=labels, val=features, last=last)


def test_the_classifier_has_learned(study: Study) -> None:
    assert (predict(study, load_images(study, study.test)) == study.test.labels).mean() > 0.95


def test_threshold_keeps_95_percent_of_validation(study: Study) -> None:
    accepted = study.detector.accepts(study.detector.score(study.model, load_images(study, study.data.val)))
    assert 0.95 <= accepted.double().mean() < 1
    assert study.detector.facts["kept_val"] == accepted.double().mean()


@pytest.mark.parametrize(
    ("num_scores", "num_rejected"), [(1, 0), (58, 0), (59, 0), (92, 0), (93, 1), (200, 4), (12_000, 560)]
)
def test_threshold_is_the_highest_that_keeps_95_percent(num_scores: int, num_rejected: int) -> None:
    scores = torch.arange(num_scores).double()[torch.randperm(num_scores)]
    assert int((scores < find_threshold(scores)).sum()) == num_rejected


def test_loaded_detector_scores_identically(study: Study, tmp_path: Path) -> None:
    images = load_images(study, study.test)
    study.detector.save(tmp_path / "detector.safetensors")
    loaded = Detector.load(tmp_path / "detector.safetensors", study.model)
    assert torch.equal(loaded.score(study.model, images), study.detector.score(study.model, images))
    assert (loaded.name, loaded.threshold, loaded.facts) == (
        study.detector.name,
        study.detector.threshold,
        study.detector.facts,
    )


@pytest.mark.parametrize("name", SCORES)
def test_every_score_is_rebuilt_from_its_state(study: Study, name: str, tmp_path: Path) -> None:
    network = study.model.modules["model"]
    features = extract_from_set(study.model, study.data.train, np.arange(NUM_TRAIN))
    assert isinstance(network.head, torch.nn.Sequential)
    last = network.head[-1]
    assert isinstance(last, torch.nn.Linear)
    labels = torch.from_numpy(study.data.train.labels)
    fitted = SCORES[name].fit(FitData(train=features, labels=labels, val=features, last=last))
    replace(study.detector, name=name, fitted=fitted).save(tmp_path / "detector.safetensors")
    loaded = Detector.load(tmp_path / "detector.safetensors", study.model)
    scores = loaded.fitted.score(features)
    assert torch.equal(scores, fitted.score(features))
    assert scores.shape == (NUM_TRAIN,)
    assert scores.dtype == torch.float64
    assert bool(scores.isfinite().all())


def test_a_detector_says_why_it_cannot_be_trusted(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study.detector.doubts == ()
    good = study.detector.facts["synthetic"][study.detector.name]
    assert find_doubts(good, 100) == []
    [few] = find_doubts(good, 99)
    assert "99 validation images" in few
    [weak] = find_doubts({**good, "mean": 0.79}, 100)
    assert "0.79 on average" in weak
    [missed] = find_doubts({**good, "grain": 0.55}, 100)
    assert "grain 0.55" in missed
    doubting = replace(study.detector, facts={**study.detector.facts, "doubts": [missed]})
    doubting.save(tmp_path / "detector.safetensors")
    Detector.load(tmp_path / "detector.safetensors", study.model).tell_doubts()
    assert missed in capsys.readouterr().err


def test_a_detector_from_before_doubts_has_none(study: Study, tmp_path: Path) -> None:
    facts = {name: value for name, value in study.detector.facts.items() if name != "doubts"}
    replace(study.detector, facts=facts).save(tmp_path / "detector.safetensors")
    assert Detector.load(tmp_path / "detector.safetensors", study.model).doubts == ()


def test_detector_of_other_weights_is_refused(study: Study, tmp_path: Path) -> None:
    study.detector.save(tmp_path / "detector.safetensors")
    other = train_classifier(study.data, model="fashion_cnn", num_epochs=0)
    with pytest.raises(CorruptFileError, match="other weights"):
        Detector.load(tmp_path / "detector.safetensors", other)


def test_stored_detector_is_taken_and_one_of_other_weights_replaced(study: Study, tmp_path: Path) -> None:
    path = tmp_path / "detector.safetensors"
    replace(study.detector, threshold=-123.0).save(path)
    assert ensure_detector(path, study.model, study.data).threshold == -123.0
    other = train_classifier(study.data, model="fashion_cnn", num_epochs=0)
    fitted = ensure_detector(path, other, study.data)
    assert fitted.threshold != -123.0
    assert Detector.load(path, other).threshold == fitted.threshold


def test_same_seed_fits_the_same_detector(study: Study) -> None:
    again = fit_detector(study.model, study.data)
    assert again.threshold == study.detector.threshold
    assert again.facts == study.detector.facts


def test_score_of_an_image_does_not_depend_on_its_batch(study: Study) -> None:
    images = load_images(study, study.test)
    together = study.detector.score(study.model, images)
    alone = torch.cat([study.detector.score(study.model, image[None]) for image in images[:5]])
    torch.testing.assert_close(alone, together[:5], rtol=1e-4, atol=1e-4)


def test_noise_is_scored_lower_than_real_images(study: Study) -> None:
    draw = np.random.default_rng(0)
    pixels = study.test.gather(np.arange(NUM_TEST))
    real = study.detector.score(study.model, load_images(study, study.test))
    for make in outliers.NOISE.values():
        noise = normalise_images(make(pixels, draw), study.model.config.data, torch.device("cpu"))
        scores = study.detector.score(study.model, noise)
        assert measure_auroc(real, scores) > 0.99
        assert not study.detector.accepts(scores).any()


def test_candidates_are_compared_on_every_kind(study: Study) -> None:
    table = study.detector.facts["synthetic"]
    assert set(table) == set(CANDIDATES)
    assert all(set(areas) == {*outliers.SYNTHETIC, "mean"} for areas in table.values())
    assert study.detector.name == choose_score(table)


@pytest.mark.parametrize(
    ("first", "second", "chosen"),
    [
        ({"grain": 0.7, "mean": 0.99}, {"grain": 0.8, "mean": 0.9}, "second"),  # the worst, not the mean
        ({"grain": 0.701, "mean": 0.99}, {"grain": 0.704, "mean": 0.9}, "first"),  # as good: the mean
        ({"grain": 0.9, "faded": 0.2, "mean": 0.8}, {"grain": 0.8, "faded": 0.5, "mean": 0.8}, "first"),  # chance
    ],
)
def test_the_score_with_the_best_worst_kind_is_chosen(
    first: dict[str, float], second: dict[str, float], chosen: str
) -> None:
    others = dict.fromkeys(outliers.SYNTHETIC, 1.0)
    assert choose_score({"first": {**others, **first}, "second": {**others, **second}}) == chosen


@pytest.mark.parametrize("head", ["linear", "report"])
@pytest.mark.parametrize("model", ["test_resnet", "test_vit"])
def test_any_timm_model_with_either_head(study: Study, model: str, head: str) -> None:
    config = replace(study.model.config, task=ClassificationConfig(model=model, head=head))  # type: ignore[arg-type]
    if model == "test_vit":
        config = replace(config, data=replace(config.data, image_size=160))
    task = build_task(config, study.data.info)
    stored = replace(study.model, config=config, task=task, modules=task.load_modules())
    images = torch.rand(4, 1, config.data.image_size, config.data.image_size)
    features = extract_features(stored, images)
    assert torch.equal(features.logits, task.infer(stored.modules["model"], images))
    layers = stored.modules["model"].head
    assert isinstance(layers, torch.nn.Sequential)
    last = layers[-1]
    with torch.inference_mode():
        torch.testing.assert_close(last(features.penultimate), features.logits)
    assert features.layers
    assert all(layer.shape[0] == 4 and bool(layer.isfinite().all()) for layer in features.layers)


def test_features_leave_no_hooks_behind(study: Study) -> None:
    extract_features(study.model, torch.rand(2, 1, SIZE, SIZE))
    for module in study.model.modules["model"].modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_threads_with_one_network_do_not_mix_their_features(study: Study) -> None:
    batches = [load_images(study, study.data.val)[start : start + 2 + start % 5] for start in range(0, 100, 3)]
    expected = [extract_features(study.model, images) for images in batches]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda images: extract_features(study.model, images), batches * 4))
    for own, alone in zip(found, expected * 4, strict=True):
        assert len(own.layers) == len(alone.layers)
        for value, other in zip(
            (own.logits, own.penultimate, *own.layers), (alone.logits, alone.penultimate, *alone.layers), strict=True
        ):
            torch.testing.assert_close(value, other)
    modules = list(study.model.modules["model"].modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)


def test_layers_are_mean_and_deviation_of_each_channel(study: Study) -> None:
    images = torch.rand(3, 1, SIZE, SIZE)
    backbone = study.model.modules["model"].backbone
    assert isinstance(backbone, torch.nn.Sequential)
    maps = backbone[0](images).detach()
    first = extract_features(study.model, images).layers[0]
    expected = torch.cat([maps.mean(dim=(2, 3)), maps.std(dim=(2, 3), correction=0)], dim=1)
    torch.testing.assert_close(first, expected, rtol=1e-4, atol=1e-5)


def test_maximum_softmax_formula() -> None:
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    fitted = SCORES["maximum softmax"].fit(make_fit_data(torch.randn(4, 2), torch.tensor([0, 1, 2, 0])))
    expected = [math.exp(2) / (math.exp(2) + 2), 1 / 3]
    assert fitted.score(make_features(logits)).tolist() == pytest.approx(expected)


def test_energy_formula() -> None:
    logits = torch.tensor([[2.0, 0.0, 0.0], [1000.0, 0.0, 0.0]])
    fitted = SCORES["energy"].fit(make_fit_data(torch.randn(4, 2), torch.tensor([0, 1, 2, 0])))
    assert fitted.score(make_features(logits)).tolist() == pytest.approx([math.log(math.exp(2) + 2), 1000.0])


def test_gaussian_is_the_mahalanobis_distance_of_the_nearest_class() -> None:
    draw = np.random.default_rng(0)
    labels = np.arange(40_000) % 2
    covariance = np.array([[4.0, 1.5], [1.5, 1.0]])
    means = np.array([[0.0, 0.0], [10.0, -3.0]])
    values = means[labels] + draw.multivariate_normal(np.zeros(2), covariance, len(labels))
    gaussian = Gaussian.fit_values(torch.from_numpy(values), torch.from_numpy(labels))
    points = np.array([[1.0, 2.0], [12.0, -3.0], [5.0, 5.0]])
    offsets = points[:, None] - means
    expected = np.einsum("nci,ij,ncj->nc", offsets, np.linalg.inv(covariance), offsets).min(axis=1)
    assert gaussian.log_distance(torch.from_numpy(points)).exp().numpy() == pytest.approx(expected, rel=0.05)


def test_wide_features_with_few_images_have_a_distance() -> None:
    values = torch.randn(30, 700, generator=torch.Generator().manual_seed(0))
    values[:, 5] = 3.0  # a dead unit
    gaussian = Gaussian.fit_values(values, torch.arange(30) % 3)
    assert bool(gaussian.log_distance(values).isfinite().all())
    assert gaussian.log_distance(values + 100).mean() > gaussian.log_distance(values).mean()


def test_nearest_neighbours_is_the_distance_on_the_sphere() -> None:
    angles = torch.linspace(0, 0.5, 60)
    circle = torch.stack([angles.cos(), angles.sin()], dim=1)
    fitted = SCORES["nearest neighbours"].fit(make_fit_data(circle * 7, torch.arange(60) % 2))
    score = fitted.score(make_features(torch.zeros(1, 2), torch.tensor([[3.0, 0.0]])))
    assert score.item() == pytest.approx(-(circle[49] - torch.tensor([1.0, 0.0])).norm().item(), rel=1e-5)


def test_virtual_logit_lowers_what_leaves_the_principal_space() -> None:
    draw = torch.Generator().manual_seed(0)
    values = torch.cat([torch.randn(200, 2, generator=draw) * 5, torch.randn(200, 2, generator=draw) * 0.1], dim=1)
    data = make_fit_data(values, torch.arange(200) % 2)
    with torch.no_grad():
        data.last.weight[:, 2:] = 0  # what leaves the space does not change the logits
    fitted = SCORES["ViM"].fit(data)
    inside, outside = torch.tensor([[1.0, 1, 0, 0]]), torch.tensor([[1.0, 1, 3, 3]])
    with torch.no_grad():
        scores = [fitted.score(make_features(data.last(x), x)).item() for x in (inside, outside)]
    assert scores[1] < scores[0] - 1


@pytest.mark.parametrize(
    ("channels", "side", "num_values"), [(1, 28, 34), (3, 28, 102), (1, 8, 26), (2, 64, 68), (1, 2, 18)]
)
def test_texture_has_values_by_channels_and_side(channels: int, side: int, num_values: int) -> None:
    images = torch.rand(3, channels, side, side, generator=torch.Generator().manual_seed(0))
    texture = measure_texture(images)
    assert texture.shape == (3, num_values)
    torch.testing.assert_close(measure_texture(images[1:2]), texture[1:2])
    assert bool(measure_texture(torch.zeros_like(images)).isfinite().all())


def test_texture_is_the_log_of_differences_at_each_scale() -> None:
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)  # 1 to the next on the right, 2 at half the size; nothing down
    mean, deviation, *steps = measure_texture(ramp)[0].exp().tolist()
    assert math.log(mean) == pytest.approx(3.5)
    assert deviation == pytest.approx(math.sqrt(5.25) + 0.01)
    expected = [1.01, 1.0001, 0.01, 0.0001, 2.01, 4.0001, 0.01, 0.0001]
    assert steps[:8] == pytest.approx(expected, rel=1e-4)
    layout = np.log(steps[8:]).reshape(4, 4)
    assert layout[0] == pytest.approx(layout[3])
    assert (np.diff(layout[0]) > 1).all()


def test_with_test_time_flip_features_are_those_of_the_image_itself(study: Study) -> None:
    own_task: Any = study.model.config.task
    config = replace(study.model.config, task=replace(own_task, test_time_flip=True))
    flipping = replace(study.model, config=config, task=build_task(config, study.model.info))
    images = load_images(study, study.data.val)[:8]
    own, both = (extract_features(model, images) for model in (study.model, flipping))
    assert not torch.equal(own.logits, both.logits)
    assert len(own.layers) == len(both.layers) > 0
    for before, after in zip((own.penultimate, *own.layers), (both.penultimate, *both.layers), strict=True):
        torch.testing.assert_close(after, before)


def test_weakest_is_the_smaller_part_in_units_of_validation(study: Study) -> None:
    features = extract_from_set(study.model, study.data.val, np.arange(NUM_VAL))
    train = extract_from_set(study.model, study.data.train, np.arange(NUM_TRAIN))
    network = study.model.modules["model"]
    assert isinstance(network, Classifier)
    last = network.last_linear
    data = FitData(train=train, labels=torch.from_numpy(study.data.train.labels), val=features, last=last)
    weakest = data.fit(SCORES["weakest of joint Mahalanobis and textures"])
    parts = [data.fit(kind).score(features) for kind in (JointMahalanobis, Texture, NearestTexture)]
    units = [(part - part.quantile(0.5)) / (part.quantile(0.5) - part.quantile(0.05)) for part in parts]
    score = weakest.score(features)
    torch.testing.assert_close(score, torch.stack(units).amin(dim=0))
    assert all(bool((score == unit).any()) for unit in units)


def make_textures(draw: torch.Generator, num_images: int, *, noise: bool) -> Features:
    """Features with the textures of images whose pixels go together along rows and columns, or not."""
    images = torch.randn(num_images, 3, 16, 16, generator=draw)
    if not noise:
        images = images.cumsum(2).cumsum(3) / 8
    nothing = torch.zeros(num_images, 2)
    return Features(logits=nothing, penultimate=nothing, layers=(), texture=measure_texture(images))


def fit_textures(train: Features, val: Features) -> FitData:
    return FitData(train=train, labels=torch.zeros(len(train), dtype=torch.int64), val=val, last=torch.nn.Linear(2, 1))


@pytest.mark.parametrize("num_images", [300, 40])
def test_the_nearest_texture_is_that_of_brute_force(num_images: int) -> None:
    """40 images span fewer directions than a texture has: the last singular vector is anything then, and left out."""
    draw = torch.Generator().manual_seed(0)
    train, test = make_textures(draw, num_images, noise=False), make_textures(draw, 50, noise=False)
    fitted = fit_textures(train, test).fit(NearestTexture)
    rank = min(num_images - 1, train.texture.shape[1])
    assert fitted.directions.shape[1] == rank
    values, vectors = np.linalg.eigh(np.cov(train.texture.double().numpy().T, bias=True))
    scale = np.maximum(np.sqrt(np.maximum(values[-rank:], 0)), 1e-3) ** 0.75
    ours, bank = (part.texture.double().numpy() @ vectors[:, -rank:] / scale for part in (test, train))
    distances = np.linalg.norm(ours[:, None] - bank[None], axis=2).min(axis=1)
    np.testing.assert_allclose(-fitted.score(test).numpy(), distances, rtol=1e-3)
    assert -fitted.score(train).amin() < 1e-2 < distances.min()


def test_some_noise_among_the_training_images_does_not_open_the_door_to_all_noise() -> None:
    draw = torch.Generator().manual_seed(0)
    real, few = make_textures(draw, 400, noise=False), make_textures(draw, 4, noise=True)
    val, noise = make_textures(draw, 200, noise=False), make_textures(draw, 200, noise=True)
    data = fit_textures(concatenate([real, few]), val)
    alone, both = (
        measure_auroc(data.fit(SCORES[name]).score(val), data.fit(SCORES[name]).score(noise))
        for name in ("nearest texture", "weakest of textures")
    )
    assert alone < 0.9 < 0.95 < both, "what the Gaussian is beside it for"


def test_auroc_and_fpr_of_a_hand_made_case() -> None:
    real, other = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([0.0, 1.0, 2.5])
    # Of 12 pairs the real one is higher in 9 and equal in 1; all 4 are kept at 1.0, as are 2 of 3 outliers.
    measured = measure_separation(real, other)
    assert measured["auroc"] == pytest.approx((4 + 3.5 + 2) / 12)
    assert measured["fpr95"] == pytest.approx(2 / 3)
    assert measure_separation(real, real - 10) == {"auroc": 1.0, "fpr95": 0.0}
    assert measure_separation(real, real + 10) == {"auroc": 0.0, "fpr95": 1.0}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", outliers.SYNTHETIC)
def test_synthetic_outliers_keep_shape_and_source(kind: str, channels: int) -> None:
    draw = np.random.default_rng(0)
    images, others = (draw.integers(0, 256, (3, 19, 19, channels), dtype=np.uint8) for _ in range(2))
    before = images.copy(), others.copy()
    made = outliers.SYNTHETIC[kind](images, others, np.random.default_rng(1))
    assert made.shape == images.shape
    assert made.dtype == np.uint8
    assert (made != images).any(axis=(1, 2, 3)).all()
    assert (images == before[0]).all()
    assert (others == before[1]).all()
    assert (made == outliers.SYNTHETIC[kind](images, others, np.random.default_rng(1))).all()


def test_permuted_patches_are_the_same_patches() -> None:
    image = np.arange(16, dtype=np.uint8).repeat(4).reshape(16, 2, 2)
    whole = image.reshape(4, 4, 2, 2).transpose(0, 2, 1, 3).reshape(1, 8, 8, 1)
    made = outliers.permute_patches(whole, whole, np.random.default_rng(0))
    patches = made.reshape(4, 2, 4, 2).transpose(0, 2, 1, 3).reshape(16, 4)
    assert sorted(map(tuple, patches.tolist())) == sorted(map(tuple, image.reshape(16, 4).tolist()))


def test_shuffled_pixels_are_the_same_pixels() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 6, 6, 3), dtype=np.uint8)
    shuffled = outliers.shuffle_pixels(images, np.random.default_rng(1))
    assert (shuffled != images).any()
    for before, after in zip(images, shuffled, strict=True):
        assert sorted(map(tuple, before.reshape(-1, 3).tolist())) == sorted(map(tuple, after.reshape(-1, 3).tolist()))


def test_blank_images_and_digits_for_a_colour_model() -> None:
    blank = outliers.draw_blank(np.array([0, 255], dtype=np.uint8), (5, 5, 3))
    assert blank[0].max() == 0
    assert blank[1].min() == 255
    digits = np.zeros((2, 28, 28), dtype=np.uint8)
    digits[:, :14] = 200
    resized = outliers.resize_grey(digits, 8, 3)
    assert resized.shape == (2, 8, 8, 3)
    assert resized.dtype == np.uint8
    assert (resized[..., :1] == resized).all()
    assert (resized[:, :3] == 200).all()


@pytest.mark.parametrize(("real", "other"), [([], [1.0]), ([1.0], []), ([1.0], [math.nan]), ([math.inf], [1.0])])
def test_figure_refuses_scores_that_are_not_finite(real: list[float], other: list[float], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be finite"):
        save_score_histograms(
            tmp_path / "a.png", np.array(real), {"other": np.array(other)}, 0.0, score="energy", title=""
        )


def test_figure_of_equal_scores(tmp_path: Path) -> None:
    same = np.zeros(5)
    save_score_histograms(tmp_path / "a.png", same, {"other": same}, 0.0, score="energy", title="a title")
    assert (tmp_path / "a.png").stat().st_size > 1000


def write_idx(path: Path, images: npt.NDArray[np.uint8]) -> None:
    header = b"\x00\x00\x08\x03" + b"".join(size.to_bytes(4, "big") for size in images.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + images.tobytes())


def test_report_has_every_set_and_leaves_labels_as_they_are(study: Study, tmp_path: Path) -> None:
    digits = np.random.default_rng(0).integers(0, 256, (40, 28, 28), dtype=np.uint8)
    write_idx(tmp_path / "mnist" / "t10k-images-idx3-ubyte", digits)
    predicted = predict(study, load_images(study, study.test))
    figures = evaluate_rejection(
        study.model,
        study.detector,
        study.test,
        tmp_path / "test",
        "a note",
        scored=study.detector.score_set(study.model, study.test),
        predicted=predicted,
        digits=find_digits(tmp_path),
    )
    sets = figures["sets"]
    assert list(sets) == ["MNIST digits", "uniform noise", "Gaussian noise", "shuffled pixels", "blank"]
    assert sets["MNIST digits"]["num_images"] == 40
    assert sets["blank"]["num_images"] == 256
    assert sets["uniform noise"]["auroc"] > 0.99
    assert figures["accepted"]["labels_changed"] == 0
    assert 0.8 < figures["accepted"]["share"] <= 1
    stored = json.loads((tmp_path / "test" / "rejection_report.json").read_text())
    assert stored["sets"] == sets
    text = (tmp_path / "test" / figures["report"]).read_text()
    assert "a note" in text
    assert study.detector.name in text
    assert (tmp_path / "test" / "rejection.png").stat().st_size > 5000


def test_one_pass_gives_the_logits_and_scores_of_each_image(study: Study) -> None:
    images = load_images(study, study.test)
    scored = study.detector.score_set(study.model, study.test)
    torch.testing.assert_close(scored.logits, extract_features(study.model, images).logits)
    torch.testing.assert_close(scored.scores, study.detector.score(study.model, images))


@pytest.mark.parametrize(
    ("sizes", "most", "drawn"),
    [((50, 50, 50), 30, [10, 10, 10]), ((100, 3, 50), 30, [14, 3, 13]), ((4, 3, 2), 30, [4, 3, 2])],
)
def test_training_images_are_drawn_class_by_class(sizes: tuple[int, ...], most: int, drawn: list[int]) -> None:
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(3), sizes))
    rows = draw_by_class(labels, most, np.random.default_rng(0))
    assert np.bincount(labels[rows]).tolist() == drawn
    assert (np.diff(rows) > 0).all()
    assert (rows == draw_by_class(labels, most, np.random.default_rng(0))).all()
    assert len(rows) == sum(sizes) or (rows != draw_by_class(labels, most, np.random.default_rng(1))).any()


def test_changed_labels_are_counted(study: Study, tmp_path: Path) -> None:
    predicted = (predict(study, load_images(study, study.test)) + 1) % len(CLASSES)
    figures = evaluate_rejection(
        study.model,
        study.detector,
        study.test,
        tmp_path,
        "",
        scored=study.detector.score_set(study.model, study.test),
        predicted=predicted,
        digits=None,
    )
    assert figures["accepted"]["labels_changed"] == round(figures["accepted"]["share"] * NUM_TEST)


def test_report_says_why_there_are_no_digits(study: Study, tmp_path: Path) -> None:
    predicted = study.test.labels
    assert find_digits(tmp_path) is None
    figures = evaluate_rejection(
        study.model,
        study.detector,
        study.test,
        tmp_path,
        "",
        scored=study.detector.score_set(study.model, study.test),
        predicted=predicted,
        digits=None,
    )
    assert "MNIST digits" not in figures["sets"]
    assert "not measured" in (tmp_path / figures["report"]).read_text()
    of_digits = replace(study.model, info=replace(study.model.info, classes=DIGITS))
    figures = evaluate_rejection(
        of_digits,
        study.detector,
        study.test,
        tmp_path,
        "",
        scored=study.detector.score_set(study.model, study.test),
        predicted=predicted,
        digits=None,
    )
    assert figures["missing"] == {"MNIST digits": "digits are the classes of this study"}
