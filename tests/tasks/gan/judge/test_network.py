"""The judge's network takes any square images, and its file brings back the same answers under the same digest."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from raysweep.errors import CorruptFileError
from raysweep.tasks.gan.judge.network import MAX_IMAGE_SIZE, NUM_FEATURES, Judge, judge_batches, load_judge, save_judge


@pytest.mark.parametrize(("size", "channels", "num_classes"), [(16, 1, 2), (28, 1, 10), (33, 3, 4), (96, 3, 7)])
def test_features_and_logits_of_images_of_any_side(size: int, channels: int, num_classes: int) -> None:
    judge = Judge(num_classes=num_classes, channels=channels, image_size=size).eval()
    features, logits = judge(torch.rand(5, channels, size, size))
    assert features.shape == (5, NUM_FEATURES)
    assert logits.shape == (5, num_classes)
    assert features.min() >= 0  # after the activation
    assert judge.image_size == min(size, MAX_IMAGE_SIZE)


def test_images_of_another_side_are_judged_as_if_resized() -> None:
    torch.manual_seed(0)
    judge, images = Judge(num_classes=3, image_size=20).eval(), torch.rand(4, 1, 50, 50)
    resized = torch.nn.functional.interpolate(images, [20, 20], mode="bilinear", antialias=True)
    assert torch.equal(judge(images)[1], judge(resized)[1])


def test_batches_are_judged_in_order_and_without_dropout() -> None:
    judge = Judge(num_classes=3)  # in training mode until asked
    images = torch.rand(7, 1, 28, 28)
    features, logits = judge_batches(judge, images.split(3))
    expected_features, expected_logits = judge(images)
    torch.testing.assert_close(features, expected_features)
    torch.testing.assert_close(logits, expected_logits)


def test_a_stored_judge_answers_as_before(tmp_path: Path) -> None:
    judge = Judge(num_classes=4, channels=3, image_size=24).eval()
    save_judge(tmp_path / "judge.safetensors", judge, {"source": "here", "accuracy": 0.5})
    loaded, facts = load_judge(tmp_path / "judge.safetensors")
    images = torch.rand(2, 3, 24, 24)
    assert torch.equal(loaded(images)[1], judge(images)[1])
    assert not loaded.training
    assert (facts["source"], facts["accuracy"]) == ("here", 0.5)


def test_the_digest_is_of_the_weights_alone(tmp_path: Path) -> None:
    judge, digests = Judge(num_classes=4), []
    for name in ("first", "second"):
        save_judge(tmp_path / name, judge, {"source": name, "accuracy": 0.5})
        digests.append(load_judge(tmp_path / name)[1]["digest"])
    with torch.no_grad():
        judge.classes.bias[0] += 1e-3
    save_judge(tmp_path / "third", judge, {"source": "first", "accuracy": 0.5})
    assert digests[0] == digests[1]
    assert load_judge(tmp_path / "third")[1]["digest"] != digests[0]


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "judge.safetensors"
    save_judge(path, Judge(num_classes=2), {"source": "here", "accuracy": 0.5})
    tensors = load_file(path)
    tensors["judge/classes.bias"] += 1
    metadata = {"facts": "{}", "digest": "0" * 64}
    save_file(tensors, path, metadata)
    with pytest.raises(CorruptFileError, match="digest"):
        load_judge(path)
