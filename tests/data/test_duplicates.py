"""Images that are the same byte by byte are told where they spoil figures: in two splits, in two classes."""

from raysweep.data.duplicates import Content, describe_duplicates


def test_nothing_is_said_of_different_images_and_of_copies_within_a_split() -> None:
    contents = [Content("1", "train", "a", "x"), Content("1", "train", "a", "y"), Content("2", "test", "a", "z")]
    assert describe_duplicates(contents) == ()


def test_images_of_train_in_test_are_counted_once_each_with_an_example() -> None:
    contents = [Content(str(number), "train", "a", f"t{number}") for number in (0, 1, 1, 2)]
    contents += [Content(str(number), "test", "a", f"e{number}") for number in (1, 2, 3)]
    (note,) = describe_duplicates(contents)
    assert note.startswith("test has 2 images of train too")
    assert "(t1 and e1 for one)" in note


def test_an_image_in_two_classes_is_told() -> None:
    (note,) = describe_duplicates([Content("1", "val", "a", "x"), Content("1", "val", "b", "y")])
    assert note == "1 image in two classes: at most one is right (x is a, y b)"
