import errno
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from finetune_trainer.data.examples import Block, Example, Examples, write_examples


def example(tokens: list[int], supervised: list[bool]) -> Example:
    return Example(np.array(tokens, dtype=np.int32), np.array(supervised))


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    first = example([5, 6, 7], [False, True, True])
    second = example([200_000], [False])
    write_examples(tmp_path, iter([Block.of([first]), Block.of([]), Block.of([second])]))
    read = Examples(tmp_path)
    assert len(read) == 2
    assert read.lengths.tolist() == [3, 1]
    assert read.supervised_tokens == 2
    for index, written in enumerate([first, second]):
        assert read[index].tokens.tolist() == written.tokens.tolist()
        assert read[index].supervised.tolist() == written.supervised.tolist()


def test_an_empty_store_is_a_store(tmp_path: Path) -> None:
    write_examples(tmp_path, [])
    assert len(Examples(tmp_path)) == 0
    assert Examples(tmp_path).supervised_tokens == 0


def test_only_the_three_arrays_are_left_behind(tmp_path: Path) -> None:
    write_examples(tmp_path, [Block.of([example([1], [True])])])
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["offsets.npy", "supervised.npy", "tokens.npy"]


@pytest.mark.parametrize("broken", [example([], []), example([1, 2], [True])])
def test_an_empty_or_ragged_example_is_refused(broken: Example) -> None:
    with pytest.raises(ValueError, match="one supervised flag for each"):
        Block.of([broken])


def test_a_full_volume_is_an_error_with_its_number(tmp_path: Path) -> None:
    (tmp_path / "tokens.npy").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        write_examples(tmp_path, [Block.of([example([1] * 10_000, [True] * 10_000)])])
    assert caught.value.errno == errno.ENOSPC


def test_a_store_of_many_examples_is_numpys_own_format(tmp_path: Path) -> None:
    blocks = (
        Block.of([example([2 * n], [True]), example([2 * n + 1], [True])]) for n in range(617)
    )
    write_examples(tmp_path, blocks)
    assert np.load(tmp_path / "tokens.npy").tolist() == list(range(1234))
    assert np.load(tmp_path / "offsets.npy").tolist() == list(range(1235))


def test_labels_are_kept_where_a_task_has_them(tmp_path: Path) -> None:
    labels = [np.array(each, dtype=np.int32) for each in ([7], [], [-100, 2])]
    examples = [replace(example([1, 2], [False, True]), labels=each) for each in labels]
    write_examples(tmp_path, [Block.of(examples[:1]), Block.of(examples[1:])], labelled=True)
    read = Examples(tmp_path)
    assert [read[index].labels.tolist() for index in range(3)] == [[7], [], [-100, 2]]


def test_the_first_label_of_each_example_is_read_at_once(tmp_path: Path) -> None:
    examples = [
        replace(example([1], [True]), labels=np.array([label, 9], dtype=np.int32))
        for label in (3, 1, 2)
    ]
    write_examples(tmp_path, [Block.of(examples)], labelled=True)
    assert Examples(tmp_path).first_labels.tolist() == [3, 1, 2]
